"""What explaining an ensemble's uncertainty costs: beside one forward and backward pass of it, and member by member.

"forward + backward": one pass of the same stacked ensemble to its input, parameters frozen, the least any gradient
method can cost. "captum": its explainer called for each member and output, as one does without a stacked ensemble.
The covariance is held against `numpy.cov` for each row, the inpainting against sampling row by row. Rounds alternate
between the contestants; the smallest CPU time of each counts.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.attribution import Ensemble, explain_uncertainty, gamma_except_last, second_order
from shared.lrp import AnyLinear, Composite, Epsilon
from shared.metrics import KernelDensity

Row = dict[str, Any]
Job = Callable[[], Any]


def run(quick: bool = False) -> list[Row]:
    """All rows; `quick` takes smaller networks and fewer rounds."""
    width, batch, rounds = (20, 16, 2) if quick else (100, 100, 7)
    features, n_outputs, n_members = 13, 3, 10
    torch.manual_seed(0)
    members = [network(features, width, n_outputs) for _ in range(n_members)]
    ensemble, x = Ensemble(members), torch.randn(batch, features)
    epsilon = Composite([(AnyLinear, Epsilon())])
    jobs: dict[str, Job] = {
        "plain": lambda: plain(ensemble, x),
        "CovLRP": lambda: explain_uncertainty(ensemble, x, composite=gamma_except_last(ensemble)),
        "CovLRP one": lambda: explain_uncertainty(members, x),
        "CovGI": lambda: explain_uncertainty(ensemble, x, method="gi"),
        "CovIG": lambda: explain_uncertainty(ensemble, x, method="ig", steps=10),
        "CovLRP (epsilon)": lambda: explain_uncertainty(ensemble, x, composite=epsilon),
        **captum_jobs(members, x, n_outputs),
    }
    best = seconds(jobs, rounds)
    size = f"{n_members} MLPs {3 * width}-{2 * width}-{width}, {n_outputs} outputs, {batch} rows"
    rows = [
        row(f"CovLRP (gamma), {size}", best["CovLRP"], "forward + backward", best["plain"], 3.0 * n_outputs),
        row(f"CovGI, {size}", best["CovGI"], "forward + backward", best["plain"], round(1.2 * n_outputs, 1)),
        row(f"CovLRP (gamma), {size}", best["CovLRP"], "ours, member by member", best["CovLRP one"], 1.0),
    ]
    for ours, peer in (("CovGI", "InputXGradient"), ("CovIG", "IntegratedGradients"), ("CovLRP (epsilon)", "LRP")):
        reference = f"captum {peer} in a loop" if peer in best else f"captum {peer}: peer not installed"
        rows.append(row(f"{ours}, {size}", best[ours], reference, best.get(peer), 1.0))
    return [*rows, *covariance_rows(quick, rounds), *inpainting_rows(quick, rounds)]


def network(features: int, width: int, n_outputs: int) -> nn.Sequential:
    """The paper's network, its layers in proportion 3 : 2 : 1."""
    sizes = [features, 3 * width, 2 * width, width]
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, n_outputs)).eval()


def seconds(jobs: dict[str, Job], rounds: int) -> dict[str, float]:
    """Smallest CPU time of each job over alternating rounds, after one warm-up of each."""
    best: dict[str, float] = {}
    for n in range(rounds + 1):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            if n:
                best[name] = min(best.get(name, float("inf")), time.process_time() - start)
    return best


def row(benchmark: str, ours: float, reference: str, theirs: float | None, aim: float | None) -> Row:
    ratio = None if theirs is None else ours / theirs
    return dict(benchmark=benchmark, ours_s=ours, reference=reference, reference_s=theirs, ratio=ratio, aim=aim)


def plain(ensemble: nn.Module, x: Tensor) -> Tensor:
    """Gradient of one output of all members with respect to each member's own input."""
    for p in ensemble.parameters():
        p.requires_grad_(False)
    leaf = x[:, None].repeat(1, ensemble.n_members, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(ensemble(leaf)[..., 0].sum(), leaf)
    for p in ensemble.parameters():
        p.requires_grad_(True)
    return gradient


def captum_jobs(members: list[nn.Module], x: Tensor, n_outputs: int) -> dict[str, Job]:
    """Each explainer of captum over all members and outputs; empty where captum isn't installed."""
    if importlib.util.find_spec("captum") is None:
        return {}
    from captum import attr

    warnings.filterwarnings("ignore", message="Input Tensor 0 did not already require gradients")

    def loop(explainer: type, **options: Any) -> Job:
        return lambda: [explainer(m).attribute(x, target=k, **options) for m in members for k in range(n_outputs)]

    return {
        "InputXGradient": loop(attr.InputXGradient),
        "IntegratedGradients": loop(attr.IntegratedGradients, n_steps=10, method="riemann_middle"),
        "LRP": loop(attr.LRP),
    }


def covariance_rows(quick: bool, rounds: int) -> list[Row]:
    """Diagonal and marginal from the explanations, and the whole matrices, beside `numpy.cov` for each row."""
    members, batch, features = 10, 20 if quick else 200, 100
    maps, outputs = torch.randn(members, batch, 1, features), torch.randn(members, batch, 1)
    array = maps[:, :, 0].numpy()
    jobs: dict[str, Job] = {
        "scores": lambda: second_order(maps, outputs),
        "matrix": lambda: second_order(maps, outputs).matrix(),
        "numpy": lambda: np.stack([np.cov(array[:, b], rowvar=False, bias=True) for b in range(batch)]),
    }
    best = seconds(jobs, rounds)
    size = f"{batch} rows of {features} features"
    return [
        row(f"diagonal and marginal, {size}", best["scores"], "numpy.cov in a loop", best["numpy"], 0.2),
        row(f"covariance matrices, {size}", best["matrix"], "numpy.cov in a loop", best["numpy"], 1.0),
    ]


def inpainting_rows(quick: bool, rounds: int) -> list[Row]:
    """Conditional samples of the kernel density for a batch, beside the same row by row."""
    n, batch, features = (200, 10, 10) if quick else (2000, 100, 10)
    data, x = torch.randn(n, features), torch.randn(batch, features)
    missing = torch.rand(batch, features) < 0.5
    density = KernelDensity(data, scale=2.0)
    jobs: dict[str, Job] = {
        "batch": lambda: density.sample_missing(x, missing, n=50),
        "rows": lambda: [row_by_row(density, one, gone, 50) for one, gone in zip(x, missing)],
    }
    best = seconds(jobs, rounds)
    return [row(f"inpainting, {batch} rows, {n} kernels", best["batch"], "row by row", best["rows"], 1.0)]


def row_by_row(density: KernelDensity, x: Tensor, missing: Tensor, n: int) -> Tensor:
    """The definition for a single row."""
    kept = ~missing
    distances = torch.cdist(x[kept].double()[None], density.data[:, kept])[0].square()
    chosen = torch.softmax(-density.scale * distances, 0).multinomial(n, replacement=True)
    draws = x.double().repeat(n, 1)
    noise = torch.randn(n, int(missing.sum()), dtype=torch.float64) * (2 * density.scale) ** -0.5
    draws[:, missing] = density.data[chosen][:, missing] + noise
    return draws


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
