"""DiffNaps as a scikit-learn estimator: training, and reading the patterns out of the trained network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from shared._checks import check_choice, check_range
from shared.patterns._diffnaps_net import DiffNapsNet
from shared.patterns._diffnaps_scores import holds, strict_binary_csr
from shared.patterns._diffnaps_step import diffnaps_gradients

Pattern = tuple[int, ...]
SAMPLINGS = ("bernoulli", "threshold")
DTYPES = (torch.float32, torch.float64)


class DiffNaps(TransformerMixin, BaseEstimator):
    """Class-specific patterns by training a binary auto-encoder with a classifier (Walter et al., AAAI 2024).

    Every hidden neuron is a conjunction of items. After training, neuron j's pattern is {i : W[j, i] > t_e}, and it is
    assigned to every class c with V[c, j] > t_c; patterns of no class are general ones.

    Parameters
    ----------
    n_hidden : number of neurons h, an upper bound on the number of patterns. Below the number of features it forces
        the patterns to be shared by many rows.
    epochs, batch_size, lr : training with Adam; `lr` is multiplied by `gamma` after each of `milestones` (in epochs,
        fractions allowed). On small data set them so that the first comes after some 1,500 steps: see `n_steps_`.
    lambda_c : weight of the classification loss; the paper raises it until the classification error saturates.
    weight_decay : price of long patterns (λ_w).
    w_reg, head_reg : (lasso, ridge) strengths of the W-shaped regulariser on encoder and head, multiplied by
        `reg_growth` after each epoch.
    t_e, t_c : thresholds that make weights items, and head weights assignments.
    holdout : fraction of rows kept out of training, for `history_`.
    sampling : "bernoulli" (the method: weights are probabilities) or "threshold" (weights > 0.5, an ablation).
    floor, head_init, bias_rule, two_moments : see `DiffNapsNet` and `gated_step`.
    device : of the network; data stay on the CPU and move by the mini-batch.
    dtype : torch.float32 or torch.float64. Training amplifies rounding; in float64 it is small enough for the same
        patterns on other processors, for 1.4 times the cost.
    random_state : int, RandomState or None; the same int gives the same patterns on the same device.
    verbose : show a progress bar.

    Attributes
    ----------
    patterns_ : {class label: list of item tuples}; a pattern may be of several classes.
    general_patterns_ : list of item tuples of no class.
    all_patterns_ : (P,) every distinct pattern, in lexical order; `assigned_` : (C, P) bool, its classes.
    classes_, n_features_in_, feature_names_in_ (for data frames) : as usual.
    net_ : the trained `DiffNapsNet`; `n_steps_` : optimiser steps made; `density_` : fraction of ones.
    history_ : one dict per epoch: the training loss' terms (means over the epoch), the share of held-out cells that are
        reconstructed wrongly, and the held-out accuracy (NaN without held-out rows).
    interrupted_ : True if training was stopped by KeyboardInterrupt; the patterns are those of the last step.
    """

    def __init__(
        self,
        n_hidden: int = 250,
        *,
        epochs: int = 25,
        batch_size: int = 64,
        lr: float = 0.01,
        milestones: Sequence[float] = (5, 7),
        gamma: float = 0.1,
        lambda_c: float = 10.0,
        weight_decay: float = 1.0,
        w_reg: tuple[float, float] = (0.0, 0.0),
        head_reg: tuple[float, float] = (0.0, 0.0),
        reg_growth: float = 1.08,
        t_e: float = 0.3,
        t_c: float = 0.3,
        holdout: float = 0.1,
        sampling: str = "bernoulli",
        floor: float | None = None,
        head_init: str = "xavier",
        bias_rule: str = "sample",
        two_moments: bool = True,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_hidden = n_hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.milestones = milestones
        self.gamma = gamma
        self.lambda_c = lambda_c
        self.weight_decay = weight_decay
        self.w_reg = w_reg
        self.head_reg = head_reg
        self.reg_growth = reg_growth
        self.t_e = t_e
        self.t_c = t_c
        self.holdout = holdout
        self.sampling = sampling
        self.floor = floor
        self.head_init = head_init
        self.bias_rule = bias_rule
        self.two_moments = two_moments
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    # --- training -----------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any) -> DiffNaps:
        """Train on rows X (N, d) of 0 and 1 (array, scipy sparse, data frame) and labels y (N,), two classes or more.

        Raises `ValueError` for other values, a lone class, labels of the wrong length, columns of the same name, or a
        network that will not fit into memory; warns of items that nearly every row has.
        """
        self._check_parameters()
        names = _column_names(X)
        X = strict_binary_csr(X)
        labels = _labels(y, X.shape[0])
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class only ({self.classes_[0]!r}); patterns that differ need at least two")
        self.n_features_in_ = X.shape[1]
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        _warn_of_constant_items(X, names)
        device = torch.device(self.device)
        _check_memory(X.shape[1], self.n_hidden, device, self.two_moments, self.dtype.itemsize)

        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=3)
        self.net_ = DiffNapsNet(
            X.shape[1],
            self.n_hidden,
            len(self.classes_),
            floor=self.floor,
            head_init=self.head_init,
            bias_rule=self.bias_rule,
            two_moments=self.two_moments,
            generator=torch.Generator().manual_seed(int(seeds[0])),
        ).to(device, self.dtype)
        self.density_ = X.nnz / (X.shape[0] * X.shape[1])
        self.history_: list[dict[str, float]] = []
        self.n_steps_, self.interrupted_ = 0, False
        order = np.random.RandomState(seeds[1])
        rows = order.permutation(X.shape[0])
        kept = max(1, math.ceil((1 - self.holdout) * len(rows)))
        noise = torch.Generator(device).manual_seed(int(seeds[2]))
        try:
            self._train(_Batches(X, targets, device, self.dtype), rows[:kept], rows[kept:], order, noise)
        except KeyboardInterrupt:
            if not self.n_steps_:
                raise
            self.interrupted_ = True
            self.net_.clamp_()
            warnings.warn(
                f"interrupted: the patterns are those after {self.n_steps_} steps", RuntimeWarning, stacklevel=2
            )
        return self.read_patterns(self.t_e, self.t_c)

    def _train(
        self,
        data: _Batches,
        train: np.ndarray,
        held_out: np.ndarray,
        order: np.random.RandomState,
        noise: torch.Generator,
    ) -> None:
        per_epoch = -(-len(train) // self.batch_size)
        optimizers = self.net_.optimizers(self.lr)
        drops = [round(m * per_epoch) for m in self.milestones]
        w_reg, head_reg = tuple(self.w_reg), tuple(self.head_reg)
        with tqdm(total=self.epochs * per_epoch, desc="DiffNaps", leave=False, disable=not self.verbose) as bar:
            for _ in range(self.epochs):
                sums = torch.zeros(4, device=self.net_.weight.device, dtype=self.dtype)
                for batch in np.split(order.permutation(train), range(self.batch_size, len(train), self.batch_size)):
                    x, y = data[batch]
                    terms = diffnaps_gradients(
                        self.net_,
                        x,
                        y,
                        self._binary(noise),
                        density=self.density_,
                        lambda_c=self.lambda_c,
                        weight_decay=self.weight_decay,
                        w_reg=w_reg,
                        head_reg=head_reg,
                    )
                    lr = self.lr * self.gamma ** sum(self.n_steps_ >= drop for drop in drops)
                    for optimizer in optimizers:
                        optimizer.param_groups[0]["lr"] = lr
                        optimizer.step()
                    self.net_.clamp_()
                    self.n_steps_ += 1
                    sums += torch.stack(terms)
                    bar.update()
                w_reg, head_reg = (tuple(self.reg_growth * s for s in pair) for pair in (w_reg, head_reg))
                record = dict(
                    zip(("reconstruction", "classification", "length", "binary"), (sums / per_epoch).tolist())
                )
                self.history_.append(record | self._held_out(data, held_out, noise))
                bar.set_postfix({k: f"{record[k]:.3g}" for k in ("reconstruction", "classification")}, refresh=False)

    def _binary(self, noise: torch.Generator) -> torch.Tensor:
        return self.net_.sample(noise) if self.sampling == "bernoulli" else self.net_.threshold(0.5)

    @torch.no_grad()
    def _held_out(self, data: _Batches, rows: np.ndarray, noise: torch.Generator) -> dict[str, float]:
        if not len(rows):
            return {"cell_error": float("nan"), "accuracy": float("nan")}
        wrong = right = 0
        for batch in np.split(rows, range(1024, len(rows), 1024)):
            x, y = data[batch]
            output = self.net_(x, self._binary(noise))
            wrong += int((output.reconstruction != x).sum())
            right += int((output.logits.argmax(1) == y).sum())
        return {"cell_error": wrong / (len(rows) * x.shape[1]), "accuracy": right / len(rows)}

    # --- reading out --------------------------------------------------------------------------------------------
    @torch.no_grad()
    def read_patterns(self, t_e: float, t_c: float) -> DiffNaps:
        """Read patterns and their classes from the trained weights at other thresholds (appendix A.2); returns self."""
        check_is_fitted(self, "net_")
        check_range("t_e", t_e, 0, 1)
        check_range("t_c", t_c, 0, 1)
        member = (self.net_.weight > t_e).cpu().numpy()
        of_class = (self.net_.head > t_c).cpu().numpy()
        classes_of: dict[Pattern, np.ndarray] = {}
        for neuron in np.flatnonzero(member.any(1)):
            pattern = tuple(np.flatnonzero(member[neuron]).tolist())
            classes_of[pattern] = classes_of.get(pattern, False) | of_class[:, neuron]
        self.thresholds_ = (t_e, t_c)
        self.all_patterns_: list[Pattern] = sorted(classes_of)
        shape = (len(self.classes_), len(self.all_patterns_))
        self.assigned_ = np.array([classes_of[p] for p in self.all_patterns_], dtype=bool).reshape(shape[::-1]).T
        self.patterns_: dict[Hashable, list[Pattern]] = {
            label: [p for p, mine in zip(self.all_patterns_, assigned) if mine]
            for label, assigned in zip(self.classes_.tolist(), self.assigned_)
        }
        self.general_patterns_ = [p for p, some in zip(self.all_patterns_, self.assigned_.any(0)) if not some]
        return self

    def choose_thresholds(self, X: Any, y: Any, t_e: Sequence[float], t_c: Sequence[float]) -> tuple[float, float]:
        """The pair of `t_e` x `t_c` whose thresholded network errs least on X, y (grid search of appendix A.2).

        The error is the number of wrong cells, relative to predicting no ones, plus the share of wrong labels; how the
        paper adds the two is not said. Follow with `read_patterns`.
        """
        check_is_fitted(self, "net_")
        X = self._check_rows(X)
        labels = _labels(y, X.shape[0])
        best: tuple[float, float, float] = (math.inf, self.t_e, self.t_c)
        for e in t_e:
            cells = abs(self._thresholded(X, e)[0] - X).sum() / max(X.sum(), 1)
            for c in t_c:
                wrong = (self._vote(X, e, c) != labels).mean()
                best = min(best, (float(cells + wrong), e, c))
        return best[1:]

    # --- using the patterns --------------------------------------------------------------------------------------
    def transform(self, X: Any) -> sparse.csr_matrix:
        """Which rows hold all items of which of `all_patterns_`: (N, P) CSR of 0 and 1 (uint8)."""
        check_is_fitted(self, "all_patterns_")
        return holds(self._check_rows(X), self.all_patterns_)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The patterns as text, item names joined by " & ", in the order of `transform`'s columns."""
        check_is_fitted(self, "all_patterns_")
        names = input_features if input_features is not None else getattr(self, "feature_names_in_", None)
        if names is None:
            names = [f"x{i}" for i in range(self.n_features_in_)]
        if len(names) != self.n_features_in_:
            raise ValueError(f"input_features has {len(names)} names; expected {self.n_features_in_}")
        return np.array([" & ".join(str(names[i]) for i in p) for p in self.all_patterns_], dtype=object)

    def reconstruct(self, X: Any) -> sparse.csr_matrix:
        """Rows as the thresholded network rebuilds them: the union of the patterns that fire, (N, d) CSR of 0 and 1."""
        check_is_fitted(self, "net_")
        return self._thresholded(self._check_rows(X), self.thresholds_[0])[0]

    def predict(self, X: Any) -> np.ndarray:
        """The class with most assigned patterns that fire (the first such class on a tie): (N,)."""
        check_is_fitted(self, "net_")
        return self._vote(self._check_rows(X), *self.thresholds_)

    def _thresholded(self, X: sparse.csr_matrix, t_e: float) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """Reconstruction (N, d) and active neurons (N, h), float32 CSR of 0 and 1."""
        weight = sparse.csr_matrix(self.net_.threshold(t_e).cpu().numpy())
        needed = 1 - self.net_.bias.detach().cpu().clamp(max=-1).trunc().numpy()
        counts = (X @ weight.T).tocsr()
        counts.data = (counts.data >= needed[counts.indices]).astype(np.float32)
        counts.eliminate_zeros()
        union = (counts @ weight).tocsr()
        union.data = np.ones_like(union.data)
        return union, counts

    def _vote(self, X: sparse.csr_matrix, t_e: float, t_c: float) -> np.ndarray:
        head = (self.net_.head.detach() > t_c).cpu().numpy().astype(np.float32)
        return self.classes_[np.asarray(self._thresholded(X, t_e)[1] @ head.T).argmax(1)]

    def _check_rows(self, X: Any) -> sparse.csr_matrix:
        X = strict_binary_csr(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} items; fit saw {self.n_features_in_}")
        return X

    def _check_parameters(self) -> None:
        for name in ("n_hidden", "epochs", "batch_size"):
            check_range(name, getattr(self, name), 1)
        for name in ("lambda_c", "weight_decay", "reg_growth", "gamma"):
            check_range(name, getattr(self, name), 0)
        check_range("lr", self.lr, 1e-12)
        check_range("holdout", self.holdout, 0, 0.9)
        check_range("t_e", self.t_e, 0, 1)
        check_range("t_c", self.t_c, 0, 1)
        check_choice("sampling", self.sampling, SAMPLINGS)
        check_choice("dtype", self.dtype, DTYPES)


