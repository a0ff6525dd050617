"""What every public function of the rooms papers stand on does with NaN, emptiness and wrong shapes.

One good call per function; each of its tensors is spoilt in turn. A spoilt call must raise one `ValueError` that names
the argument (or the one it no longer fits). A function that isn't listed here fails the last test.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import Tensor, nn

ROOMS = ("lrp", "metrics", "plots", "vision")


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)).eval()


def axes() -> Any:
    return plt.figure().add_subplot()


def sums(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


MASK, MAPS = rand(2, 12) > 0.5, rand(2, 3, 4, 4)
CURVES = {"inputs": rand(2, 12), "relevance": rand(2, 12)}
GOOD: dict[str, Callable[[], dict[str, Any]]] = {
    "lrp.attribute": lambda: {"model": net(), "x": rand(2, 3, 2, 2), "target": 1},
    "lrp.choose_classes": lambda: {"logits": rand(2, 4)},
    "lrp.class_gradients": lambda: {"model": net(), "x": rand(2, 3, 2, 2), "classes": torch.tensor([[0, 1], [1, 2]])},
    "lrp.class_softmax": lambda: {"maps": MAPS},
    "lrp.predictive_variance": lambda: {"outputs": rand(3, 2, 2)},
    "lrp.rollout": lambda: {"attention": rand(2, 2, 3, 4, 4).softmax(-1)},
    "lrp.second_order": lambda: {"explanations": rand(3, 2, 2, 5), "outputs": rand(3, 2, 2)},
    "lrp.shared_map": lambda: {"maps": MAPS, "first": 0, "second": 1},
    "lrp.var_map": lambda: {"maps": MAPS, "target": 0},
    "metrics.area_between": lambda: {"lerf": rand(11, 2), "morf": rand(11, 2)},
    "metrics.cell_energy": lambda: {"attribution": rand(2, 4, 4)},
    "metrics.curve_area": lambda: {"curve": rand(11, 2)},
    "metrics.grid_pointing_game": lambda: {"attribution": rand(2, 4, 4), "cell": torch.tensor([0, 1])},
    "metrics.intersection_over_union": lambda: {"relevance": rand(2, 12), "truth": MASK},
    "metrics.perturbation_curve": lambda: {"predict": sums, **CURVES},
    "metrics.perturbation_curves": lambda: {"predict": sums, **CURVES},
    "metrics.rank_correlation": lambda: {"first": rand(2, 12), "second": rand(2, 12).flip(1)},
    "metrics.reciprocal_rank": lambda: {"relevance": rand(2, 12), "truth": MASK},
    "metrics.relevance_mass": lambda: {"relevance": rand(2, 12), "truth": MASK},
    "metrics.top_k_hit": lambda: {"relevance": rand(2, 12), "truth": MASK},
    "plots.band": lambda: {"ax": axes(), "x": [1, 2, 3], "low": np.zeros(3), "high": np.ones(3)},
    "plots.curve": lambda: {"ax": axes(), "x": [1, 2, 3], "runs": rand(2, 3).numpy(), "label": "a"},
    "plots.heatmap": lambda: {"ax": axes(), "relevance": rand(4, 4)},
    "plots.image_grid": lambda: {"images": rand(2, 3, 4, 4)},
    "plots.overlay": lambda: {"ax": axes(), "image": rand(3, 4, 4), "relevance": rand(4, 4)},
    "plots.token_heatmap": lambda: {"ax": axes(), "tokens": ["a", "b"], "relevance": rand(2)},
    "vision.cell_mask": lambda: {"cell": torch.tensor([0, 1]), "shape": (4, 4)},
    "vision.denormalise": lambda: {"inputs": rand(2, 3, 4, 4), "mean": [0.5] * 3, "std": [0.5] * 3},
    "vision.grid": lambda: {"images": rand(2, 4, 3, 4, 4)},
    "vision.normalise": lambda: {"images": rand(2, 3, 4, 4), "mean": [0.5] * 3, "std": [0.5] * 3},
    "vision.resize": lambda: {"images": rand(2, 3, 4, 4), "size": 8},
}
ELSEWHERE = {  # take what a model or another call makes; their rooms' tests spoil it
    "lrp.alti_logit": "token ids; tests/lrp/test_alti.py",
    "lrp.contrast": "class indices; tests/lrp/test_errors.py",
    "lrp.explain_members": "an ensemble's inputs; tests/lrp/test_second_order.py",
    "lrp.explain_uncertainty": "as explain_members",
    "lrp.explain_variance": "as explain_members",
    "lrp.weight_relevance": "batches, each through attribute; tests/lrp/test_latent.py",
    "lrp.zero_mean": "class indices; tests/lrp/test_errors.py",
    "metrics.parameter_randomisation": "a model; tests/metrics/test_randomisation.py",
    "metrics.random_logit": "class indices; tests/metrics/test_randomisation.py",
}
ANY_RANK = {  # further axes are fine
    ("lrp.class_softmax", "maps"),
    ("lrp.shared_map", "maps"),
    ("lrp.var_map", "maps"),
    ("lrp.attribute", "x"),  # the model decides
    ("lrp.class_gradients", "x"),
    ("lrp.second_order", "explanations"),
    ("metrics.rank_correlation", "first"),
    ("metrics.rank_correlation", "second"),
    ("metrics.curve_area", "curve"),
}


def function(key: str) -> Callable:
    room, name = key.split(".")
    return getattr(importlib.import_module(f"shared.{room}"), name)


def spoilt(key: str) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """Argument and value, for every way to spoil one tensor of the good call."""
    for name, value in GOOD[key]().items():
        if not isinstance(value, Tensor | np.ndarray):
            continue
        if (isinstance(value, Tensor) and value.is_floating_point()) or (
            isinstance(value, np.ndarray) and value.dtype.kind == "f"
        ):
            holed = value.clone() if isinstance(value, Tensor) else value.copy()
            holed.reshape(-1)[0] = float("nan")
            yield name, holed
        yield name, value[:0]
        if (key, name) not in ANY_RANK:
            yield name, value[None, None, None]


@pytest.mark.parametrize("key", GOOD)
def test_a_good_call_is_good(key):
    function(key)(**GOOD[key]())
    plt.close("all")


@pytest.mark.parametrize("key", GOOD)
def test_a_spoilt_tensor_is_refused_by_name(key):
    named = "|".join(name for name, value in GOOD[key]().items() if isinstance(value, Tensor | np.ndarray))
    for name, bad in spoilt(key):
        call = {**GOOD[key](), name: bad}
        with pytest.raises(ValueError, match=named):
            function(key)(**call)
    plt.close("all")


def test_every_function_that_takes_a_tensor_is_here():
    takes = set()
    for room in ROOMS:
        module = importlib.import_module(f"shared.{room}")
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) and any(
                "Tensor" in str(p.annotation) or "ndarray" in str(p.annotation)
                for p in inspect.signature(thing).parameters.values()
            ):
                takes.add(f"{room}.{name}")
    assert takes == GOOD.keys() | ELSEWHERE.keys()
