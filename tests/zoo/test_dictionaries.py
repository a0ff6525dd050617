"""Where dictionaries lie, and that the shipped ones are what their card says."""

import pytest
import torch

from shared import sae, zoo
from shared.zoo import recipes

recipe = recipes.module("clip-shapes-saes")
NAME = recipe.NAME


@pytest.fixture(scope="module")
def held_out():
    model = zoo.load_model("clip-shapes").model
    hooks = [recipe.HOOK.format(layer) for layer in (0, 3, 5)]
    return recipe.hidden_states(model, hooks, 100, 2 * recipe.FIRST_BATCH)


@pytest.mark.parametrize("kind", recipe.KINDS)
@pytest.mark.parametrize("layer", [0, 3, 5])
def test_shipped_dictionaries_do_what_the_card_says(held_out, kind, layer):
    found = sae.load(zoo.dictionary_folder(f"{NAME}/{kind}-{layer}")).float()
    assert found.cfg.metadata["hook_name"] == recipe.HOOK.format(layer)
    assert torch.allclose(found.W_dec.norm(dim=1), torch.ones(found.cfg.d_sae), atol=2e-3)
    measured = recipe.measure_one(found, held_out[recipe.HOOK.format(layer)], f"{kind}, layer {layer}")
    for what, value in measured.items():  # on a fifth of the card's images
        assert value == pytest.approx(zoo.describe(NAME).measured(what), rel=0.03)


def test_a_dictionary_is_found_by_name_folder_or_hub_id(tmp_path, monkeypatch):
    made = sae.SparseDict(sae.SAEConfig("topk", 4, 8, k=2), generator=torch.Generator().manual_seed(0))
    folder = sae.save(made, tmp_path / "org" / "name")
    monkeypatch.setenv("REPRISE_HUB", str(tmp_path))
    assert zoo.dictionary_folder("org/name") == folder
    assert zoo.dictionary_folder(str(folder)) == folder
    assert zoo.dictionary_folder(f"{NAME}/l1-2").name == "l1-2"


def test_unknown_names_list_what_exists():
    with pytest.raises(ValueError, match=rf"name='{NAME}/topk-7' is unknown; did you mean '{NAME}/topk-[0-5]'"):
        zoo.dictionary_folder(f"{NAME}/topk-7")
    with pytest.raises(ValueError, match=rf"name='clip-saes' is unknown; .*{NAME}/l1-0"):
        zoo.dictionary_folder("clip-saes")
    with pytest.raises(ValueError, match=r"is for dictionaries: zoo\.dictionary_folder loads it"):
        zoo.load_model(NAME)


def test_training_is_deterministic_and_told_of_the_scale():
    x = torch.randn(3000, 8, generator=torch.Generator().manual_seed(0)) * 5 + 1
    one, two = (recipe.train_one(x, "topk", "layer", steps=200) for _ in range(2))
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert torch.allclose(one.W_dec.norm(dim=1), torch.ones(64), atol=1e-5)
    assert sae.metrics.explained_variance(x, one(x).x_hat) > 0.5
