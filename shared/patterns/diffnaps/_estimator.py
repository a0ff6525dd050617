"""DiffNaps as a scikit-learn estimator: training, and reading the patterns out of the trained network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from tqdm.auto import tqdm

from shared._checks import check_choice, check_range
from shared.patterns.diffnaps._loss import diffnaps_gradients
from shared.patterns.diffnaps._network import DiffNapsNet
from shared.patterns.diffnaps._reading import PatternReader
from shared.patterns.diffnaps._rows import (
    Batches,
    check_memory,
    column_names,
    row_labels,
    strict_binary_csr,
    warn_of_constant_items,
)

SAMPLINGS = ("bernoulli", "threshold")
DTYPES = (torch.float32, torch.float64)
_EVAL_BATCH = 1024  # rows


class DiffNaps(PatternReader, TransformerMixin, BaseEstimator):
    """Class-specific patterns by training a binary auto-encoder with a classifier (Walter et al., AAAI 2024).

    Every hidden neuron is a conjunction of items. After training, neuron j's pattern is {i : W[j, i] > t_e}, and it is
    assigned to every class c with V[c, j] > t_c; patterns of no class are general ones.

    Parameters
    ----------
    n_hidden : int
        Number of neurons h, an upper bound on the number of patterns. Below the number of features it forces the
        patterns to be shared by many rows.
    epochs : int
        Passes over the rows. On small data take so many that training makes some thousand steps: see `n_steps_`.
    batch_size : int
        Rows a step.
    lr : float
        Learning rate of Adam.
    milestones : sequence of float
        Epochs (fractions allowed) after each of which `lr` is multiplied by `gamma`; the first should come after some
        1,500 steps.
    gamma : float
        See `milestones`.
    lambda_c : float
        Weight of the classification loss; the paper raises it until the classification error saturates.
    weight_decay : float
        Price of long patterns (λ_w).
    w_reg, head_reg : (float, float)
        Lasso and ridge of the W-shaped regulariser on encoder and head.
    reg_growth : float
        Factor on `w_reg` and `head_reg` after each epoch.
    t_e, t_c : float
        Thresholds that make weights items, and head weights assignments.
    holdout : float
        Fraction of rows kept out of training, for `history_`.
    sampling : "bernoulli" or "threshold"
        The method, in which weights are probabilities, or weights > 0.5, an ablation.
    floor, head_init, bias_rule, two_moments
        See `DiffNapsNet`.
    device : str or torch.device
        Of the network; data stay on the CPU and move by the mini-batch.
    dtype : torch.float32 or torch.float64
        Training amplifies rounding; in float64 it is small enough for the same patterns on other processors, for 1.4
        times the cost.
    random_state : int, RandomState or None
        The same int gives the same patterns on the same device.
    progress : bool
        Show a progress bar.

    Attributes
    ----------
    patterns_ : {class label: list of tuples of int}
        Item numbers; a pattern may be of several classes.
    general_patterns_ : list of tuples of int
        Those of no class.
    all_patterns_ : list of P tuples of int
        Every distinct pattern, in lexical order.
    assigned_ : (C, P) bool
        Which classes each belongs to.
    classes_, n_features_in_, feature_names_in_
        As usual; the last for data frames.
    net_ : DiffNapsNet
        The trained network.
    n_steps_ : int
        Optimiser steps made.
    density_ : float
        Fraction of ones.
    history_ : list of dict
        Per epoch the training loss' terms (means over the epoch), the share of held-out cells that are reconstructed
        wrongly, and the held-out accuracy (NaN without held-out rows).
    interrupted_ : bool
        Whether training was stopped by KeyboardInterrupt; the patterns are those of the last step.
    """

    def __init__(
        self,
        *,
        n_hidden: int = 250,
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
        progress: bool = False,
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
        self.progress = progress

    # --- training -----------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any) -> DiffNaps:
        """Train, and read the patterns out; warns of items that nearly every row has.

        Parameters
        ----------
        X : (N, d) array, sparse matrix or data frame
            Rows of 0 and 1.
        y : (N,) labels
            Of two classes or more.

        Returns
        -------
        DiffNaps
            Itself.

        Raises
        ------
        ValueError
            For other values, a lone class, labels of the wrong length, columns of the same name, or a network that will
            not fit into memory.
        """
        self._check_parameters()
        X, targets = self._rows_and_targets(X, y)
        device = torch.device(self.device)
        check_memory(X.shape[1], self.n_hidden, device, self.two_moments, self.dtype.itemsize)
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=3)
        order = np.random.RandomState(seeds[1])
        noise = torch.Generator(device).manual_seed(int(seeds[2]))
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
        self.n_steps_ = 0
        self.interrupted_ = False
        try:
            self._train(Batches(X, targets, device, self.dtype), X.shape[0], order, noise)
        except KeyboardInterrupt:
            if not self.n_steps_:
                raise
            self.interrupted_ = True
            self.net_.clamp_()
            warnings.warn(
                f"interrupted: the patterns are those after {self.n_steps_} steps", RuntimeWarning, stacklevel=2
            )
        return self.read_patterns(self.t_e, self.t_c)

    def _rows_and_targets(self, X: Any, y: Any) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Rows as CSR and classes by number; sets what scikit-learn asks of a fitted estimator."""
        names = column_names(X)
        X = strict_binary_csr(X)
        self.classes_, targets = np.unique(row_labels(y, X.shape[0]), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class only ({self.classes_[0]!r}); patterns that differ need at least two")
        self.n_features_in_ = X.shape[1]
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        warn_of_constant_items(X, names)
        return X, targets

    def _train(self, data: Batches, n_rows: int, order: np.random.RandomState, noise: torch.Generator) -> None:
        """The training loop: sample binary weights, fill the gradients, step, bring the parameters back in range."""
        rows = order.permutation(n_rows)
        kept = max(1, math.ceil((1 - self.holdout) * n_rows))
        train = rows[:kept]
        held_out = rows[kept:]
        steps_per_epoch = math.ceil(kept / self.batch_size)
        drops = [round(m * steps_per_epoch) for m in self.milestones]  # steps after which lr falls
        optimizers = self.net_.optimizers(self.lr)
        bar = tqdm(total=self.epochs * steps_per_epoch, desc="DiffNaps", leave=False, disable=not self.progress)
        with bar:
            w_reg = tuple(self.w_reg)
            head_reg = tuple(self.head_reg)
            for _ in range(self.epochs):
                sums = torch.zeros(4, device=self.net_.weight.device, dtype=self.dtype)
                for batch in np.split(order.permutation(train), range(self.batch_size, kept, self.batch_size)):
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
                w_reg = tuple(self.reg_growth * strength for strength in w_reg)
                head_reg = tuple(self.reg_growth * strength for strength in head_reg)
                means = dict(zip(terms._fields, (sums / steps_per_epoch).tolist()))
                self.history_.append(means | self._held_out(data, held_out, noise))
                bar.set_postfix({k: f"{means[k]:.3g}" for k in ("reconstruction", "classification")}, refresh=False)

    def _binary(self, noise: torch.Generator) -> torch.Tensor:
        """This step's binary weights (h, d)."""
        return self.net_.sample(generator=noise) if self.sampling == "bernoulli" else self.net_.threshold(0.5)

    @torch.no_grad()
    def _held_out(self, data: Batches, rows: np.ndarray, noise: torch.Generator) -> dict[str, float]:
        if not len(rows):
            return {"cell_error": float("nan"), "accuracy": float("nan")}
        wrong = right = 0
        for batch in np.split(rows, range(_EVAL_BATCH, len(rows), _EVAL_BATCH)):
            x, y = data[batch]
            output = self.net_(x, self._binary(noise))
            wrong += int((output.reconstruction != x).sum())
            right += int((output.logits.argmax(1) == y).sum())
        return {"cell_error": wrong / (len(rows) * x.shape[1]), "accuracy": right / len(rows)}

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
