"""Recognising a task: a chain of random forests, each of which says "mine" or "a later one's"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from shared._checks import check_array, check_range

BYTES_PER_NODE = 12  # feature and two children in 2 bytes each, threshold in 4, probability in 2


class TaskChain:
    r"""Random forests :math:`g_1, …, g_{T-1}` on what each task's sub-network shows (ReReLRP, "Recognizing").

    :math:`g_j` tells rows of task j (P_j^0) from those of all later tasks (P_j^1), both as sub-network j sees them.
    Then :math:`\pi_j = P_j^0 \prod_{i<j} P_i^1` and :math:`\pi_T = \prod_{i<T} P_i^1`, which add up to 1.

    Parameters
    ----------
    n_features : of a sub-network's features, those with the largest mean on its own task are used; None for all.
    n_trees : of each forest.
    min_leaf : least rows in a leaf.
    max_depth : of a tree.
    random_state : int or None, for the forests.

    Attributes
    ----------
    forests_ : the T − 1 forests of scikit-learn.
    features_ : columns that each uses.
    nbytes_ : bytes of the forests' nodes in a compact form (12 each).
    """

    def __init__(
        self,
        *,
        n_features: int | None = 40,
        n_trees: int = 300,
        min_leaf: int = 5,
        max_depth: int | None = 40,
        random_state: int | None = None,
    ) -> None:
        self.n_features, self.n_trees, self.random_state = n_features, n_trees, random_state
        self.min_leaf, self.max_depth = min_leaf, max_depth

    def fit(self, relevances: Mapping[tuple[int, int], Tensor | np.ndarray]) -> TaskChain:
        """Fit the forests to what was stored while the tasks came one after another.

        Parameters
        ----------
        relevances : (j, t) -> rows of task t as sub-network j sees them, `(n, d_j)`, for all j <= t < T.

        Returns
        -------
        The chain.

        Raises
        ------
        ValueError
            A pair is missing, or its rows are empty, non-finite or of another width.
        """
        check_range("n_trees", self.n_trees, 1)
        if self.n_features is not None:
            check_range("n_features", self.n_features, 1)
        stored = _stored(relevances)
        T = 1 + max(t for _, t in stored)
        self.forests_, self.features_ = [], []
        self.widths_ = [stored[j, j].shape[1] for j in range(T)]
        for j in range(T - 1):
            mine = stored[j, j]
            later = np.concatenate([stored[j, t] for t in range(j + 1, T)])
            columns = strongest(mine, self.n_features)
            forest = RandomForestClassifier(
                self.n_trees,
                criterion="log_loss",
                max_depth=self.max_depth,
                min_samples_leaf=self.min_leaf,
                max_features="log2",
                bootstrap=False,
                random_state=None if self.random_state is None else self.random_state + j,
            )
            forest.fit(np.concatenate([mine, later])[:, columns], np.repeat([0, 1], [len(mine), len(later)]))
            self.forests_.append(forest)
            self.features_.append(columns)
        return self

    @property
    def nbytes_(self) -> int:
        return sum(BYTES_PER_NODE * tree.tree_.node_count for forest in self.forests_ for tree in forest)

    def posterior(self, relevances: Sequence[Tensor | np.ndarray]) -> Tensor:
        """Probability of each task.

        Parameters
        ----------
        relevances : for each of the T sub-networks what it shows for the same rows, `(n, d_j)`. The last isn't read.

        Returns
        -------
        `(n, T)`, float64; rows add up to 1. No forest is believed entirely: its probabilities are clipped to
        [1e-6, 1 − 1e-6].

        Raises
        ------
        ValueError
            Another number of sub-networks or of features than in `fit`; non-finite values.
        """
        if not hasattr(self, "forests_"):
            raise ValueError("this TaskChain isn't fitted; call fit first")
        if len(relevances) != len(self.widths_):
            raise ValueError(f"relevances has {len(relevances)} entries; the chain knows {len(self.widths_)} tasks")
        seen = [_array(f"relevances[{j}]", r, width) for j, (r, width) in enumerate(zip(relevances, self.widths_))]
        if len({len(r) for r in seen}) > 1:
            raise ValueError(f"relevances have {[len(r) for r in seen]} rows; all must be of the same samples")
        rest, found = np.ones(len(seen[0])), []
        for j, (forest, columns) in enumerate(zip(self.forests_, self.features_)):
            mine = forest.predict_proba(seen[j][:, columns])[:, 0].clip(1e-6, 1 - 1e-6)
            found.append(rest * mine)
            rest = rest * (1 - mine)
        return torch.from_numpy(np.stack([*found, rest], 1))

    def predict(self, relevances: Sequence[Tensor | np.ndarray]) -> Tensor:
        """The likeliest task.

        Parameters
        ----------
        relevances : as for `posterior`.

        Returns
        -------
        Task numbers, int `(n,)`.
        """
        return self.posterior(relevances).argmax(1)


def strongest(own: np.ndarray, n_features: int | None) -> np.ndarray:
    """The columns with the largest mean, in their order (the authors' `feature_selection_mean`)."""
    if n_features is None:
        return np.arange(own.shape[1])
    return np.sort(np.argsort(-own.mean(0), kind="stable")[:n_features])


def _stored(relevances: Mapping[tuple[int, int], Any]) -> dict[tuple[int, int], np.ndarray]:
    if not relevances:
        raise ValueError("relevances is empty; give (sub-network, task) -> rows")
    T = 1 + max(t for _, t in relevances)
    wanted = {(j, t) for t in range(T) for j in range(t + 1)}
    if relevances.keys() != wanted:
        odd = sorted(wanted ^ relevances.keys())
        raise ValueError(f"relevances must hold (j, t) for all j <= t < {T}; missing or unknown: {odd}")
    width = {j: np.shape(relevances[j, j])[-1] for j in range(T)}
    return {key: _array(f"relevances[{key}]", rows, width[key[0]]) for key, rows in relevances.items()}


def _array(argument: str, rows: Any, width: int) -> np.ndarray:
    array = rows.detach().float().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
    check_array(argument, array, ("n", width))
    return array.astype(np.float32, copy=False)
