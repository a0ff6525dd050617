"""Directions in files, and the TCAV protocol in one call."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shared import hooks
from shared.probes import (
    activations,
    fit_direction,
    layer_gradients,
    load_directions,
    save_directions,
    tcav,
    tcav_scores,
    tcav_study,
    tcav_test,
)


@pytest.fixture
def model():
    """Class 1 reads the first input, nothing reads the third."""
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False)).eval()
    net[0].weight.data = torch.eye(3)
    net[2].weight.data = torch.tensor([[0.0, 1.0, 0.0], [1.0, -1.0, 0.0]])
    return net


def _samples(n, shift, seed):
    x = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))
    return x + torch.tensor(shift)


def test_directions_come_back_as_they_were(tmp_path, model):
    x, y = _samples(20, [0.0, 0.0, 0.0], 0), torch.arange(20) % 2
    H = activations(model, "1", x + 2 * y[:, None])
    kept = [fit_direction(H, y, layer="1", name="größer", method=m) for m in ("pattern", "ridge")]
    kept.append(fit_direction(H, y))
    path = save_directions(tmp_path / "d.safetensors", kept)
    for one, other in zip(kept, load_directions(path), strict=True):
        for part in ("vector", "mean_pos", "mean_neg"):
            assert torch.equal(getattr(one, part), getattr(other, part))
        for part in ("scale", "intercept", "method", "pool", "layer", "n", "name", "channel_axis"):
            assert getattr(one, part) == getattr(other, part)
    (again,) = load_directions(save_directions(tmp_path / "one.safetensors", kept[0]))
    with hooks.steer(model, {again.layer: again.vector}, alpha=1.0):
        assert torch.isfinite(model(x)).all()


def test_foreign_files_are_refused(tmp_path):
    save_file({"vector": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"holds None, no directions"):
        load_directions(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors here")
    with pytest.raises(ValueError, match="is no safetensors file"):
        load_directions(tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match="directions is empty"):
        save_directions(tmp_path / "none.safetensors", [])


def test_concepts_that_push_to_and_from_the_class(model):
    x = _samples(60, [0.5, 0.5, 0.5], 1)
    concepts = {"first": _samples(40, [2.0, 0.0, 0.0], 2), "second": _samples(40, [0.0, 2.0, 0.0], 3)}
    random_sets = [_samples(40, [0.0, 0.0, 0.0], seed) for seed in range(10, 50)]
    table = tcav_study(model, ["0", "1"], x, 1, concepts, random_sets)
    found = table.set_index(["layer", "concept"])
    assert list(found.index) == [(layer, name) for layer in "01" for name in ("first", "second")]
    assert (found.score.xs("first", level="concept") == 1).all()
    assert (found.score.xs("second", level="concept") == 0).all()
    assert found.significant.all()
    assert (table.p_adjusted > table.p_value).all()
    y = torch.cat([torch.ones(40), torch.zeros(40)])
    H = activations(model, "1", torch.cat([concepts["first"], random_sets[0]]))
    assert float(tcav(model, "1", x, 1, fit_direction(H, y, layer="1")).score) == 1.0


def test_a_random_set_enters_one_random_concept(model):
    """Twenty sets make ten random scores; all 190 pairs would make p-values of numbers that aren't independent."""
    x, sets = _samples(20, [0.5, 0.5, 0.5], 1), [_samples(30, [0.0, 0.0, 0.0], seed) for seed in range(20)]
    table = tcav_study(model, "1", x, 1, {"a": _samples(30, [2.0, 0.0, 0.0], 40)}, sets)
    gradients = layer_gradients(model, "1", x, 1)
    y = torch.cat([torch.ones(30), torch.zeros(30)])
    H = [activations(model, "1", torch.cat(pair)) for pair in zip(sets[::2], sets[1::2])]
    chance = [float(tcav_scores(gradients, fit_direction(h, y).vector).score) for h in H]
    assert len(chance) == 10
    assert table.random_score[0] == pytest.approx(sum(chance) / 10)
    assert table.p_value[0] == pytest.approx(tcav_test(torch.ones(20), torch.tensor(chance)).p_value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concepts": {}}, "concepts is empty"),
        ({"random_sets": []}, "random_sets has 0 sets"),
        ({"correction": "bonferoni"}, "did you mean 'bonferroni'"),
        ({"alpha": 2.0}, "alpha=2.0"),
        ({"layers": "9"}, "'9' is no module"),
    ],
)
def test_bad_input(model, change, message):
    sets = [_samples(8, [0.0, 0.0, 0.0], seed) for seed in range(5)]
    given = {"layers": "1", "x": sets[0], "target": 1, "concepts": {"a": sets[0]}, "random_sets": sets[1:]}
    with pytest.raises(ValueError, match=message):
        tcav_study(model, **{**given, **change})
