"""What docstrings promise by words such as "never", "at most", "exactly": it still stands there, and it holds.

PROMISES: `room.name` (of a method `room.Class.method`), the words, and a check of them that is true. Promises that a
room's own tests keep aren't repeated here. `python -m tests.test_promises` lists the sentences that have such a word.
Three promises are every function's: a batch size changes nothing, the same call gives the same again, and who is given
a generator leaves the global ones alone.
"""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from shared import (
    attribution,
    concepts,
    correction,
    embeddings,
    federated,
    hooks,
    lm,
    patterns,
    probes,
    pruning,
    sae,
    stats,
    worlds,
)
from tests import conventions
from tests.bad_input.good import normal, rand
from tests.conditions import kinds
from tests.test_bad_input import GOOD
from tests.test_conditions import CALLS, call, made, rows

ALL = {**CALLS, **rows("MODELS")}
SIZED = {  # training, and what gives batches
    *("correction.fit_with_dropout", "correction.refit", "influence.train_checkpoints", "probes.finetune"),
    *("pruning.edge_popup", "vision.mixed_batches"),
}


def parameters(key: str) -> Any:
    room, name = key.split(".", 1)
    return inspect.signature(getattr(importlib.import_module(f"shared.{room}"), name)).parameters


@pytest.mark.parametrize("key", [key for key in ALL if "batch_size" in parameters(key) and key not in SIZED])
def test_the_batch_size_changes_nothing(key):
    if "call" in ALL[key]():
        pytest.skip("called by a function of the row's own")
    whole, parts = (call(key, {**made(ALL[key]), "batch_size": size}) for size in (64, 1))
    assert kinds.differs(parts, whole, 1e-5) == ""


def states() -> list[Any]:
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), np.random.get_state()[2]]  # noqa: NPY002


@pytest.mark.parametrize("key", GOOD)
def test_the_same_call_gives_the_same_and_leaves_the_global_generators_alone(key):
    """Those that draw do so from the generator of the good call, which is made anew."""
    given = made(GOOD[key])
    before = states()
    first = call(key, given)
    left = states() == before
    again = call(key, made(GOOD[key]))
    plt.close("all")
    assert kinds.differs(again, first, 0.0) == ""
    assert left or ("generator" in parameters(key) and "generator" not in given)


# --- words of one docstring ----------------------------------------------------------------------------------------
def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ones(values: Any) -> bool:
    return bool(np.allclose(np.asarray(values), 1.0, atol=1e-6))


def rollout_rows() -> bool:
    attention = rand(2, 3, 4, 5, 5).tril().clamp(min=1e-3).softmax(-1)
    return ones(attribution.rollout(attention).sum(-1)) and ones(attribution.rollout(attention, heads="max").sum(-1))


def second_order_parts() -> bool:
    parts = rand(4, 3, 2, 6) - 0.5
    found = attribution.second_order(parts, parts.sum(-1))
    sound = torch.allclose(found.marginal.sum(-1), found.total)
    return sound and bool((found.diagonal >= 0).all())


def softmax_without_unit() -> bool:
    maps = rand(2, 3, 4, 4) - 0.5
    return all(
        torch.allclose(*(attribution.class_softmax(maps * unit, scale=scale) for unit in (1.0, 1e6)), atol=1e-5)
        for scale in ("max", "p99")
    )


def adjusted() -> bool:
    p = rng().uniform(size=30) ** 2
    by = {method: stats.adjust_p_values(p, method=method) for method in ("bonferroni", "holm")}
    return max(map(np.max, by.values())) <= 1 and bool((by["holm"] <= by["bonferroni"]).all())


def extreme_fisher() -> bool:
    found = patterns.log_fisher(np.array([0, 10**6, 5]), np.array([10**6, 0, 5]), (10**6, 10**6))
    return bool(np.isfinite(found).all() and (found <= 0).all() and found[0] < -1e5)


def honest_quotas() -> bool:
    candidates, gradient = rand(60, 4) - 0.5, rand(4) - 0.5
    strata, quotas = torch.arange(60) % 3, torch.tensor([4, 2, 1])
    chosen = probes.select_for_tcav(candidates, gradient, 7, strata=strata, quotas=quotas)
    return torch.bincount(strata[chosen], minlength=3).equal(quotas)


def likeliest_stays() -> bool:
    logits, relevance = 8 * rand(50, 20), rand(50, 20)
    step = lm.guided_choice(logits, relevance, k=3, pi_min=0.99)
    likeliest = step.candidates == logits.argmax(1, keepdim=True)
    end = lm.guided_choice(logits, relevance.index_fill(1, torch.tensor([4]), 9.0), k=20, pi_min=0.0, eos=4).token
    return bool(
        (step.allowed & likeliest).any(1).all() and (logits.argmax(1)[end == 4] == 4).all() and (end != 4).any()
    )


