"""Ways to split a data set among clients. Each returns one array of indices per client; no index is given twice."""

from __future__ import annotations

import numpy as np

from shared._checks import check_range


def _labels(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels has shape {labels.shape} and dtype {labels.dtype}; expected integers (N,), N > 0")
    return labels


def partition_tiny(size: int, clients: int, per_client: int, *, generator: np.random.Generator) -> list[np.ndarray]:
    """The same small number of random examples for each client; the rest is left out.

    Parameters
    ----------
    size : how many examples there are.
    clients : how many clients.
    per_client : examples of each.
    generator : where chance comes from.

    Returns
    -------
    Indices of each client.
    """
    check_range("clients", clients, 1)
    check_range("per_client", per_client, 1)
    if clients * per_client > size:
        raise ValueError(
            f"clients={clients} with per_client={per_client} take {clients * per_client} examples of {size}"
        )
    return list(generator.permutation(size)[: clients * per_client].reshape(clients, per_client))


def partition_iid(size: int, clients: int, *, generator: np.random.Generator) -> list[np.ndarray]:
    """All examples in random order, in parts as equal as possible.

    Parameters
    ----------
    size : how many examples there are.
    clients : how many clients.
    generator : where chance comes from.

    Returns
    -------
    Indices of each client.
    """
    if not 1 <= clients <= size:
        raise ValueError(f"clients={clients} must be between 1 and the number of examples, {size}")
    return [np.sort(part) for part in np.array_split(generator.permutation(size), clients)]


def partition_dirichlet(
    labels: np.ndarray,
    clients: int,
    alpha: float,
    *,
    generator: np.random.Generator,
    min_size: int = 0,
    tries: int = 100,
) -> list[np.ndarray]:
    """Label skew: each class is shared out in proportions drawn from a symmetric Dirichlet(`alpha`), Hsu et al. 2019.

    Parameters
    ----------
    labels : integers (N,).
    clients : how many clients.
    alpha : > 0; small means strong skew and uneven, even empty, clients.
    generator : where chance comes from.
    min_size : draws until each client has so many examples.
    tries : at most so many draws.

    Returns
    -------
    Indices of each client.
    """
    check_range("tries", tries, 1)
    check_range("min_size", min_size, 0)
    labels = _labels(labels)
    if not alpha > 0:
        raise ValueError(f"alpha={alpha!r} must be positive; small values mean strong label skew")
    check_range("clients", clients, 1)
    for _ in range(tries):
        parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
        for label in np.unique(labels):
            members = generator.permutation(np.flatnonzero(labels == label))
            shares = generator.dirichlet(np.full(clients, alpha))
            for part, chunk in zip(
                parts, np.split(members, np.round(np.cumsum(shares)[:-1] * len(members)).astype(int))
            ):
                part.append(chunk)
        merged = [np.sort(np.concatenate(part)) for part in parts]
        if min(map(len, merged)) >= min_size:
            return merged
    raise ValueError(f"min_size={min_size} was not met in {tries} draws with {clients} clients and alpha={alpha}")


def partition_classes(
    labels: np.ndarray, clients: int, per_client: int, *, generator: np.random.Generator
) -> list[np.ndarray]:
    """Label skew: each client holds `per_client` classes; a class is shared out equally among its holders.

    Classes are dealt so that all are held by someone if clients × per_client reaches their number.

    Parameters
    ----------
    labels : integers (N,).
    clients : how many clients.
    per_client : classes of each.
    generator : where chance comes from.

    Returns
    -------
    Indices of each client.
    """
    labels = _labels(labels)
    classes = np.unique(labels)
    check_range("clients", clients, 1)
    check_range("per_client", per_client, 1, len(classes))
    first = np.concatenate([generator.permutation(len(classes)) for _ in range(-(-clients // len(classes)))])[:clients]
    held = np.zeros((clients, len(classes)), dtype=bool)
    for client, sure in enumerate(first):
        others = np.delete(np.arange(len(classes)), sure)
        missing = others[~held[:, others].any(0)] if clients * per_client >= len(classes) else others[:0]
        missing = np.setdiff1d(missing, first[client + 1 :])
        extra = list(missing[: per_client - 1])
        extra += list(generator.choice(np.setdiff1d(others, extra), per_client - 1 - len(extra), replace=False))
        held[client, [sure, *extra]] = True
    parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for column, label in enumerate(classes):
        holders = np.flatnonzero(held[:, column])
        if len(holders):
            members = generator.permutation(np.flatnonzero(labels == label))
            for holder, chunk in zip(holders, np.array_split(members, len(holders))):
                parts[holder].append(chunk)
    return [np.sort(np.concatenate(part)) for part in parts]


def label_counts(labels: np.ndarray, parts: list[np.ndarray], *, classes: int | None = None) -> np.ndarray:
    """Examples of each class at each client.

    Parameters
    ----------
    labels : integers (N,).
    parts : indices of each client.
    classes : C; one more than the largest label, unless given.

    Returns
    -------
    Counts (K, C).
    """
    labels = _labels(labels)
    classes = int(labels.max()) + 1 if classes is None else classes
    return np.stack([np.bincount(labels[part], minlength=classes) for part in parts])
