"""Quanda's metrics over ten methods: beside the time of the attributions, and beside the toolkit itself.

quanda isn't among the bench's requirements, since it asks for a torchvision and pins captum; where it can be imported
(tests/golden/make_quanda.py says how), its row is measured.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shared.influence import (
    TRAK,
    Attributor,
    DualDA,
    InfluenceFunctions,
    RandomAttribution,
    RepresenterPoints,
    Similarity,
    TracIn,
    TrainedClassifier,
    class_detection,
    lds,
    mislabelling_detection,
    model_randomisation,
    random_subsets,
    shortcut_detection,
    topk_cardinality,
    train_checkpoints,
)
from shared.nets import SmallConv

K, M = 10, 32  # classes, retrained networks


def run(quick: bool = False) -> list[dict]:
    """Rows of the benchmark table. CPU seconds of this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        N, T = (300, 60) if quick else (1000, 200)
        net, x = _net(N, T)
        truth = _truth(net, x)
        attributing, taus = _attributions(net, x)
        _scores(*taus[0], truth)
        metrics, ours = _seconds(lambda: [_scores(tau, own, truth) for tau, own in taus])
        note = f"{len(METRICS)} metrics, {len(taus)} methods, {N} x {T}; reference fits and attributes"
        rows = [_row("all metrics, ten methods", metrics, "the attributions, ours", attributing, 2.0, note)]
        return [*rows, _quanda(net, x, taus, truth, metrics, ours)]


