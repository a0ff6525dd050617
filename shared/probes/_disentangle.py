"""Directions of several concepts at once: corrected for each other's labels, or made orthogonal.

Erogullari et al. 2025, "Post-Hoc Concept Disentanglement" (arXiv 2503.05522).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_finite, check_range, check_shape, wide
from shared.hooks import graph_mode
from shared.probes._inputs import as_activations, as_labels
from shared.probes._metrics import auroc_cosine, orthogonality, welch_bound
from shared.stats import unit_norm

Labelled = tuple[Tensor, Tensor]  # activations (n, d), labels (n, k)
HOWS = ("penalty", "loewdin", "gram_schmidt")


def multi_pattern(H: Any, Y: Any) -> Tensor:
    """Regression of the activations on all labels together, `(ỸᵀỸ)⁺ ỸᵀH̃`; tildes mean centred.

    Under `h = Σ_c y_c g_c + noise` its mean is g, however the labels correlate.

    Parameters
    ----------
    H : activations (n, d).
    Y : labels (n, k).

    Returns
    -------
    (k, d).
    """
    H = as_activations(H)
    Y, _ = as_labels(Y, H, "Y", least=2)
    return torch.linalg.lstsq(Y - Y.mean(0), H - H.mean(0), driver=_driver(H)).solution


def _driver(H: Tensor) -> str:
    return "gelsd" if H.device.type == "cpu" else "gels"


@dataclass
class FinetuneHistory:
    """What a fine-tuning run logged, one entry per evaluation, and the epoch that was kept.

    Parameters
    ----------
    epoch : when.
    orthogonality, auroc : mean over concepts.
    fit, penalty : the last batch's parts of the loss.
    kept : the epoch whose weights were kept.
    """

    epoch: list[int] = field(default_factory=list)
    orthogonality: list[float] = field(default_factory=list)
    auroc: list[float] = field(default_factory=list)
    fit: list[float] = field(default_factory=list)
    penalty: list[float] = field(default_factory=list)
    kept: int = 0

    def add(self, epoch: int, orthogonality: float, auroc: float, fit: float, penalty: float) -> None:
        """One more evaluation.

        Parameters
        ----------
        epoch, orthogonality, auroc, fit, penalty : an entry of each list.
        """
        self.epoch.append(epoch)
        self.orthogonality.append(orthogonality)
        self.auroc.append(auroc)
        self.fit.append(fit)
        self.penalty.append(penalty)


def orthogonalise(
    V: Tensor, *, how: str = "loewdin", H: Any = None, Y: Any = None, allow_overcomplete: bool = False, **options: Any
) -> Tensor:
    """Unit directions made (more) orthogonal to each other.

    Parameters
    ----------
    V : (k, d); rows with NaN stay out.
    how : "loewdin": `(V Vᵀ)^(−1/2) V`, the nearest orthonormal set, all concepts alike; "gram_schmidt": in the given
        order, the first stays; "penalty": `finetune`, which needs H and Y.
    H, Y : activations (n, d) and labels (n, k), for "penalty".
    allow_overcomplete : with "penalty", more directions than dimensions.
    options : of `finetune`, for "penalty".

    Returns
    -------
    (k, d), of V's dtype.
    """
    check_choice("how", how, HOWS)
    check_shape("V", V, ("k", "d"))
    if how == "penalty":
        if H is None or Y is None:
            raise ValueError("how='penalty' needs H and Y")
        return finetune(H, Y, start=V, allow_overcomplete=allow_overcomplete, **options)[0]
    if options:
        raise TypeError(f"how={how!r} takes no options; got {', '.join(options)}")
    good = torch.isfinite(V).all(1)
    if not bool(good.any()):
        raise ValueError(f"V has no finite row (shape {tuple(V.shape)}); at least one is needed")
    W = unit_norm(wide(V[good]), dim=1)
    if len(W) > V.shape[1]:
        raise ValueError(_too_many(len(W), V.shape[1]))
    values, vectors = torch.linalg.eigh(W @ W.T)
    if float(values[0]) < 1e-10:
        raise ValueError("V has linearly dependent rows; they can't be made orthogonal to each other")
    result = torch.full_like(V, torch.nan, dtype=W.dtype)
    if how == "loewdin":
        result[good] = vectors @ (values.rsqrt()[:, None] * vectors.T) @ W
    else:
        Q, R = torch.linalg.qr(W.T)
        result[good] = (Q * R.diagonal().sign()).T
    return result.to(V.dtype)


def _too_many(k: int, d: int) -> str:
    return (
        f"{k} concepts can't be orthogonal in {d} dimensions (mean squared cosine >= {welch_bound(k, d):.3g}); "
        "how='penalty' with allow_overcomplete=True spreads them"
    )


def pair_weights(V: Tensor, Y: Tensor, alpha: float, beta: float, n_targets: int) -> Tensor:
    """Penalty weights: alpha, but √beta for the `n_targets` most similar pairs whose labels correlate.

    Parameters
    ----------
    V : directions (k, d).
    Y : labels (n, k).
    alpha, beta : see above.
    n_targets : number of pairs.

    Returns
    -------
    (k, k).
    """
    check_range("n_targets", n_targets, 0)
    check_array("V", V, ("k", "d"))
    k = len(V)
    check_array("Y", Y, ("n", k))
    overlap = unit_norm(wide(V), dim=1)
    overlap = (overlap @ overlap.T).abs()
    centred = unit_norm(wide(Y) - wide(Y).mean(0), dim=0)
    upper = torch.triu(torch.ones(k, k, dtype=torch.bool, device=V.device), 1)
    candidates = overlap.masked_fill(~(upper & (centred.T @ centred > 0)), -1).flatten()
    best = candidates.topk(min(n_targets, len(candidates)))
    weights = torch.full((k, k), float(alpha), dtype=overlap.dtype, device=V.device)
    for pair in best.indices[best.values > 0].tolist():
        i, j = divmod(pair, k)
        weights[i, j] = weights[j, i] = beta**0.5
    return weights


@graph_mode()
def finetune(
    H: Any,
    Y: Any,
    *,
    start: Tensor | str = "pattern",
    alpha: float | Tensor = 0.1,
    epochs: int = 200,
    lr: float = 1e-3,
    batch_size: int = 32,
    early_exit: str | None = "orthogonality",
    evaluate_every: int = 10,
    validation: tuple[Any, Any] | None = None,
    allow_overcomplete: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, FinetuneHistory]:
    """The paper's joint training of concept vectors W (k, d) and offsets b:

    `mean over samples, concepts, dimensions of (h − (w_c y_c + b_c))² + ‖A ⊙ (W Wᵀ − I)‖_F`, A filled with alpha. The
    quadratic in W needs `ỸᵀH` only per batch, so a step costs O(batch k d) with one small matrix product.

    Parameters
    ----------
    H : activations (n, d).
    Y : labels (n, k); a concept with fewer than two samples of a class comes back as NaN, with a warning.
    start : "pattern" (the closed form, rows scaled to length one), "random", or vectors (k, d).
    alpha : weight of the penalty, a number or one per pair (k, k).
    epochs, lr, batch_size : of Adam.
    early_exit : keep the weights of the evaluation with the best mean "orthogonality" (divisor k, an improvement counts
        from 0.01 on) or "auroc"; None keeps the last.
    evaluate_every : epochs between evaluations.
    validation : activations and labels for them; the training data unless given.
    allow_overcomplete : allow more concepts than dimensions.
    generator : of order and random start.

    Returns
    -------
    Unit vectors (k, d), single precision, and the `FinetuneHistory`.
    """
    check_range("batch_size", batch_size, 1)
    check_range("evaluate_every", evaluate_every, 1)
    check_choice("early_exit", early_exit, ("orthogonality", "auroc", None))
    check_range("epochs", epochs, 1)
    H = as_activations(H).float()
    Y = torch.as_tensor(Y).to(H)
    check_array("Y", Y, (len(H), "k"))
    k, d = Y.shape[1], H.shape[1]
    enough = (Y.sum(0) >= 2) & ((1 - Y).sum(0) >= 2)
    if not bool(enough.all()):
        warnings.warn(f"concepts {(~enough).nonzero().flatten().tolist()} lack samples of a class: NaN", stacklevel=2)
    if int(enough.sum()) > d and not allow_overcomplete:
        raise ValueError(_too_many(int(enough.sum()), d))
    kept, Y = enough.nonzero().flatten(), Y[:, enough]
    W = _start(H, Y, start, enough, generator)
    b = (H.mean(0) - Y.mean(0)[:, None] * W).clone()
    A = torch.as_tensor(alpha, dtype=H.dtype, device=H.device)
    check_array("alpha", A, (k, k) if A.ndim else ())
    A = A.expand(k, k)[kept][:, kept]
    held = (H, Y)
    if validation is not None:
        held = as_activations(validation[0]).float(), torch.as_tensor(validation[1]).to(H)[:, enough]
    training = _Training(epochs, lr, batch_size, early_exit, evaluate_every, generator)
    best, history = training.run((H, Y), W, b, A, held)
    result = torch.full((k, d), torch.nan, device=H.device)
    result[kept] = unit_norm(best, dim=1)
    return result, history


def _start(H: Tensor, Y: Tensor, start: Tensor | str, enough: Tensor, generator: torch.Generator | None) -> Tensor:
    if isinstance(start, Tensor):
        check_shape("start", start, (len(enough), H.shape[1]))
        start = start.to(H)[enough]
        check_finite("start", start)
        return unit_norm(start, dim=1)
    check_choice("start", start, ("pattern", "random"))
    if start == "random":
        drawn = torch.randn(Y.shape[1], H.shape[1], generator=generator).to(H)
        return unit_norm(drawn, dim=1)
    centred = Y - Y.mean(0)
    return unit_norm(centred.T @ (H - H.mean(0)), dim=1)


@dataclass(frozen=True)
class _Training:
    """How `finetune` trains; the fields are its arguments."""

    epochs: int
    lr: float
    batch_size: int
    early_exit: str | None
    evaluate_every: int
    generator: torch.Generator | None

    def run(self, data: Labelled, W: Tensor, b: Tensor, A: Tensor, held: Labelled) -> tuple[Tensor, FinetuneHistory]:
        """Best W by the evaluations on `held`, from the start W, b with penalty weights A."""
        data = tuple(t.detach().clone() if t.is_inference() or t.requires_grad else t for t in data)
        W, b = W.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()
        optimiser = torch.optim.Adam([W, b], lr=self.lr)
        history = FinetuneHistory()
        best, top = W.detach().clone(), -float("inf")
        fit = penalty = torch.zeros(())
        for epoch in range(self.epochs + 1):
            if epoch % self.evaluate_every == 0 or epoch == self.epochs:
                now = _evaluate(W.detach(), *held)
                history.add(epoch, *now, float(fit), float(penalty))
                score = {"orthogonality": now[0], "auroc": now[1], None: float(epoch)}[self.early_exit]
                if score >= top + (0.01 if self.early_exit == "orthogonality" else 0):
                    best, top = W.detach().clone(), score
                    history.kept = epoch
            if epoch < self.epochs:
                fit, penalty = self._epoch(optimiser, *data, W, b, A)
        return best, history

    def _epoch(
        self, optimiser: torch.optim.Optimizer, H: Tensor, Y: Tensor, W: Tensor, b: Tensor, A: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One pass over the data; the last batch's parts of the loss."""
        k, d = W.shape
        for rows in torch.randperm(len(H), generator=self.generator).to(H.device).split(self.batch_size):
            reconstruction = _reconstruction(H[rows], Y[rows], W, b) / (len(rows) * k * d)
            overlap = frobenius(A * (W @ W.T - torch.eye(k, device=H.device)))
            optimiser.zero_grad()
            (reconstruction + overlap).backward()
            optimiser.step()
        return reconstruction.detach(), overlap.detach()


def _reconstruction(h: Tensor, y: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Σ_i Σ_c ‖h_i − y_ic w_c − b_c‖² without an (n, k, d) array: products of (n, d), (n, k) and (k, d) only."""
    n, total = len(h), h.sum(0)
    count = y.sum(0)
    return (
        W.shape[0] * h.square().sum()
        + (y.square().sum(0) * W.square().sum(1)).sum()
        + n * b.square().sum()
        - 2 * ((y.T @ h) * W).sum()
        - 2 * (b @ total).sum()
        + 2 * (count * (W * b).sum(1)).sum()
    )


def frobenius(M: Tensor) -> Tensor:
    """Frobenius norm whose gradient is finite at zero."""
    return (M.square().sum() + 1e-12).sqrt()


def _evaluate(W: Tensor, H: Tensor, Y: Tensor) -> tuple[float, float]:
    if len(W) < 2:
        return 1.0, float(auroc_cosine(W, H, Y).nanmean())
    return float(orthogonality(W, denominator="k").mean()), float(auroc_cosine(W, H, Y).nanmean())
