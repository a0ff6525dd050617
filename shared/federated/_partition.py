"""Ways to split a data set among clients. Each returns one array of indices per client; no index is given twice."""

from __future__ import annotations

import numpy as np

from shared._checks import check_range


def _labels(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels has shape {labels.shape} and dtype {labels.dtype}; expected integers (N,), N > 0")
    return labels


def partition_tiny(size: int, clients: int, per_client: int, rng: np.random.Generator) -> list[np.ndarray]:
    """`per_client` random examples of `size` for each of `clients` clients; the rest is left out."""
    check_range("clients", clients, 1)
    check_range("per_client", per_client, 1)
    if clients * per_client > size:
        raise ValueError(
            f"clients={clients} with per_client={per_client} take {clients * per_client} examples of {size}"
        )
    return list(rng.permutation(size)[: clients * per_client].reshape(clients, per_client))


def partition_iid(size: int, clients: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All examples in random order, in parts as equal as possible."""
    if not 1 <= clients <= size:
        raise ValueError(f"clients={clients} must be between 1 and the number of examples, {size}")
    return [np.sort(part) for part in np.array_split(rng.permutation(size), clients)]


def partition_dirichlet(
    labels: np.ndarray,
    clients: int,
    alpha: float,
    rng: np.random.Generator,
    *,
    min_size: int = 0,
    tries: int = 100,
) -> list[np.ndarray]:
    """Label skew: each class is shared out in proportions drawn from a symmetric Dirichlet(`alpha`), Hsu et al. 2019.

    Small `alpha` means strong skew and uneven, even empty, clients; draws until each has `min_size` examples, at most
    `tries` times.
    """
    labels = _labels(labels)
    if not alpha > 0:
        raise ValueError(f"alpha={alpha!r} must be positive; small values mean strong label skew")
    check_range("clients", clients, 1)
    for _ in range(tries):
        parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(clients, alpha))
            for part, chunk in zip(
                parts, np.split(members, np.round(np.cumsum(shares)[:-1] * len(members)).astype(int))
            ):
                part.append(chunk)
        merged = [np.sort(np.concatenate(part)) for part in parts]
        if min(map(len, merged)) >= min_size:
            return merged
    raise ValueError(f"min_size={min_size} was not met in {tries} draws with {clients} clients and alpha={alpha}")


def partition_classes(labels: np.ndarray, clients: int, per_client: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Label skew: each client holds `per_client` classes; a class is shared out equally among its holders.

    Classes are dealt so that all are held by someone if clients × per_client reaches their number.
    """
    labels = _labels(labels)
    classes = np.unique(labels)
    check_range("clients", clients, 1)
    check_range("per_client", per_client, 1, len(classes))
    first = np.concatenate([rng.permutation(len(classes)) for _ in range(-(-clients // len(classes)))])[:clients]
    held = np.zeros((clients, len(classes)), dtype=bool)
    for client, sure in enumerate(first):
        others = np.delete(np.arange(len(classes)), sure)
        missing = others[~held[:, others].any(0)] if clients * per_client >= len(classes) else others[:0]
        missing = np.setdiff1d(missing, first[client + 1 :])
        extra = list(missing[: per_client - 1])
        extra += list(rng.choice(np.setdiff1d(others, extra), per_client - 1 - len(extra), replace=False))
        held[client, [sure, *extra]] = True
    parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for column, label in enumerate(classes):
        holders = np.flatnonzero(held[:, column])
        if len(holders):
            members = rng.permutation(np.flatnonzero(labels == label))
            for holder, chunk in zip(holders, np.array_split(members, len(holders))):
                parts[holder].append(chunk)
    return [np.sort(np.concatenate(part)) for part in parts]


def label_counts(labels: np.ndarray, parts: list[np.ndarray], classes: int | None = None) -> np.ndarray:
    """Examples of each class at each client, (K, C)."""
    labels = _labels(labels)
    classes = int(labels.max()) + 1 if classes is None else classes
    return np.stack([np.bincount(labels[part], minlength=classes) for part in parts])
