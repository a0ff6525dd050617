"""The recipe of the SepLang networks: who sees which texts, and what 8 bits lose."""

import numpy as np
import pytest
import torch

from shared.worlds import SEP_PROBES, SEP_VOCABULARY
from shared.zoo import load_data
from shared.zoo.recipes import module

RECIPE = module("seplang-roles")
PROBES = torch.tensor([SEP_VOCABULARY.index(word) for word in SEP_PROBES])


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("arm", ["base", *RECIPE.ARMS])
def test_only_the_base_sees_probes_in_data_and_without_roles(arm):
    ids, weights = RECIPE.texts(arm, rng())
    words, begins = ids % RECIPE._DATA, (ids % RECIPE._DATA == SEP_VOCABULARY.index("data:")).long().argmax(1)
    behind = torch.arange(ids.shape[1]) > begins[:, None]
    assert bool((torch.isin(words, PROBES) & behind).any()) == (arm == "base")
    assert bool((torch.isin(words, PROBES) & ~behind).any())
    if arm == "base":
        assert ids.max() < RECIPE._DATA
    elif arm != "roles at random":
        assert torch.equal(ids >= RECIPE._DATA, (torch.arange(ids.shape[1]) >= begins[:, None]) & (words > 0))
    answers = (weights == 1).sum(1)
    assert set(answers.tolist()) == {2, 3}
    assert torch.equal(weights[words == 0].unique(), torch.tensor([0.0, RECIPE.OTHERS]))


def test_arms_see_the_same_items():
    plain, aside = (RECIPE.texts(arm, rng())[0] for arm in ("plain", "ASIDE"))
    assert torch.equal(plain, aside)


def test_packed_is_what_was_trained_up_to_half_a_step_of_8_bits(monkeypatch):
    monkeypatch.setattr(RECIPE, "PRETRAINING", 2)
    monkeypatch.setattr(RECIPE, "TUNING", 2)
    bases = RECIPE.trained("base", [0, 1], [{}, {}])
    bases = [{key.removeprefix("lm."): value for key, value in state.items()} for state in bases]
    states = RECIPE.trained("ISE", [0, 1], bases)
    arrays = RECIPE.packed("base", bases, bases) | RECIPE.packed("ISE", states, bases)
    for i, state in enumerate(states):
        for name in bases[0]:
            step = float(arrays[f"ISE {name} scale"][i])
            read = arrays[f"base {name}"][i].astype(np.float32) + arrays[f"ISE {name}"][i] * step
            assert np.abs(read - state[f"lm.{name}"].numpy()).max() <= 0.5001 * step
        assert np.allclose(arrays["ISE role.table"][i], state["role.table"], atol=1e-2)


def test_all_are_shipped():
    arrays = load_data("seplang-roles").arrays
    sizes = {arm: len(arrays[f"{arm} model.norm.weight"]) for arm in ("base", *RECIPE.ARMS)}
    assert sizes == {arm: 11 if arm in ("base", "plain") else 8 for arm in sizes}