def _net(N: int, T: int) -> tuple[TrainedClassifier, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(N + T) % K
    x = torch.rand(N + T, 1, 14, 14, generator=generator)
    x[torch.arange(N + T), 0, y] += 1
    torch.manual_seed(0)
    net = SmallConv(1, K, (14, 14), widths=(6, 4), hidden=(32,))
    train_checkpoints(net, x[:N], y[:N], epochs=3, lr=3e-3, generator=generator)
    return TrainedClassifier(net, x[:N], y[:N], head="classifier"), x[N:]


METHODS: dict[str, Callable[[], Attributor]] = {
    "random": lambda: RandomAttribution(torch.Generator().manual_seed(0)),
    "similarity": lambda: Similarity(kind="cosine"),
    "GradDot": lambda: TracIn(),
    "GradCos": lambda: TracIn(cosine=True),
    "TracIn": lambda: TracIn(layers="all"),
    "TRAK": lambda: TRAK(projection=256, damping=0.1),
    "representer points": lambda: RepresenterPoints(max_iterations=60),
    "DualDA": lambda: DualDA(C=1e-3, tol=1e-2),
    "Arnoldi": lambda: InfluenceFunctions(solver="arnoldi"),
    "EK-FAC": lambda: InfluenceFunctions(solver="ekfac"),
}


def _attributions(net: TrainedClassifier, x: Tensor) -> tuple[float, list[tuple[Tensor, Tensor]]]:
    """Seconds to fit and attribute all, and (τ, self-influence) of each."""
    for make in METHODS.values():  # what is compiled or loaded at its first call
        make().fit(net).attribute(x[:2])

    def everything() -> list[tuple[Tensor, Tensor]]:
        fitted = [make().fit(net) for make in METHODS.values()]
        return [(method.attribute(x).float(), method.self_influence().float()) for method in fitted]

    return _seconds(everything)


def _truth(net: TrainedClassifier, x: Tensor) -> dict[str, Tensor]:
    """What the metrics compare with; half of one class is marked."""
    generator = torch.Generator().manual_seed(1)
    N, T = len(net), len(x)
    logits = torch.randn(M, T, K, generator=generator)
    targets = net.predict(x)
    index = targets.expand(M, -1)[..., None]
    outputs = logits.gather(2, index).squeeze(2) - logits.scatter(2, index, -torch.inf).logsumexp(2)
    return {
        "targets": targets,
        "marked": (net.y == 2) & (torch.rand(N, generator=generator) < 0.5),
        "flipped": torch.rand(N, generator=generator) < 0.1,
        "subsets": random_subsets(N, M, 0.5, generator),
        "logits": logits,
        "outputs": outputs,
        "labels": net.y,
        "subclasses": net.y * 2 + torch.randint(2, (N,), generator=generator),
        "test_subclasses": targets * 2 + torch.randint(2, (T,), generator=generator),
    }


METRICS: dict[str, Callable[[Tensor, Tensor, dict[str, Tensor]], Any]] = {
    "class": lambda tau, _, t: class_detection(tau, t["labels"], t["targets"]),
    "subclass": lambda tau, _, t: class_detection(tau, t["subclasses"], t["test_subclasses"]),
    "shortcut": lambda tau, _, t: shortcut_detection(tau, t["marked"]),
    "mixed": lambda tau, _, t: shortcut_detection(tau, t["marked"]),
    "wrong labels": lambda _, own, t: mislabelling_detection(own, t["flipped"]),
    "LDS": lambda tau, _, t: lds(tau, t["subsets"], t["outputs"]),
    "cardinality": lambda tau, _, t: topk_cardinality(tau, k=5),
    "randomisation": lambda tau, _, t: model_randomisation(tau, tau.roll(1, 1)),
}


def _scores(tau: Tensor, own: Tensor, truth: dict[str, Tensor]) -> dict[str, float]:
    return {name: metric(tau, own, truth).score for name, metric in METRICS.items()}


def _quanda(net: TrainedClassifier, x: Tensor, taus: list, truth: dict, ours_s: float, ours: list[dict]) -> dict:
    """The toolkit's own metrics on the same attributions; its ranking by self-influence adds 1e-4 times the index."""
    try:
        from quanda.metrics.downstream_eval import ClassDetectionMetric, MislabelingDetectionMetric
        from quanda.metrics.ground_truth import LinearDatamodelingMetric
        from quanda.metrics.heuristics import MixedDatasetsMetric, TopKCardinalityMetric
        from quanda.utils.functions import correlation_functions
    except ImportError as error:
        return _row("all metrics, ten methods", ours_s, "quanda", None, 1.0, f"peer not installed ({error})")
    listed, wrong = list(zip(net.x, net.y.tolist())), truth["flipped"].nonzero().flatten().tolist()
    grouped = list(zip(net.x, truth["subclasses"].tolist()))
    subsets = [s.nonzero().flatten().tolist() for s in truth["subsets"]]
    logits = dict(enumerate(truth["logits"]))

    def score(metric: Any, *arguments: Any, **options: Any) -> float:
        metric.update(*arguments, **options)
        return metric.compute()["score"]

    def theirs(tau: Tensor, own: Tensor) -> dict[str, float]:
        model, marked = net.model, truth["marked"].int()
        # A whole one apart, equal scores by index: ours is the mean over their orders, so that constants differ here.
        scaled = -own.argsort(descending=True, stable=True).argsort().double()
        linear = LinearDatamodelingMetric(
            model, listed, cache_dir=".", model_id="bench", m=M, alpha=0.5, correlation_fn="spearman",
            subset_ids=subsets, subset_ckpt_filenames=[""] * M,
        )  # fmt: skip
        found = MislabelingDetectionMetric(model, listed, wrong, precomputed_self_influence=scaled)
        return {
            "class": score(ClassDetectionMetric(model, listed), tau, truth["targets"]),
            "subclass": score(ClassDetectionMetric(model, grouped), tau, truth["test_subclasses"]),
            "shortcut": score(MixedDatasetsMetric(model, listed, marked), tau),  # the same formula, without its filter
            "mixed": score(MixedDatasetsMetric(model, listed, marked), tau),
            "wrong labels": found.compute()["score"],
            "LDS": score(linear, tau, truth["targets"], x, subset_logits=logits),
            "cardinality": score(TopKCardinalityMetric(model, listed, top_k=5), tau),
            "randomisation": float(correlation_functions["spearman"](tau, tau.roll(1, 1)).mean()),
        }

    peer_s, peer = _seconds(lambda: [theirs(tau, own) for tau, own in taus])
    apart = {m: max(abs(a[m] - b[m]) for a, b in zip(ours, peer)) for m in METRICS}
    worst = max(apart, key=apart.get)
    note = f"largest difference of a score {apart[worst]:.0e} ({worst})"
    return _row("all metrics, ten methods", ours_s, "quanda", peer_s, 1.0, note)


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def _row(benchmark: str, ours: float, reference: str, theirs: float | None, aim: float, note: str) -> dict:
    row = {"benchmark": f"attribution metrics: {benchmark}", "ours_s": ours, "reference": reference}
    return row | {"reference_s": theirs, "ratio": ours / theirs if theirs else None, "aim": aim, "note": note}


if __name__ == "__main__":
    import sys

    for row in run("--quick" in sys.argv):
        print(row)
