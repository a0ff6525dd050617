"""Relevance per row, pruning in chunks, the chain of forests, and the measures of continual learning."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from shared.lrp import EpsilonPlusFlat, attribute
from shared.pruning import TaskChain, forgetting, predict_in_task, prune_by_relevance, sample_relevance, task_of

RNG = np.random.default_rng(0)


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5), nn.ReLU(), nn.Linear(5, 3)
    ).eval()


def test_relevance_per_row_is_lrps_summed_over_space_and_scaled_to_one():
    x, target = torch.rand(3, 1, 8, 8), torch.tensor([0, 2, 1])
    found = sample_relevance(cnn(), ["0", "3"], x, target)
    for i in range(3):
        latent = attribute(cnn(), x[i : i + 1], int(target[i]), composite=EpsilonPlusFlat(), record=["0", "3"]).latent
        conv, dense = latent["0"].sum((2, 3))[0], latent["3"][0]
        torch.testing.assert_close(found["0"][i], conv / conv.abs().sum())
        torch.testing.assert_close(found["3"][i], dense / dense.abs().sum())
    halves = sample_relevance(cnn(), ["0"], x, target, batch_size=2)["0"]
    torch.testing.assert_close(halves, found["0"])


def test_no_relevance_is_zero_not_nan():
    net = cnn()
    nn.init.zeros_(net[5].weight)
    assert sample_relevance(net, ["0"], torch.rand(2, 1, 8, 8))["0"].abs().sum() == 0


@pytest.mark.parametrize(("layers", "message"), [([], "layers is empty"), (["1"], "'1' is a ReLU"), (["9"], "9")])
def test_layers_without_units_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        sample_relevance(cnn(), layers, torch.rand(2, 1, 8, 8))


SCORES = {"a": torch.tensor([0.4, -0.3, 0.1, 0.0]), "b": torch.tensor([0.2, 0.3])}


def worth(masks):
    """An accuracy to which each unit adds: the two that matter are a[0] and b[1]."""
    return 0.5 + 0.3 * float(masks["a"][0]) + 0.2 * float(masks["b"][1])


def test_the_least_relevant_go_first_one_by_one():
    tried = []
    prune_by_relevance(lambda m: tried.append({k: v.clone() for k, v in m.items()}) or 1.0, SCORES)
    gone = [[(k, i) for k in "ab" for i in range(len(b[k])) if a[k][i] != b[k][i]] for a, b in pairwise(tried)]
    assert gone == [[("a", 1)], [("a", 3)], [("a", 2)], [("b", 0)]]  # each layer's best stays whatever happens


def test_it_stops_at_the_drop_and_keeps_the_state_before_it():
    needs = lambda m: 0.9 - 0.05 * float(~m["a"][2])  # noqa: E731
    found = prune_by_relevance(needs, SCORES, tolerance=0.02)
    assert found.masks["a"].tolist() == [True, False, True, False]
    assert found.masks["b"].all()
    assert found.accuracy == 0.9
    assert found.share == 4 / 6
    assert found.path[-1] == (0.5, pytest.approx(0.85))
    assert prune_by_relevance(needs, SCORES, tolerance=0.1).share == 2 / 6
    assert prune_by_relevance(worth, SCORES).accuracy == 1.0


@pytest.mark.parametrize("max_evals", [1, 3, 7, 64])
def test_evaluations_are_capped_and_every_unit_may_go(max_evals):
    scores, calls = {"a": torch.rand(300), "b": torch.randn(50)}, []
    found = prune_by_relevance(lambda m: calls.append(1) or 1.0, scores, max_evals=max_evals)
    assert len(calls) == len(found.path) <= max_evals + 1
    assert {k: int(m.sum()) for k, m in found.masks.items()} == {"a": 1, "b": 1}


def test_units_of_equal_score_go_together_and_by_size_if_asked():
    calls = []
    prune_by_relevance(lambda m: calls.append(int(m["a"].sum())) or 1.0, {"a": torch.tensor([0.0, 0.0, 0.0, 1.0])})
    assert calls == [4, 1]
    calls = []
    prune_by_relevance(lambda m: calls.append(m["a"].tolist()) or 1.0, {"a": torch.tensor([-3.0, 1, 2])}, rank_by="abs")
    assert calls[-1] == [True, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {}}, "scores is empty"),
        ({"scores": {"a": torch.tensor([1.0, math.nan])}}, r"scores\['a'\] has 1 NaN"),
        ({"scores": {"a": torch.zeros(0)}}, r"scores\['a'\] is empty"),
        ({"scores": {"a": torch.zeros(2, 2)}}, r"scores\['a'\] has shape"),
        ({"evaluate": lambda m: math.nan}, "is the validation set empty"),
        ({"evaluate": lambda m: 96.0}, "evaluate returned 96"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"max_evals": 0}, "max_evals"),
        ({"rank_by": "size"}, "rank_by"),
    ],
)
def test_bad_input_to_pruning(change, message):
    with pytest.raises(ValueError, match=message):
        prune_by_relevance(**{"evaluate": lambda m: 1.0, "scores": SCORES, **change})


def stored(T: int = 4, n: int = 40, d: int = 6) -> dict:
    """What sub-network j shows: its own task's rows are large in column j, others' aren't."""
    rows = lambda j, t: RNG.normal(size=(n, d)) + 8 * (np.arange(d) == j) * (j == t)  # noqa: E731
    return {(j, t): rows(j, t) for t in range(T) for j in range(t + 1)}


def seen(t: int, T: int = 4, n: int = 20, d: int = 6) -> list:
    return [torch.tensor(RNG.normal(size=(n, d)) + 8 * (np.arange(d) == j) * (j == t)) for j in range(T)]