def first_is_never_drawn() -> bool:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    region = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]).bool()
    batch = lm.PromptBatch(mask, mask, {"r": region})
    drawn = torch.stack([batch.shuffled("r", generator=generator(s)) for s in range(200)])
    return not drawn[:, 0, :3].any() and not drawn[:, 1, 0].any() and bool((drawn.sum(2) == region.sum(1)).all())


def split_exactly() -> bool:
    codes, W, b = rand(5, 4).double(), rand(4, 3).double(), rand(3).double()
    text = nn.functional.normalize(rand(2, 3).double(), dim=1)
    found = concepts.split_scores(codes, W, b, text)
    whole = nn.functional.normalize(codes @ W + b, dim=1) @ text.T
    return torch.allclose(found.scores(), whole)


def never_fired() -> bool:
    mean_codes, strength = rand(4, 4), rand(4, 4)
    mean_codes[2], strength[2] = 0, 0
    vectors = concepts.concept_vectors(rand(4, 3), rand(3), mean_codes=mean_codes, strength=strength)
    return bool((vectors[2] == 0).all() and (vectors[[0, 1, 3]] != 0).any(1).all())


def other_tokens_pass() -> bool:
    model = nn.Sequential(nn.Identity(), nn.Linear(4, 4)).eval()
    dictionary = sae.SparseDict(sae.SAEConfig("topk", 4, 8, k=1), generator=generator())
    x = rand(2, 5, 4)
    plain = model(x)
    with sae.splice(model, "0", dictionary, tokens=[1, 3], channel_axis=-1, error="drop"), torch.no_grad():
        changed = model(x)
    return (
        changed[:, [0, 2, 4]].equal(plain[:, [0, 2, 4]])
        and not torch.isclose(changed[:, [1, 3]], plain[:, [1, 3]]).all()
    )


def hidden_pixels() -> bool:
    relevance = rand(3, 6, 6)
    hidden = correction.RelDropPixel(alpha=0.0, beta=0.3, p=1.0).mask(relevance, generator=generator())
    low, high = relevance.amin((1, 2), keepdim=True), relevance.amax((1, 2), keepdim=True)
    return hidden.equal((relevance - low) / (high - low) >= 0.7)


def sums_to_one() -> bool:
    X = normal(40, 5)
    dense, sparse = embeddings.affinities(X, perplexity=5.0)[0], embeddings.neighbour_affinities(X, perplexity=5.0)[0]
    prior = embeddings.prior_affinities(embeddings.distance_matrix(X), 5.0)[0]
    return ones([dense.sum(), sparse.sum(), prior.sum()]) and not dense.diagonal().any()


def ranks_of_noise() -> bool:
    noise = normal(60, 50)
    strong = noise + 100 * normal(60, 14, seed=1) @ normal(14, 50, seed=2)
    return [embeddings.pca_denoise(X).shape[1] for X in (noise, strong)] == [2, 10]


def alone_or_together() -> bool:
    X = normal(60, 4)
    model = embeddings.DTSNE(perplexity=5, max_iter=30, random_state=0).fit(X[:50])
    return np.allclose(
        model.transform(X[50:]), np.concatenate([model.transform(X[i : i + 1]) for i in range(50, 60)]), atol=1e-4
    )


def few_variants() -> bool:
    text = "Dear Ann,\n\nI am glad that it works. We will meet soon. Thank you.\n\nBest regards,\nBob"
    starts = {worlds.casualise(text, generator=rng(s), rate=1.0, variants=1)[0].split("\n")[0] for s in range(30)}
    return len(starts) == 1


def undone_after_an_exception() -> bool:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    x = rand(2, 3)
    before = model(x)
    try:
        with pruning.masked(model, {"0": torch.tensor([1, 0, 1, 0])}):
            inside = model(x)
            raise KeyError
    except KeyError:
        pass
    return model(x).equal(before) and not inside.equal(before)


def parts_of(size: int) -> bool:
    x = rand(10, 2)
    parts = list(hooks.batches(x, size))
    return max(map(len, parts)) <= size and torch.cat(parts).equal(x)


def bounded_divergence() -> bool:
    P, Q = torch.eye(4) / 4, torch.eye(4).roll(1, 0) / 4
    found = [embeddings.js_divergence(P, Q, 0.5, beta) <= -np.log(1 - beta) + 1e-6 for beta in (0.1, 0.5, 0.9)]
    return all(map(bool, found))


def last_is_final() -> bool:
    return all(
        pruning.sparsity_schedule(0.1, steps, kind=kind, start=0.7)[-1] == 0.1
        for kind in ("one-shot", "exponential", "linear", "gradual")
        for steps in (1, 3, 7)
    )


