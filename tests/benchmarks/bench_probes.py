"""Costs of the probes room: all concepts of a layer at once against scikit-learn's loop; what a hook adds to a pass."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from shared import hooks, probes


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table; `quick` uses a tenth of the sizes. CPU seconds of this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [*_fits(quick), _hook(quick)]


def _data(n: int, d: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations as behind a ReLU, with correlated dimensions, and labels that depend on them."""
    rng = torch.Generator().manual_seed(0)
    H = (torch.randn(n, d, generator=rng) @ (torch.randn(d, d, generator=rng) / d**0.5) + 0.3).relu()
    W = torch.randn(d, k, generator=rng)
    score = (H - H.mean(0)) @ W
    return H, (score + score.std(0) * torch.randn(n, k, generator=rng) > 0.8 * score.std(0)).long()


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def _fits(quick: bool) -> list[dict]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.svm import LinearSVC

    n, d, k, looped = (2000, 64, 50, 5) if quick else (20_000, 256, 300, 6)
    H, Y = _data(n, d, k)
    X = H.double().numpy()
    cases = [
        ("ridge", probes.RidgeProbe(alpha=10.0), lambda: Ridge(10.0), 0.1, 1e-8),
        ("LDA", probes.LDAProbe(), lambda: LinearDiscriminantAnalysis(solver="lsqr"), 0.1, 1e-6),
        ("logistic", probes.LogisticProbe(C=0.1, tol=1e-6), lambda: LogisticRegression(C=0.1, tol=1e-5), 0.1, 1e-2),
        ("SVM", probes.SVMProbe(C=0.01, tol=1e-6), lambda: LinearSVC(C=0.01, dual=False, tol=1e-5), None, 1e-2),
    ]  # fmt: skip
    rows = []
    for name, ours, peer, aim, tolerance in cases:
        seconds, fitted = _seconds(lambda ours=ours: ours.fit(H, Y))
        part = np.linspace(0, k - 1, looped).astype(int)  # the loop costs the same for each concept
        theirs, coefs = _seconds(lambda p=peer, part=part: [p().fit(X, Y[:, c].numpy()).coef_.ravel() for c in part])
        theirs *= k / looped
        error = np.abs(fitted.coef_[part].numpy() - np.stack(coefs)).max() / np.abs(np.stack(coefs)).max()
        note = f"{n} x {d}; loop measured on {looped} concepts; largest difference {error:.0e} of the largest weight"
        rows.append(_row(f"fit {name}", seconds, f"scikit-learn, {k} fits", theirs, aim, note))
        if error > tolerance:
            rows[-1]["note"] += f" (above {tolerance:.0e}: not the same coefficients)"
    seconds = min(_seconds(lambda: probes.RidgeProbe(alpha=10.0).fit(H, Y))[0] for _ in range(5))
    theirs = min(_seconds(lambda: Ridge(10.0).fit(X, Y.numpy()))[0] for _ in range(5))
    rows.append(
        _row("fit ridge", seconds, "scikit-learn, one multi-output fit", theirs, 1.0, "not a loop: for fairness")
    )
    return rows


def _hook(quick: bool) -> dict:
    """Time of a forward pass with a projection at one layer over the pass without; the smaller of interleaved runs."""
    torch.manual_seed(0)
    width, repeats = (16, 5) if quick else (64, 15)
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(3, width, 3, padding=1), torch.nn.ReLU()]
    for _ in range(6):
        layers += [torch.nn.Conv2d(width, width, 3, padding=1), torch.nn.ReLU()]
    net = torch.nn.Sequential(
        *layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(width, 10)
    ).eval()
    x, v = torch.rand(16, 3, 56, 56), torch.randn(width)
    times: dict[str, list[float]] = {"plain": [], "hooked": []}
    with torch.no_grad():
        for _ in range(repeats):
            for name in times:
                context = hooks.steer(net, {"7": v}, alpha=0.1) if name == "hooked" else nullcontext()
                with context:
                    times[name].append(_seconds(lambda: net(x))[0])
    plain, hooked = (float(np.median(times[name])) for name in ("plain", "hooked"))
    note = f"overhead {100 * (hooked / plain - 1):.1f} % of a pass"
    return _row("forward pass while steering", hooked, "the plain pass", plain, 1.02, note)


def _row(benchmark: str, ours: float, reference: str, theirs: float, aim: float | None, note: str) -> dict:
    row = {"benchmark": f"probes: {benchmark}", "ours_s": ours, "reference": reference, "reference_s": theirs}
    return row | {"ratio": ours / theirs, "aim": aim, "note": note}


if __name__ == "__main__":
    import sys

    for row in run("--quick" in sys.argv):
        print(row)
