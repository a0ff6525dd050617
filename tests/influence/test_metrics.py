"""Metrics against their definitions in loops, scikit-learn and scipy, and golden arrays of Quanda."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from shared.influence import (
    class_detection,
    lds,
    mislabelling_detection,
    model_randomisation,
    random_subsets,
    shortcut_detection,
    sparsity_curve,
    topk_cardinality,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "quanda.npz"


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def tau():
    return torch.randn(12, 40, generator=rng(), dtype=torch.float64)


def test_class_detection(tau):
    labels, targets = torch.randint(0, 4, (40,), generator=rng(1)), torch.randint(0, 4, (12,), generator=rng(2))
    expected = [float(labels[row.argmax()] == c) for row, c in zip(tau, targets)]
    result = class_detection(tau, labels, targets, k=1)
    assert result.per_item.tolist() == expected
    assert result.score == sum(expected) / 12
    five = [float((labels[row.argsort()[-5:]] == c).double().mean()) for row, c in zip(tau, targets)]
    assert class_detection(tau, labels, targets).per_item.tolist() == pytest.approx(five)
    perfect = (labels[None] == targets[:, None]).double()
    assert class_detection(perfect, labels, targets).score == 1


def test_shortcut_detection_is_average_precision(tau):
    average_precision_score = pytest.importorskip("sklearn.metrics").average_precision_score
    marked = torch.rand(40, generator=rng(1)) < 0.3
    keep = torch.rand(12, generator=rng(2)) < 0.6
    tied = (tau * 2).round() / 2  # many ties, as sparse scores have
    for scores in (tau, tied):
        result = shortcut_detection(scores, marked, keep=keep)
        expected = [average_precision_score(marked.numpy(), row.numpy()) for row in scores[keep]]
        assert result.per_item.tolist() == pytest.approx(expected)
        assert result.n_used == int(keep.sum())
    many = shortcut_detection(torch.rand(5000, 40, generator=rng(3)), marked)
    assert many.score == pytest.approx(many.chance, abs=4 * float(many.per_item.std()) / 5000**0.5)
    assert many.chance > float(marked.double().mean()) + 0.02
    one = torch.arange(40) == 7  # of a single marked point: the mean of 1/k
    assert shortcut_detection(tau, one).chance == pytest.approx(sum(1 / k for k in range(1, 41)) / 40)
    with pytest.warns(UserWarning, match="none of 0 test points"):
        nobody = shortcut_detection(tau, marked, keep=torch.zeros(12, dtype=torch.bool))
    assert nobody.n_used == 0
    assert nobody.score != nobody.score  # NaN, where Quanda says 0


def test_mislabelling_detection():
    influence, flipped = torch.randn(50, generator=rng()), torch.rand(50, generator=rng(1)) < 0.2
    order, found, curve = sorted(range(50), key=lambda i: -influence[i]), 0, []
    for i in order:
        found += int(flipped[i])
        curve.append(found / int(flipped.sum()))
    area = sum((a + b) / 2 for a, b in pairwise(curve)) / 50
    result = mislabelling_detection(influence, flipped)
    assert result.score == pytest.approx(area)
    assert result.per_item.tolist() == pytest.approx(curve)
    assert mislabelling_detection(flipped.double(), flipped).score == pytest.approx(
        1 - int(flipped.sum()) / 100, abs=0.02
    )
    draws = [mislabelling_detection(torch.randn(50, generator=rng(s)), flipped).score for s in range(400)]
    assert sum(draws) / 400 == pytest.approx(result.chance, abs=0.02)


def test_equal_self_influence_is_in_no_order():
    """Constant scores give chance wherever the wrong labels stand; a tied group gives the mean over its orders."""
    for at in (slice(0, 3), slice(7, 10)):
        flipped = torch.zeros(10, dtype=torch.bool)
        flipped[at] = True
        result = mislabelling_detection(torch.ones(10), flipped)
        assert result.score == pytest.approx(result.chance)
        torch.testing.assert_close(result.per_item, torch.arange(1, 11, dtype=torch.float64) / 10)
    influence, flipped = torch.tensor([2.0, 1, 1, 1, 0]), torch.tensor([False, False, True, False, True])
    one_of_three = [0.0, 1 / 6, 1 / 3, 1 / 2, 1.0]
    torch.testing.assert_close(mislabelling_detection(influence, flipped).per_item.tolist(), one_of_three)


@pytest.mark.parametrize(("kind", "reference"), [("spearman", stats.spearmanr), ("kendall", stats.kendalltau)])
def test_lds(tau, kind, reference):
    subsets = random_subsets(40, 15, 0.5, rng(3))
    outputs = torch.randn(15, 12, generator=rng(4), dtype=torch.float64).round(decimals=1)
    expected = []
    for t in range(12):
        predicted = [float(sum(tau[t, i] for i in range(40) if s[i])) for s in subsets]
        expected.append(reference(predicted, outputs[:, t].numpy()).statistic)
    result = lds(tau, subsets, outputs, correlation=kind)
    assert result.per_item.tolist() == pytest.approx(expected)
    assert result.score == pytest.approx(sum(expected) / 12)
    exact = (tau @ subsets.double().T).T
    assert lds(tau, subsets, exact, correlation=kind).score == pytest.approx(1)
    assert lds(3 * tau + 5, subsets, outputs, correlation=kind).score == pytest.approx(
        result.score
    )  # subsets are equally large
    tau[0] = 0
    assert lds(tau, subsets, outputs, correlation=kind).n_used == 11


def test_model_randomisation(tau):
    other = torch.randn(12, 40, generator=rng(9), dtype=torch.float64)
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(tau.numpy(), other.numpy())]
    assert model_randomisation(tau, other).per_item.tolist() == pytest.approx(expected)
    assert model_randomisation(tau, tau).score == pytest.approx(1)


def test_topk_cardinality(tau):
    seen = {int(i) for row in tau for i in row.argsort()[-3:]}
    assert topk_cardinality(tau, k=3).score == len(seen) / 36
    assert topk_cardinality(tau[:1].expand(12, -1), k=3).score == pytest.approx(1 / 12)
    draws = [topk_cardinality(torch.rand(12, 40, generator=rng(s)), k=3) for s in range(300)]
    assert sum(d.score for d in draws) / 300 == pytest.approx(draws[0].chance, abs=0.01)


def test_sparsity_curve():
    tau = torch.tensor([[4.0, -3.0, 0.0, 1.0], [0.0, 0.0, -2.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert sparsity_curve(tau).tolist() == pytest.approx([0.75, 0.9375, 1, 1])


def test_permuting_training_points_changes_no_score(tau):
    order = torch.randperm(40, generator=rng(5))
    labels, targets = torch.arange(40) % 4, torch.arange(12) % 4
    marked, subsets = labels == 1, random_subsets(40, 10, 0.5, rng(6))
    outputs = torch.randn(10, 12, generator=rng(7), dtype=torch.float64)
    for score in (
        lambda o: class_detection(tau[:, o], labels[o], targets),
        lambda o: shortcut_detection(tau[:, o], marked[o]),
        lambda o: lds(tau[:, o], subsets[:, o], outputs),
        lambda o: mislabelling_detection(tau[0, o], marked[o]),
        lambda o: topk_cardinality(tau[:, o], k=2),
    ):
        assert score(order).score == pytest.approx(score(torch.arange(40)).score)


def test_agrees_with_quanda():
    """Golden arrays, made by tests/golden/make_quanda.py."""
    with np.load(GOLDEN, allow_pickle=False) as file:
        a = {k: torch.from_numpy(np.asarray(v)) for k, v in file.items()}
    tau, subsets = a["tau"], torch.zeros(len(a["subsets"]), a["tau"].shape[1], dtype=torch.bool)
    subsets.scatter_(1, a["subsets"], True)
    logits_cls = a["targets"] == a["cls"]
    ours = {
        "class_detection": class_detection(tau, a["y"], a["targets"]),
        "subclass_detection": class_detection(tau, a["y"], a["targets"], k=3),
        "shortcut_detection": shortcut_detection(tau, a["marked"], keep=logits_cls & (a["test_y"] != a["cls"])),
        "mixed_datasets": shortcut_detection(tau, a["marked"]),
        "topk_cardinality": topk_cardinality(tau, k=3),
        "mislabelling_detection": mislabelling_detection(a["self_influence"], a["flipped"]),
        "lds_spearman": lds(tau, subsets, a["outputs"]),
        "lds_kendall": lds(tau, subsets, a["outputs"], correlation="kendall"),
        "randomisation_spearman": model_randomisation(tau, torch.roll(tau, 1, 1)),
        "randomisation_kendall": model_randomisation(tau, torch.roll(tau, 1, 1), correlation="kendall"),
    }
    for name, result in ours.items():
        assert result.score == pytest.approx(float(a[f"score_{name}"]), abs=1e-6), name


def test_random_subsets():
    subsets = random_subsets(30, 8, 0.5, rng())
    assert (subsets.sum(1) == 15).all()
    assert len({tuple(s.tolist()) for s in subsets}) == 8


def test_bad_input(tau):
    labels = torch.arange(40) % 4
    for call, message in [
        (lambda: class_detection(tau, labels[:9], torch.zeros(12)), r"train_labels has shape \(9,\)"),
        (lambda: class_detection(tau, labels, torch.zeros(3)), "targets"),
        (lambda: class_detection(tau, labels, torch.zeros(12), k=41), "k=41"),
        (lambda: class_detection(tau * torch.nan, labels, torch.zeros(12)), "NaN"),
        (lambda: shortcut_detection(tau, labels < 0), "0 of 40"),
        (lambda: mislabelling_detection(tau[0], labels < 0), "nothing to detect"),
        (lambda: lds(tau, torch.ones(5, 39), torch.zeros(5, 12)), "subsets has shape"),
        (lambda: lds(tau, torch.ones(5, 40), torch.zeros(12, 5)), "outputs has shape"),
        (lambda: lds(tau, torch.ones(5, 40), torch.zeros(5, 12), correlation="pearson"), "spearman, kendall"),
        (lambda: model_randomisation(tau, tau[:3]), "tau_random"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