class _Batches:
    """Mini-batches (x (B, d), y (B,)) on the device: from a dense copy if that is small, else row by row."""

    DENSE_CELLS = 500_000_000  # one byte each

    def __init__(
        self, X: sparse.csr_matrix, targets: np.ndarray, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._sparse, self._device, self._dtype = X, device, dtype
        self._targets = torch.from_numpy(targets).to(device)
        small = X.shape[0] * X.shape[1] <= self.DENSE_CELLS
        self._dense = torch.from_numpy(X.astype(np.uint8).toarray()).to(device) if small else None

    def __getitem__(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.from_numpy(rows).to(self._device)
        if self._dense is None:
            return torch.from_numpy(self._sparse[rows].toarray()).to(self._device, self._dtype), self._targets[index]
        return self._dense[index].to(self._dtype), self._targets[index]


def _labels(y: Any, n_rows: int) -> np.ndarray:
    labels = np.asarray(y)
    if labels.shape != (n_rows,):
        raise ValueError(f"y has shape {labels.shape}; expected ({n_rows},), a label per row of X")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("y holds NaN or infinite labels; every row needs a class")
    return labels


def _column_names(X: Any) -> np.ndarray | None:
    if not isinstance(X, pd.DataFrame):
        return None
    if not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()][0]
        raise ValueError(f"X has more than one column named {twice!r}; item names must differ")
    return X.columns.astype(str).to_numpy(dtype=object)


def _warn_of_constant_items(X: sparse.csr_matrix, names: np.ndarray | None) -> None:
    support = np.asarray(X.sum(0)).ravel() / X.shape[0]
    common = np.flatnonzero(support > 0.95)
    if len(common):
        shown = ", ".join(str(i if names is None else names[i]) for i in common[:5])
        warnings.warn(
            f"{len(common)} items are in over 95 % of the rows ({shown}{', …' if len(common) > 5 else ''}) and will "
            "become part of every pattern; drop them",
            UserWarning,
            stacklevel=3,
        )


def _check_memory(n_features: int, n_hidden: int, device: torch.device, two_moments: bool, size: int) -> None:
    """Weights, sample, and per set of moments a gradient and two moments: all (h, d) of `size` bytes a number."""
    need = size * n_hidden * n_features * (3 + 3 * (1 + two_moments))
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if need > free:
        raise ValueError(
            f"n_hidden={n_hidden} neurons x {n_features:,} items need about {need / 1e9:.1f} GB to train; "
            f"{free / 1e9:.1f} GB are free on {device.type!r}: lower n_hidden, drop rare items, or take another device"
        )
