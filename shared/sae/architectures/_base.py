"""What sets architectures apart, as the slots every one of them fills."""

# ruff: noqa: B027 (slots that most architectures have nothing to put in)
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from shared.sae._sparse import Pattern, SparseCodes, chunks, offsets_of

if TYPE_CHECKING:
    from shared.sae._config import SAEConfig
    from shared.sae._model import SparseDict
    from shared.sae._normalise import RowStats


class TrainBatch(NamedTuple):
    """One training batch, checked and of the dictionary's type.

    Attributes
    ----------
    x : Tensor
        Inputs `(B, d_in)`.
    y : Tensor
        What is to be predicted, `(B, d_out)`: x itself for autoencoders.
    centred : Tensor
        What `W_enc` multiplies, `(B, d_in)`.
    stats : RowStats or None
        Run-time normalisation of x.
    dead : Tensor or None
        Bool `(d_sae,)`: latents for AuxK to revive.
    sparsity : float
        Factor of the L1 or L0 term (its warm-up).
    """

    x: Tensor
    y: Tensor
    centred: Tensor
    stats: RowStats | None
    dead: Tensor | None
    sparsity: float


class TrainOut(NamedTuple):
    """One training pass: what is differentiated, and what the loop keeps count of.

    Attributes
    ----------
    loss : Tensor
        To differentiate: the sum of its parts.
    parts : dict of str to Tensor
        "reconstruction" and the penalties, detached.
    codes : Tensor or SparseCodes
        `(B, d_sae)`.
    fired : Tensor
        Bool `(d_sae,)`: active somewhere in the batch.
    errors : Tensor
        Squared error of each row `(B,)`, detached.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    codes: Tensor | SparseCodes
    fired: Tensor
    errors: Tensor

    @classmethod
    def add_up(
        cls, codes: Tensor | SparseCodes, errors: Tensor, reconstruction: Tensor, penalties: dict[str, Tensor]
    ) -> TrainOut:
        """The sum of a reconstruction term and penalties.

        Parameters
        ----------
        codes : Tensor or SparseCodes
            `(B, d_sae)`.
        errors : Tensor
            Squared error of each row `(B,)`.
        reconstruction : Tensor
            Scalar.
        penalties : dict of str to Tensor
            Scalars by name, with their weights in them.

        Returns
        -------
        TrainOut
            With everything but the loss detached.
        """
        terms = {"reconstruction": reconstruction, **penalties}
        fired = codes.fired() if isinstance(codes, SparseCodes) else (codes.detach() > 0).any(0)
        loss = reconstruction
        for penalty in penalties.values():
            loss = loss + penalty
        return cls(loss, {name: term.detach() for name, term in terms.items()}, codes, fired, errors.detach())


def squared_errors(y: Tensor, y_hat: Tensor) -> Tensor:
    """‖y - ŷ‖² of each row: summed over dimensions."""
    return (y - y_hat).square().sum(1)


class Architecture(ABC):
    """How pre-activations become codes, at inference and in training. Objects hold no state: the dictionary does.

    A new one says its `name`, how it activates (see `Thresholded` where a threshold decides) and its training loss. The
    other slots are for what some have: fields of the configuration to check, a threshold, a constraint on it.
    """

    name: str
    may_resample = False  # whether `fit` may start silent latents anew

    def check(self, cfg: SAEConfig) -> None:
        """Raise `ValueError` for fields of a configuration that don't fit."""

    def add_threshold(self, sae: SparseDict) -> None:
        """Give a new dictionary its threshold, if it has one."""

    # --- codes at inference -------------------------------------------------------------------------------------------

    @abstractmethod
    def activate(self, sae: SparseDict, z: Tensor) -> Tensor:
        """Codes `(B, d_sae)` from pre-activations `(B, d_sae)`, differentiable."""

    @abstractmethod
    def activate_(self, sae: SparseDict, z: Tensor) -> None:
        """As `activate`, in place."""

    @abstractmethod
    def sparse_codes(self, sae: SparseDict, centred: Tensor) -> SparseCodes:
        """Codes of `centred` `(B, d_in)` without the dense tensor, without gradients."""

    # --- training -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, sae: SparseDict, batch: TrainBatch) -> TrainOut:
        """The loss of one batch. Squared errors are summed over dimensions and averaged over rows."""

    def constrain_(self, sae: SparseDict) -> None:
        """Bring what an optimiser step has moved back to where it is allowed."""

    def follow_threshold_(
        self, sae: SparseDict, codes: Tensor | SparseCodes, beta: float, reduce: Callable[[Tensor, str], Tensor]
    ) -> None:
        """Let a threshold that isn't learned follow the batch's codes; `reduce` combines processes."""

    # --- changes that keep the function -------------------------------------------------------------------------------

    def fold_norms_(self, sae: SparseDict, norms: Tensor) -> None:
        """Scale the threshold as pre-activations will be, by `norms` `(d_sae,)`."""

    def calibrate_(self, sae: SparseDict, centred: Tensor) -> None:
        """Set a batch top-k's threshold from rows `(B, d_in)`."""
        raise ValueError(f"architecture={self.name!r} has no batch threshold; batchtopk and matryoshka have one")

    def at_inference(self, sae: SparseDict) -> tuple[SAEConfig, dict[str, Tensor]]:
        """Configuration and parameters of the dictionary that it is at inference."""
        return sae.cfg, dict(sae.named_parameters())


class Thresholded(Architecture):
    """Codes are the pre-activations above a threshold, and zero elsewhere."""

    @abstractmethod
    def cut(self, sae: SparseDict) -> Tensor | float:
        """The threshold, at least 0: one for all, or `(d_sae,)`."""

    def activate(self, sae: SparseDict, z: Tensor) -> Tensor:
        """Codes `(B, d_sae)` from pre-activations `(B, d_sae)`, differentiable."""
        return torch.where(z > self.cut(sae), z, 0.0)

    def activate_(self, sae: SparseDict, z: Tensor) -> None:
        """As `activate`, in place."""
        z.mul_(z > self.cut(sae))

    def sparse_codes(self, sae: SparseDict, centred: Tensor) -> SparseCodes:
        """Codes of `centred` `(B, d_in)` without the dense tensor, without gradients."""
        found = []
        for part in chunks(centred, sae.cfg.d_sae):
            z = torch.addmm(sae.b_enc, part, sae.W_enc)
            rows, columns = (z > self.cut(sae)).nonzero(as_tuple=True)
            found.append((z[rows, columns], columns, torch.bincount(rows, minlength=len(part))))
        values, columns, counts = (torch.cat(parts) for parts in zip(*found, strict=True))
        shape = torch.Size((len(centred), sae.cfg.d_sae))
        return SparseCodes(values, Pattern(columns, offsets_of(counts), sae.cfg.d_sae), shape)