def few_steps() -> bool:
    """One step from the mean is Weiszfeld's; a hundred come nearer."""
    w = rand(9, 3)
    sent = federated.Updates(list(range(9)), {"w": w}, torch.ones(9).double(), torch.zeros(9), population=9)
    once, often = (
        federated.GeometricMedian(iterations=n).aggregate({"w": w[0] * 0}, sent, {})[0]["w"] for n in (1, 100)
    )
    cost = lambda z: float((w - z).norm(dim=1).sum())  # noqa: E731
    return cost(often) < cost(once) - 1e-7


def values_by_value() -> bool:
    import pandas as pd

    frame = pd.DataFrame({"few": [0, 1, 2] * 8, "many": np.arange(24) / 7})
    names = patterns.TransactionSet.from_frame(frame, np.arange(24) % 2, bins=4).names
    by = {column: [name for name in names if column in str(name)] for column in frame}
    return len(by["few"]) == 3 and len(by["many"]) <= 4


PROMISES: list[tuple[str, str, Callable[[], bool]]] = [
    ("attribution.rollout", "rows sum to 1", rollout_rows),
    ("attribution.SecondOrder", "never negative", second_order_parts),
    ("attribution.class_softmax", "doesn't depend on the unit", softmax_without_unit),
    (
        "attribution.shared_map",
        "never negative",
        lambda: bool((attribution.shared_map(rand(2, 3, 4, 4) - 0.5, 0, 1) >= 0).all()),
    ),
    ("stats.adjust_p_values", "never less powerful", adjusted),
    ("patterns.log_fisher", "never underflows", extreme_fisher),
    ("patterns.TransactionSet.from_frame", "at most `bins` distinct values", values_by_value),
    ("probes.select_for_tcav", "they sum to n", honest_quotas),
    ("lm.guided_choice", "always the likeliest", likeliest_stays),
    ("lm.PromptBatch.shuffled", "first token is never drawn", first_is_never_drawn),
    ("concepts.split_scores", "exactly", split_exactly),
    ("concepts.concept_vectors", "never fired", never_fired),
    ("sae.splice", "pass unchanged", other_tokens_pass),
    ("correction.RelDropPixel", "hides exactly where", hidden_pixels),
    ("embeddings.affinities", "Sums to 1, zero diagonal", sums_to_one),
    ("embeddings.neighbour_affinities", "Sums to 1", sums_to_one),
    ("embeddings.prior_affinities", "Sums to 1", sums_to_one),
    ("embeddings.pca_denoise", "at least 2 and at most 10", ranks_of_noise),
    ("embeddings.DTSNE.transform", "doesn't depend on the others", alone_or_together),
    ("embeddings.js_divergence", "at most -log(1 - beta)", bounded_divergence),
    ("worlds.casualise", "At most so many different", few_variants),
    ("pruning.masked", "exactly itself again on exit, also after an exception", undone_after_an_exception),
    ("pruning.sparsity_schedule", "the last exactly `final`", last_is_final),
    ("hooks.batches", "at most `batch_size` rows", lambda: all(map(parts_of, (1, 3, 10, 99)))),
    ("federated.GeometricMedian", "at most so many steps", few_steps),
]


def docstring(key: str) -> str:
    room, *path = key.split(".")
    found: Any = importlib.import_module(f"shared.{room}")
    for name in path:
        found = getattr(found, name)
    return re.sub(r"\s+", " ", inspect.getdoc(found) or "")


@pytest.mark.parametrize(("key", "words", "holds"), PROMISES, ids=[key for key, *_ in PROMISES])
def test_what_is_promised_holds(key, words, holds):
    assert words in docstring(key), "the promise is another now: change its row"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert holds()


WORDS = r"never|at most|exactly|always|unchanged|sums? to|add up to|deterministic|left alone|doesn't depend"


def sentences() -> list[str]:
    """Every public docstring's sentences that have one of the words."""
    found = []
    for room in conventions.rooms():
        module = importlib.import_module(f"shared.{room}")
        for name in module.__all__:
            thing = getattr(module, name)
            methods = vars(thing) if inspect.isclass(thing) else {}
            public = [f"{name}.{m}" for m, f in methods.items() if inspect.isfunction(f) and not m.startswith("_")]
            for key in [f"{room}.{path}" for path in (name, *public)] if callable(thing) else []:
                parts = re.split(r"(?<=[.;:]) ", docstring(key))
                found += [f"{key}: {part}" for part in parts if re.search(rf"\b({WORDS})\b", part, re.I)]
    return found


if __name__ == "__main__":
    print("\n".join(sentences()))
