"""Golden arrays of Quanda's metrics: `python tests/golden/make_quanda.py` with quanda 0.5 installed.

Needs quanda and what it imports (captum 0.8, lightning, torcheval, datasets) in an environment of its own. The networks
of its benchmarks import torchvision, which its metrics don't use, so a missing one is stood in for.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import MagicMock

import datasets  # noqa: F401
import lightning  # noqa: F401
import numpy as np
import torch
import torcheval.metrics.functional  # noqa: F401

if importlib.util.find_spec("torchvision") is None:  # after the imports above, which look whether it is there
    for name in ("", ".models", ".models.resnet", ".transforms", ".transforms.functional", ".datasets", ".utils"):
        sys.modules[f"torchvision{name}"] = MagicMock(__spec__=ModuleSpec("torchvision", None))
    sys.modules["quanda.benchmarks.resources.modules"] = MagicMock()

from quanda.metrics.downstream_eval import (
    ClassDetectionMetric,
    MislabelingDetectionMetric,
    ShortcutDetectionMetric,
    SubclassDetectionMetric,
)
from quanda.metrics.ground_truth import LinearDatamodelingMetric
from quanda.metrics.heuristics import MixedDatasetsMetric, TopKCardinalityMetric
from quanda.utils.functions import correlation_functions

T, N, K, D, M = 14, 50, 4, 5, 9


def linear(generator: torch.Generator) -> torch.nn.Linear:
    model = torch.nn.Linear(D, K)
    with torch.no_grad():
        model.weight.copy_(torch.randn(K, D, generator=generator))
    return model.eval()


def main(folder: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    x, tests = torch.randn(N, D, generator=rng), torch.randn(T, D, generator=rng)
    model = linear(rng)
    with torch.no_grad():
        targets = model(tests).argmax(1)
    y, test_y = torch.randint(0, K, (N,), generator=rng), torch.randint(0, K, (T,), generator=rng)
    cls = int(targets.mode().values)
    marked = (y == cls) & (torch.rand(N, generator=rng) < 0.7)
    tau = torch.randn(T, N, generator=rng)
    tau[:, ::3] = 0  # ties, as sparse scores have
    data = torch.utils.data.TensorDataset(x, y)
    listed = [(a, int(b)) for a, b in data]
    flipped = torch.rand(N, generator=rng) < 0.3
    self_influence = 10 * torch.randn(N, generator=rng)
    found = {}

    def score(name, metric, *arguments, **options):
        metric.update(*arguments, **options)
        found[name] = metric.compute()["score"]

    score("class_detection", ClassDetectionMetric(model, listed), tau, targets)
    score("subclass_detection", SubclassDetectionMetric(model, listed, y, s=3), tau, targets)
    shortcut = ShortcutDetectionMetric(model, listed, marked.nonzero().flatten(), cls)
    score("shortcut_detection", shortcut, tau, tests, test_y)
    score("mixed_datasets", MixedDatasetsMetric(model, listed, marked.int()), tau)
    score("topk_cardinality", TopKCardinalityMetric(model, listed, top_k=3), tau)
    wrong = flipped.nonzero().flatten().tolist()
    metric = MislabelingDetectionMetric(model, listed, wrong, precomputed_self_influence=self_influence)
    found["mislabelling_detection"] = metric.compute()["score"]
    nets, subsets = [linear(rng) for _ in range(M)], [torch.randperm(N, generator=rng)[: N // 2] for _ in range(M)]
    with torch.no_grad():
        outputs = torch.stack([n(tests).log_softmax(1).gather(1, targets[:, None]).squeeze(1) for n in nets])
    for kind in ("spearman", "kendall"):
        metric = LinearDatamodelingMetric(
            model, listed, cache_dir=folder, model_id="golden", m=M, alpha=0.5, correlation_fn=kind,
            subset_ids=[s.tolist() for s in subsets], subset_ckpt_filenames=[str(i) for i in range(M)],
            checkpoints_load_func=lambda model, i: model.load_state_dict(nets[int(i)].state_dict()),
        )  # fmt: skip
        score(f"lds_{kind}", metric, tau, targets, tests)
        other = torch.roll(tau, 1, 1)
        found[f"randomisation_{kind}"] = float(correlation_functions[kind](tau, other).mean())
    arrays = {"tau": tau, "y": y, "targets": targets, "test_y": test_y, "marked": marked, "flipped": flipped}
    arrays |= {"self_influence": self_influence, "outputs": outputs, "subsets": torch.stack(subsets)}
    out = Path(__file__).parent / "quanda.npz"
    np.savez_compressed(
        out, cls=cls, **{k: v.numpy() for k, v in arrays.items()}, **{f"score_{k}": v for k, v in found.items()}
    )
    print(found)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