def test_the_chain_recognises_tasks_and_its_posterior_adds_up_to_one():
    chain = TaskChain(n_trees=20, random_state=0).fit(stored())
    for t in range(4):
        posterior = chain.posterior(seen(t))
        torch.testing.assert_close(posterior.sum(1), torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-12)
        assert (chain.predict(seen(t)) == t).float().mean() > 0.8
    assert len(chain.forests_) == 3
    assert chain.nbytes_ > 0


def test_the_posterior_is_the_product_of_the_equation():
    chain, rows = TaskChain(n_features=3, n_trees=10, random_state=1).fit(stored()), seen(2)
    own = [f.predict_proba(r.float().numpy()[:, c])[:, 0] for f, r, c in zip(chain.forests_, rows, chain.features_)]
    own = np.clip(own, 1e-6, 1 - 1e-6)
    for i in range(20):
        expected = [own[j][i] * np.prod([1 - own[k][i] for k in range(j)]) for j in range(3)]
        expected.append(np.prod([1 - own[k][i] for k in range(3)]))
        np.testing.assert_allclose(chain.posterior(rows)[i], expected, rtol=1e-12)


def test_a_forest_uses_the_features_largest_on_its_own_task():
    chain = TaskChain(n_features=1, n_trees=2, random_state=0).fit(stored())
    assert [c.tolist() for c in chain.features_] == [[0], [1], [2]]


def test_the_same_state_gives_the_same_chain():
    data, rows = stored(), seen(1)
    first, second = (TaskChain(n_trees=5, random_state=3).fit(data).posterior(rows) for _ in range(2))
    assert torch.equal(first, second)


def test_forests_that_are_sure_do_not_make_every_task_impossible():
    data = {(0, 0): np.zeros((9, 1)), (0, 1): np.ones((9, 1)), (1, 1): np.ones((9, 1))}
    posterior = TaskChain(n_trees=3, min_leaf=1, random_state=0).fit(data).posterior([np.ones((2, 1)), np.ones((2, 1))])
    assert (posterior > 0).all()
    assert posterior[:, 1].min() > 0.99


def test_bad_input_to_the_chain():
    data = stored()
    with pytest.raises(ValueError, match=r"missing or unknown: \[\(1, 2\)\]"):
        TaskChain().fit({k: v for k, v in data.items() if k != (1, 2)})
    with pytest.raises(ValueError, match="relevances is empty"):
        TaskChain().fit({})
    with pytest.raises(ValueError, match=r"relevances\[\(0, 1\)\] has 240 NaN"):
        TaskChain().fit({**data, (0, 1): np.full((40, 6), np.nan)})
    with pytest.raises(ValueError, match=r"relevances\[\(0, 1\)\] is empty"):
        TaskChain().fit({**data, (0, 1): np.zeros((0, 6))})
    with pytest.raises(ValueError, match=r"relevances\[\(0, 1\)\] has shape"):
        TaskChain().fit({**data, (0, 1): np.zeros((4, 5))})
    with pytest.raises(ValueError, match="isn't fitted"):
        TaskChain().posterior(seen(0))
    chain = TaskChain(n_trees=2).fit(data)
    with pytest.raises(ValueError, match="has 3 entries; the chain knows 4 tasks"):
        chain.predict(seen(0)[:3])
    with pytest.raises(ValueError, match="rows; all must be of the same samples"):
        chain.predict([r[: 5 + j] for j, r in enumerate(seen(0))])


TASKS = [[0, 2], [1, 3]]


def test_predictions_stay_within_the_tasks_classes():
    logits = torch.tensor([[1.0, 9, 2, 3], [1, 9, 2, 3], [5, 0, 2, 3]])
    assert predict_in_task(logits, TASKS, torch.tensor([0, 1, 1])).tolist() == [2, 1, 3]
    assert task_of(TASKS, torch.tensor([2, 3, 1, 0])).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("tasks", "chosen", "message"),
    [
        ([[0, 2], [1, 3], [4]], torch.tensor([0]), r"tasks\[2\] has 1 classes"),
        ([[0, 2], [1, 2]], torch.tensor([0]), "must hold each of the 4 classes"),
        (TASKS, torch.tensor([2]), "chosen must hold ints from 0 to 1; got torch.int64, 2 to 2"),
        (TASKS, torch.tensor([-1]), "chosen must hold"),
        (TASKS, torch.tensor([0.0]), "chosen must hold ints"),
    ],
)
def test_bad_tasks(tasks, chosen, message):
    with pytest.raises(ValueError, match=message):
        predict_in_task(torch.rand(1, 4), tasks, chosen)


def test_a_class_of_no_task_is_refused():
    with pytest.raises(ValueError, match="target must hold ints from 0 to 3"):
        task_of(TASKS, torch.tensor([4]))


def test_forgetting_is_the_drop_from_the_best_so_far():
    nan = math.nan
    accuracy = torch.tensor([[0.9, nan, nan], [0.8, 0.7, nan], [0.85, 0.75, 0.6]])
    torch.testing.assert_close(forgetting(accuracy), torch.tensor([0.1, (0.05 - 0.05) / 2]))
    with pytest.raises(ValueError, match="at least two tasks"):
        forgetting(torch.rand(1, 1))
    with pytest.raises(ValueError, match="accuracy has shape"):
        forgetting(torch.rand(2, 3))
    with pytest.raises(ValueError, match="accuracy has 1 NaN"):
        forgetting(torch.tensor([[nan, 0.0], [0.0, 0.0]]))
