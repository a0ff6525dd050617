"""VAR's cost: several classes' maps of one batch beside captum and zennit, class by class; and the grid pointing game.

"plain": one forward and one backward pass of the same model to its input, parameters frozen, times the number of
classes. Rounds alternate between the contestants; the smallest time of each counts.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_lrp import Row, plain_cnn, row, seconds, vgg_like, zennit_attribution, zennit_composite

from shared.attribution import choose_classes, class_gradients, var_map
from shared.lrp import EpsilonPlus, attribute
from shared.metrics import grid_pointing_game

CLASSES, STEPS = 8, 8


def run(quick: bool = False) -> list[Row]:
    """All rows; `quick` takes one round and fewer images."""
    rounds = 1 if quick else 3
    return [*map_rows(2 if quick else 8, rounds), *grid_rows(64 if quick else 1024, rounds)]


def map_rows(batch: int, rounds: int) -> list[Row]:
    """VAR maps of `CLASSES` classes from each attribution method."""
    torch.manual_seed(0)
    model = vgg_like()
    x = torch.rand(batch, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        classes = choose_classes(model(x), k=CLASSES)
    one_by_one = list(classes.T)

    def var(maps: Tensor) -> Tensor:
        return var_map(maps, classes[:, 0] * 0)

    jobs: dict[str, Callable] = {
        "plain": lambda: [plain_cnn(model, x, parameters=False) for _ in one_by_one],
        "input x gradient": lambda: var(x * class_gradients(model, x, classes)),
        "integrated gradients": lambda: var(x * class_gradients(model, x, classes, steps=STEPS)),
        "LRP": lambda: var(attribute(model, x, one_by_one, composite=EpsilonPlus()).relevance),
    }
    if importlib.util.find_spec("captum"):
        from captum.attr import InputXGradient, IntegratedGradients

        gi, ig = InputXGradient(model), IntegratedGradients(model)
        options = {"n_steps": STEPS, "method": "riemann_middle"}
        jobs["captum, input x gradient"] = lambda: [
            gi.attribute(x.clone().requires_grad_(), target=c).detach() for c in one_by_one
        ]
        jobs["captum, integrated gradients"] = lambda: [ig.attribute(x, target=c, **options) for c in one_by_one]
    if importlib.util.find_spec("zennit"):
        jobs["zennit, LRP"] = lambda: [
            zennit_attribution(zennit_composite("epsilon_plus", x), model, x) for _ in one_by_one
        ]
    best = seconds(jobs, rounds)
    where = f"{CLASSES} classes, VGG-like {batch}x3x64x64"
    rows = []
    for method, peer in (("input x gradient", "captum"), ("integrated gradients", "captum"), ("LRP", "zennit")):
        passes = CLASSES * (STEPS if method == "integrated gradients" else 1)
        plain = best["plain"] * passes / CLASSES
        rows.append(row(f"VAR of {method}, {where}", best[method], f"{passes} plain passes", plain, None))
        theirs = best.get(f"{peer}, {method}")
        reference = f"{peer}, class by class" + ("" if theirs else ": peer not installed")
        rows.append(row(f"VAR of {method}, {where}", best[method], reference, theirs, 1.0))
    return rows


def grid_rows(images: int, rounds: int) -> list[Row]:
    """Maps scored per second, whole batch against one map after another."""
    maps = torch.rand(images, 128, 128, generator=torch.Generator().manual_seed(0)) - 0.3
    cells = torch.arange(images) % 4
    jobs = {
        "batch": lambda: grid_pointing_game(maps, cells),
        "loop": lambda: [grid_pointing_game(maps[i : i + 1], cells[i : i + 1]) for i in range(images)],
    }
    best = seconds(jobs, rounds)
    scored = row(f"grid pointing game, {images} maps of 128 x 128", best["batch"], "map by map", best["loop"], 1.0)
    return [{**scored, "note": f"{images / best['batch']:,.0f} maps a second"}]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in run():
        print(line)
