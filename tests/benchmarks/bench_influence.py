"""Costs of the influence room over the number of training points: DualDA beside LIBLINEAR, captum and dattri."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from shared.influence import (
    Checkpoint,
    CrammerSingerSVM,
    DualDA,
    InfluenceFunctions,
    Similarity,
    TracIn,
    TrainedClassifier,
    per_sample_gradients,
)

D, K, T = 64, 10, 100  # features, classes, test points


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table; `quick` uses the smallest sizes only. CPU seconds of this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CrammerSingerSVM().fit(torch.rand(20, 3), torch.arange(20) % 2)  # compiled before anything is timed
        sizes = (500,) if quick else (1000, 4000, 16_000)
        rows = [row for n in sizes for row in (_fit(n), _query(n), *_captum(n))]
        return [*rows, _growth(sizes), *_dattri(300 if quick else 1000)]


def _net(n: int) -> TrainedClassifier:
    """A softmax head on ReLU features of overlapping classes: on features alone, all methods have the same input."""
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(n) % K
    F = (torch.randn(K, D, generator=rng)[y] + 1.5 * torch.randn(n, D, generator=rng)).relu()
    head = nn.Linear(D, K)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=50)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = nn.functional.cross_entropy(head(F), y) + 1e-3 * head.weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return TrainedClassifier(head.eval(), F, y)


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def _fit(n: int) -> dict:
    """The dual solved with its variables kept, beside LIBLINEAR, which throws them away, at equal tolerance."""
    from sklearn.svm import LinearSVC

    net = _net(n)
    X, y = net.x.double(), net.y
    ours, svm = _seconds(lambda: CrammerSingerSVM(C=1e-2, tol=1e-4).fit(X, y))
    peer = LinearSVC(multi_class="crammer_singer", C=1e-2, tol=1e-4, max_iter=100_000)
    theirs, found = _seconds(lambda: peer.fit(X.numpy(), y.numpy()))
    apart = float((torch.from_numpy(found.coef_) - svm.coef_).abs().max() / svm.coef_.abs().max())
    note = f"{n} x {D}, {K} classes; gap {svm.duality_gap_:.0e}; largest difference of a weight {apart:.0e}"
    return _row("DualDA fit", ours, "LIBLINEAR (scikit-learn)", theirs, 2.0, note)


def _query(n: int) -> dict:
    """One test point explained: DualDA beside conjugate gradients on the head, the cheapest exact influence."""
    net = _net(n)
    dual = DualDA(C=1e-2).fit(net)
    cg = InfluenceFunctions(solver="cg", damping=1e-2, max_iterations=200).fit(net)
    x = net.x[:T]
    ours = min(_seconds(lambda: dual.attribute(x))[0] for _ in range(5))
    theirs, _ = _seconds(lambda: cg.attribute(x))
    note = f"n = {n}; {len(dual.support_)} support vectors; {cg.iterations_} CG iterations; {T} test points at once"
    return _row("DualDA query", ours, "influence functions (CG, head), ours", theirs, 0.05, note)


def _captum(n: int) -> list[dict]:
    try:
        from captum.influence import SimilarityInfluence, TracInCPFast
    except ImportError:
        return [_absent("TracIn query", "captum")]
    net = _net(n)
    x, y = net.x[:T], net.y[:T]
    head = nn.Linear(D, K, bias=False)
    with torch.no_grad():
        head.weight.copy_(net.model.weight)
    bare = TrainedClassifier(head.eval(), net.x, net.y)
    model = nn.Sequential(nn.Identity(), head)
    data = torch.utils.data.TensorDataset(net.x, net.y)
    loss = nn.CrossEntropyLoss(reduction="sum")
    peer = TracInCPFast(model, head, data, ["now"], lambda model, path: 1.0, loss_fn=loss, batch_size=2048)
    theirs, expected = _seconds(lambda: peer.influence((x, y), show_progress=False))
    tracin = TracIn(checkpoints=[Checkpoint(head.state_dict())])
    fit, _ = _seconds(lambda: tracin.fit(bare))
    ours, tau = _seconds(lambda: tracin.attribute(x, y))
    error = float((tau - expected).abs().max() / expected.abs().max())
    note = f"n = {n}; ours includes fit; largest difference {error:.0e} of the largest score"
    rows = [_row("TracIn, head", fit + ours, "captum TracInCPFast", theirs, 1.0, note)]
    dual = DualDA(C=1e-2).fit(net)
    ours = min(_seconds(lambda: dual.attribute(x))[0] for _ in range(5))
    rows.append(_row("DualDA query", ours, "captum TracInCPFast", theirs, 0.5, f"n = {n}; {T} test points"))
    with tempfile.TemporaryDirectory() as folder:  # the peer writes its activations there
        similarity = SimilarityInfluence(
            model, "0", data, folder, similarity_metric=lambda a, b: a[0] @ b.T, similarity_direction="max",
            batch_size=2048, replace_nan=0,
        )  # fmt: skip
        theirs, _ = _seconds(lambda: similarity.influence(x, top_k=5, load_from_disk=False))
    dot = Similarity(kind="dot").fit(net)
    ours, _ = _seconds(lambda: dot.attribute(x).topk(5))
    return [*rows, _row("similarity query", ours, "captum SimilarityInfluence", theirs, 1.0, f"n = {n}; top 5")]


def _growth(sizes: tuple[int, ...]) -> dict:
    """How the fit grows with n: the exponent between the first and the last size."""
    import math

    ends = []
    for n in (sizes[0], sizes[-1] if len(sizes) > 1 else 4 * sizes[0]):
        net = _net(n)
        ends.append((n, _seconds(lambda net=net: CrammerSingerSVM(C=1e-2).fit(net.train_features, net.y))[0]))
    (n0, t0), (n1, t1) = ends
    note = f"fit time grows as n^{math.log(t1 / t0) / math.log(n1 / n0):.2f}; reference is n log n from the first size"
    return _row(f"DualDA fit, n {n0} to {n1}", t1, "n log n", t0 * n1 * math.log(n1) / n0 / math.log(n0), 2.0, note)


def _dattri(n: int) -> list[dict]:
    """Influence functions on a small convolutional network: conjugate gradients on all layers, one test point.

    Both are called once before they are timed: torch's forward mode loads its rules at its first call (some 0.1 s).
    """
    try:
        from dattri.algorithm.influence_function import IFAttributorCG
        from dattri.task import AttributionTask
    except ImportError:
        return [_absent("influence, CG, all layers", "dattri")]
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, 1, 14, 14, generator=rng), torch.arange(n) % K
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(16 * 4, K))
    x[torch.arange(n), 0, y] += 3  # a bright row is the class
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(80):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    net = TrainedClassifier(model.eval(), x, y, head="5")
    iterations, damping = 10, 1e-1
    options = {"layers": "all", "damping": damping, "tol": 0.0, "max_iterations": iterations, "output": "logp"}
    method = InfluenceFunctions(solver="cg", **options).fit(net)
    method.attribute(x[:1], y[:1])
    ours, tau = min((_seconds(lambda: method.attribute(x[:1], y[:1])) for _ in range(3)), key=lambda found: found[0])

    def loss(parameters: Any, batch: Any) -> torch.Tensor:
        inputs, label = batch
        return nn.functional.cross_entropy(torch.func.functional_call(model, parameters, inputs), label)

    task = AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict())
    peer = IFAttributorCG(task=task, max_iter=iterations, regularization=damping)
    every, one = (
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[:k], y[:k]), batch_size=k) for k in (n, 1)
    )
    try:
        tried = [
            (_seconds(lambda: peer.cache(every))[0], *_seconds(lambda: peer.attribute(every, one))) for _ in range(4)
        ]
        cache, theirs, expected = min(tried[1:], key=lambda found: found[0] + found[1])
    except (RuntimeError, TypeError, ValueError) as error:
        return [_absent("influence, CG, all layers", f"dattri ({type(error).__name__}: {error})"[:120])]
    likeness = float(torch.corrcoef(torch.stack([tau[0], expected.detach().flatten().to(tau)]))[0, 1])
    size = per_sample_gradients(net, x[:1], y[:1]).shape[1]
    note = f"n = {n}, {size} parameters, {iterations} iterations; ours Gauss-Newton, theirs Hessian: r = {likeness:.3f}"
    return [_row("influence, CG, all layers", ours, "dattri IFAttributorCG", cache + theirs, 1.0, note)]


def _row(benchmark: str, ours: float, reference: str, theirs: float, aim: float | None, note: str) -> dict:
    row = {"benchmark": f"influence: {benchmark}", "ours_s": ours, "reference": reference, "reference_s": theirs}
    return row | {"ratio": ours / theirs, "aim": aim, "note": note}


def _absent(benchmark: str, peer: str) -> dict:
    row = {"benchmark": f"influence: {benchmark}", "ours_s": None, "reference": peer, "reference_s": None}
    return row | {"ratio": None, "aim": None, "note": "peer not installed"}


if __name__ == "__main__":
    import sys

    for row in run("--quick" in sys.argv):
        print(row)
