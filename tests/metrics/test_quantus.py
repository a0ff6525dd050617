"""The scores that quantus has too, on golden arrays that tests/golden/make_quantus.py made with it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shared.metrics import (
    grid_pointing_game,
    parameter_randomisation,
    perturbation_curve,
    random_logit,
    randomised_models,
    relevance_mass,
    top_k_hit,
)
from shared.stats import rank_correlation


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "quantus.npz", allow_pickle=False) as arrays:
        return {
            name: torch.from_numpy(arrays[name]) if arrays[name].dtype.kind != "U" else arrays[name] for name in arrays
        }


class Net(nn.Module):
    def __init__(self, golden):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(36, 20), nn.Linear(20, 12), nn.Linear(12, 4)
        self.load_state_dict({k.removeprefix("state."): v for k, v in golden.items() if k.startswith("state.")})

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))


def test_pixel_flipping(golden):
    """quantus leaves out the unperturbed output and looks at probabilities; features go four at a time."""
    model, y = Net(golden), golden["y"][:, None]
    curve = perturbation_curve(
        lambda x: model(x).softmax(1).gather(1, y)[:, 0], golden["x"], golden["a"][:, 0], fractions=9, baseline=0.25
    )
    assert torch.allclose(curve[1:].T.double(), golden["pixel_flipping"].double(), atol=1e-5)


def test_pointing_game(golden):
    hit = top_k_hit(golden["a"].flatten(1), golden["s"].flatten(1))
    assert torch.equal(hit, golden["pointing_game"])


def test_attribution_localisation(golden):
    mass = relevance_mass(golden["a"].flatten(1), golden["s"].flatten(1))
    assert torch.allclose(mass, golden["attribution_localisation"].double(), atol=1e-6)
    quarters = torch.zeros(5, 6, 6)
    quarters[:, :3, 3:] = 1  # the cell at the upper right, as a mask
    by_mask = relevance_mass(golden["a"].flatten(1), quarters.flatten(1) > 0)
    assert torch.allclose(grid_pointing_game(golden["a"], 1), by_mask)


def test_relevance_mass_accuracy(golden):
    mass = relevance_mass(golden["a"].abs().flatten(1), golden["s"].flatten(1))
    assert torch.allclose(mass, golden["relevance_mass"].double(), atol=1e-6)


@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
def test_parameter_randomisation(golden, order):
    """The same layers in the same order, and the same scores for the maps that quantus's random networks gave."""
    model, layers = Net(golden), list(golden[f"mprt.{order}.layers"])
    assert [name for name, _ in randomised_models(model, order=order)] == layers
    maps = iter([golden["a"], *golden[f"mprt.{order}.maps"]])
    scores = parameter_randomisation(lambda net, x, y: next(maps), model, golden["x"], golden["y"], order=order)
    assert list(scores) == layers
    assert torch.allclose(torch.stack(list(scores.values())), golden[f"mprt.{order}.scores"].double(), atol=1e-9)


def test_random_logit(golden):
    found = rank_correlation(golden["a"].flatten(1), golden["random_logit.maps"].flatten(1))
    assert torch.allclose(found, golden["random_logit"].double(), atol=1e-9)
    assert (golden["random_logit.targets"] != golden["y"]).all()
    table, asked = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)), []

    def explain(x, target):
        asked.append(target)
        return table[target] * x

    score = random_logit(explain, golden["x"], golden["y"], 4, generator=torch.Generator().manual_seed(1))
    assert (asked[1] != golden["y"]).all()
    first, second = ((table[y] * golden["x"]).flatten(1) for y in (golden["y"], asked[1]))
    assert torch.equal(score, rank_correlation(first, second))
