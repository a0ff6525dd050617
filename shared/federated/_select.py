"""Who takes part in a round.

A selector has `select(available, count, generator)` -> client ids, and may have `observe(updates)`, called after each
round.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from sklearn.cluster import KMeans

from shared._checks import check_finite, check_range
from shared.federated._state import Updates


@runtime_checkable
class Selector(Protocol):
    """Anything that chooses `count` of the available clients."""

    def select(self, available: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
        """Choose clients.

        Parameters
        ----------
        available : ids of those that can be reached.
        count : how many.
        generator : where chance comes from.

        Returns
        -------
        The chosen ids; fewer than `count` if fewer are available.
        """
        ...


class RandomSelector:
    """Uniformly at random without replacement: what FedAvg does."""

    def select(self, available: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
        """Choose clients.

        Parameters
        ----------
        available : ids of those that can be reached.
        count : how many.
        generator : where chance comes from.

        Returns
        -------
        The chosen ids; fewer than `count` if fewer are available.
        """
        return sorted(generator.choice(available, min(count, len(available)), replace=False).tolist())


class RoundRobin:
    """One client after another by id, going on where the last round ended."""

    def __init__(self) -> None:
        self._last = -1

    def select(self, available: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
        """Choose clients.

        Parameters
        ----------
        available : ids of those that can be reached.
        count : how many.
        generator : where chance comes from.

        Returns
        -------
        The chosen ids; fewer than `count` if fewer are available.
        """
        ordered = sorted(available)
        after = [c for c in ordered if c > self._last] + [c for c in ordered if c <= self._last]
        chosen = after[:count]
        self._last = chosen[-1] if chosen else self._last
        return chosen


class PowerOfChoice:
    """Power-of-choice, Cho et al. 2022: of `candidates` random clients, those with the largest last known loss.

    A client whose loss isn't known yet counts as having the largest.

    Parameters
    ----------
    candidates : how many random clients the losses are compared of, >= 1.
    """

    def __init__(self, candidates: int) -> None:
        check_range("candidates", candidates, 1)
        self.candidates = candidates
        self._loss: dict[int, float] = {}

    def select(self, available: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
        """Choose clients.

        Parameters
        ----------
        available : ids of those that can be reached.
        count : how many.
        generator : where chance comes from.

        Returns
        -------
        The chosen ids; fewer than `count` if fewer are available.
        """
        size = min(max(self.candidates, count), len(available))
        pool = generator.choice(available, size, replace=False).tolist()
        return sorted(sorted(pool, key=lambda c: -self._loss.get(c, math.inf))[:count])

    def observe(self, updates: Updates) -> None:
        """Remember the training losses of a round.

        Parameters
        ----------
        updates : what the clients sent.
        """
        self._loss.update(zip(updates.clients, updates.loss.tolist()))


class ClusterSelector:
    """One random client from each of `count` clusters of similar label distributions.

    The stratified baseline, after the clustered sampling of Fraboni et al. 2021 (who cluster updates): k-means on the
    clients' label frequencies, once per number of clusters; clusters without an available client are made up for at
    random.

    Parameters
    ----------
    counts : label counts (C,) of each client, (K, C) or by client id.
    random_state : of the k-means' starts.
    """

    def __init__(self, counts: Mapping[int, np.ndarray] | np.ndarray, *, random_state: int = 0) -> None:
        self.counts = check_counts(counts)
        self.random_state = random_state
        self._clusters: dict[int, dict[int, int]] = {}

    def select(self, available: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
        """Choose clients.

        Parameters
        ----------
        available : ids of those that can be reached.
        count : how many.
        generator : where chance comes from.

        Returns
        -------
        The chosen ids; fewer than `count` if fewer are available.
        """
        count = min(count, len(available))
        clusters = self._cluster(count)
        chosen: list[int] = []
        for cluster in generator.permutation(count):
            members = [c for c in available if clusters[c] == cluster]
            if members:
                chosen.append(int(generator.choice(members)))
        rest = [c for c in available if c not in chosen]
        if len(chosen) < count:
            chosen += generator.choice(rest, count - len(chosen), replace=False).tolist()
        return sorted(chosen)

    def _cluster(self, count: int) -> dict[int, int]:
        if count not in self._clusters:
            rows = np.stack(list(self.counts.values()))
            rows = rows / np.maximum(rows.sum(1, keepdims=True), 1e-12)
            found = KMeans(min(count, len(rows)), n_init=4, random_state=self.random_state).fit(rows).labels_
            self._clusters[count] = dict(zip(self.counts, found.tolist()))
        return self._clusters[count]


class EntropySelector:
    r"""FedEntOpt, Lutz et al. 2024, algorithm 1: clients whose summed labels are as uniform as possible.

    The first is random; each further one maximises $H\big((L + l^{(m)}) / \|L + l^{(m)}\|_1\big)$, $L$ being the sum of
    the label counts so far; ties are broken at random. A first-in-first-out buffer of the last `buffer` chosen clients
    is kept out; if it leaves no candidate, it is ignored for that pick.

    Parameters
    ----------
    counts : label counts (C,) of each client, (K, C) or by client id; noised ones if they must stay private. Clients
        whose counts are all zero can be chosen, but count as bringing nothing.
    buffer : clients to keep out, or the share of all clients if a float; at most K - `per_round`.
    per_round : M, to check the buffer against; None checks nothing.
    """

    def __init__(
        self,
        counts: Mapping[int, np.ndarray] | np.ndarray,
        *,
        buffer: int | float = 0.5,
        per_round: int | None = None,
    ) -> None:
        self.counts = check_counts(counts)
        size = len(self.counts)
        if isinstance(buffer, float):
            check_range("buffer", buffer, 0, 1)
            buffer = int(buffer * size)
        limit = size - (per_round or 0)
        if not 0 <= buffer <= limit:
            raise ValueError(f"buffer={buffer} must be between 0 and K - M = {limit}, or too few candidates remain")
        self.buffer = buffer
        self._recent: deque[int] = deque(maxlen=buffer)

    def select(self, available: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
        """Choose clients.

        Parameters
        ----------
        available : ids of those that can be reached.
        count : how many.
        generator : where chance comes from.

        Returns
        -------
        The chosen ids; fewer than `count` if fewer are available.
        """
        unknown = [client for client in available if client not in self.counts]
        if unknown:
            raise ValueError(f"available has clients {unknown} without label counts")
        rows = np.stack([self.counts[client] for client in available]) if len(available) else np.zeros((0, 1))
        total, chosen = np.zeros(rows.shape[1]), []
        for _ in range(min(count, len(available))):
            left = [i for i, client in enumerate(available) if client not in chosen]
            candidates = np.array([i for i in left if available[i] not in self._recent] or left)
            if chosen:
                gains = label_entropy(total + rows[candidates])
                candidates = candidates[gains >= gains.max() - 1e-12]
            at = int(generator.choice(candidates))
            chosen.append(int(available[at]))
            total = total + rows[at]
            self._recent.append(chosen[-1])
        return chosen


class ClassBalancedSelector:
    r"""Class-balanced sampling after FedCBS, Zhang et al. 2022: random, but more likely the more even the labels are.

    With the imbalance $Q(S) = \sum_c (L_c / \sum L - 1/C)^2$ of the summed label counts $L$ of a set $S$, the first
    client of round $k$ is drawn in proportion to $Q(\{m\})^{-\beta_1} + \lambda \sqrt{3 \ln k / (2 T_m)}$, where $T_m$
    counts how often it was chosen (from 1), the i-th in proportion to $Q(S \cup \{m\})^{-\beta_i}$, $\beta_i = i$.

    Parameters
    ----------
    counts : label counts (C,) of each client, (K, C) or by client id.
    exploration : λ, >= 0.
    """

    def __init__(self, counts: Mapping[int, np.ndarray] | np.ndarray, *, exploration: float = 10.0) -> None:
        self.counts = check_counts(counts)
        check_range("exploration", exploration, 0)
        self.exploration = exploration
        self._round = 0
        self._times = dict.fromkeys(self.counts, 1)

    def select(self, available: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
        """Choose clients.

        Parameters
        ----------
        available : ids of those that can be reached.
        count : how many.
        generator : where chance comes from.

        Returns
        -------
        The chosen ids; fewer than `count` if fewer are available.
        """
        self._round += 1
        left, chosen = list(available), []
        total = np.zeros(len(next(iter(self.counts.values()))))
        for place in range(1, min(count, len(left)) + 1):
            imbalance = np.maximum(label_imbalance(total + np.stack([self.counts[c] for c in left])), 1e-12)
            chance = (imbalance.min() / imbalance) ** place
            if place == 1:
                times = np.array([self._times[c] for c in left])
                chance = 1 / imbalance + self.exploration * np.sqrt(1.5 * np.log(self._round) / times)
            pick = left.pop(int(generator.choice(len(left), p=chance / chance.sum())))
            chosen.append(pick)
            total = total + self.counts[pick]
            self._times[pick] += 1
        return chosen


def label_imbalance(counts: np.ndarray) -> np.ndarray:
    """Squared distance (…) of label frequencies of counts (…, C) from uniform ones; no labels count as one class."""
    size = counts.sum(-1, keepdims=True)
    classes = counts.shape[-1]
    share = np.divide(counts, size, out=np.zeros_like(counts), where=size > 0)
    return np.where(size[..., 0] > 0, ((share - 1 / classes) ** 2).sum(-1), 1 - 1 / classes)


def label_entropy(counts: np.ndarray) -> np.ndarray:
    """Shannon entropy of label counts.

    Parameters
    ----------
    counts : (…, C), finite.

    Returns
    -------
    Bits (…); 0 where all counts are zero.

    Raises
    ------
    ValueError
        for a single number, NaN or infinity.
    """
    counts = np.asarray(counts, dtype=float)
    check_finite("counts", counts)
    if not counts.ndim:
        raise ValueError("counts is a single number; expected label counts (…, C)")
    total = counts.sum(-1, keepdims=True)
    p = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
    return 0.0 - (p * logs).sum(-1)


def check_counts(counts: Mapping[int, np.ndarray] | np.ndarray) -> dict[int, np.ndarray]:
    """Label counts by client id as float arrays (C,); `ValueError` for what can't be counts."""
    rows = dict(counts.items()) if isinstance(counts, Mapping) else dict(enumerate(counts))
    if not rows:
        raise ValueError("counts is empty; one row of label counts per client is needed")
    rows = {client: np.asarray(row, dtype=float) for client, row in rows.items()}
    width = next(iter(rows.values())).shape
    for client, row in rows.items():
        if row.ndim != 1 or row.shape != width:
            raise ValueError(f"counts[{client}] has shape {row.shape}; all must have the same (C,), here {width}")
        if not (np.isfinite(row).all() and (row >= 0).all()):
            raise ValueError(f"counts[{client}] has a negative, NaN or infinite entry; counts must be finite and >= 0")
    return rows
