"""Linear maps between the representations of two models on the same inputs (Atlas-Alignment, Puri et al. 2025)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_range, wide
from shared.stats import unit_norm

ROWS = (None, "l2")
COLUMNS = (None, "std")


@dataclass(frozen=True)
class LinearMap:
    """A map from a subject's representation to an atlas's, and back for directions.

    Parameters
    ----------
    matrix : Tensor
        M `(d_s, d_a)`, float64.
    mean_subject, mean_atlas : Tensor
        `(d_s,)` and `(d_a,)`.
    kind : str
        Which map it is.
    """

    matrix: Tensor
    mean_subject: Tensor
    mean_atlas: Tensor
    kind: str

    def to_atlas(self, subject: Tensor) -> Tensor:
        """What the atlas would say: `(s − mean) M + mean`.

        Parameters
        ----------
        subject : Tensor
            `(n, d_s)`.

        Returns
        -------
        Tensor
            `(n, d_a)` float64.
        """
        check_array("subject", subject, (None, len(self.matrix)))
        return (subject.to(self.matrix) - self.mean_subject) @ self.matrix + self.mean_atlas

    def to_subject(self, directions: Tensor) -> Tensor:
        """Atlas directions v in the subject's space: `M v`.

        Parameters
        ----------
        directions : Tensor
            `(k, d_a)`.

        Returns
        -------
        Tensor
            `(k, d_s)` float64.
        """
        check_array("directions", directions, (None, self.matrix.shape[1]))
        return directions.to(self.matrix) @ self.matrix.T

    def read_out(self, subject: Tensor, directions: Tensor) -> Tensor:
        """How far subject vectors lie along atlas directions v: `(s − mean) · M v`.

        Parameters
        ----------
        subject : Tensor
            `(n, d_s)`.
        directions : Tensor
            `(k, d_a)`.

        Returns
        -------
        Tensor
            `(n, k)` float64.
        """
        check_array("subject", subject, (None, len(self.matrix)))
        return (subject.to(self.matrix) - self.mean_subject) @ self.to_subject(directions).T


class PairedMoments:
    """Second moments of two models' representations of the same inputs, in one pass, and the maps they give.

    Parameters
    ----------
    rows : None or "l2"
        "l2" scales each vector to length 1 about its origin first.
    origins : (Tensor (d_s,), Tensor (d_a,)), optional
        Of `rows="l2"`: usually the means of both sides. Without them the vectors are scaled as they are, and a constant
        that is added to all of them changes the result.
    """

    def __init__(self, *, rows: str | None = None, origins: tuple[Tensor, Tensor] | None = None) -> None:
        self.rows = check_choice("rows", rows, ROWS)
        self.origins = origins
        self.n = 0

    def update(self, subject: Tensor, atlas: Tensor) -> PairedMoments:
        """Add inputs: row i of both is the same input, whatever the tokenizers.

        Parameters
        ----------
        subject, atlas : Tensor
            `(n, d_s)` and `(n, d_a)`, float.

        Returns
        -------
        PairedMoments
            Itself.

        Raises
        ------
        ValueError
            For different numbers of rows, other widths than before, NaN or infinity.
        """
        s, a = self._prepared(subject, atlas)
        if self.n == 0:  # moments about the first rows' means: large common offsets cancel before they are squared
            self._shift = s.mean(0), a.mean(0)
            widths = s.shape[1], a.shape[1]
            self._sums = [s.new_zeros(d) for d in widths]
            self._ss, self._sa = s.new_zeros(widths[0], widths[0]), s.new_zeros(widths)
            self._aa = a.new_zeros(widths[1])
        s, a = s - self._shift[0], a - self._shift[1]
        self.n += len(s)
        self._sums[0] += s.sum(0)
        self._sums[1] += a.sum(0)
        self._ss += s.T @ s
        self._sa += s.T @ a
        self._aa += a.square().sum(0)
        return self

    def covariance(self) -> LinearMap:
        """C = S̃ᵀÃ / N of centred vectors: what of the subject goes with what of the atlas."""
        return self._map("covariance", self._moments()[1])

    def correlation(self) -> LinearMap:
        """The correlations R, in the vectors' own units: diag(1/σ_s) R diag(σ_a). Constant columns give 0."""
        cov, cross, _ = self._moments()
        return self._map("correlation", _inverse_root(cov.diagonal()).square()[:, None] * cross)

    def ridge(self, *, penalty: float = 0.1) -> LinearMap:
        """Linear regression of the atlas on the subject: (S̃ᵀS̃/N + λI)⁻¹ C.

        Parameters
        ----------
        penalty : float, 0 or more
            λ in units of the subject's mean variance.

        Returns
        -------
        LinearMap

        Raises
        ------
        ValueError
            For a negative penalty; for 0 where the subject's columns are dependent.
        """
        check_range("penalty", penalty, 0)
        cov, cross, _ = self._moments()
        cov = cov + penalty * cov.diagonal().mean() * torch.eye(len(cov), dtype=cov.dtype, device=cov.device)
        factor, failed = torch.linalg.cholesky_ex(cov)
        if failed or float(factor.diagonal().min()) < 1e-7 * float(factor.diagonal().max()):
            raise ValueError(f"penalty={penalty}: the subject's columns are dependent over {self.n} inputs; give more")
        return self._map("ridge", torch.cholesky_solve(cross, factor))

    def procrustes(self, *, columns: str | None = None) -> LinearMap:
        """The rotation that brings the subject nearest to the atlas: U Vᵀ of C = U Σ Vᵀ.

        For widths that differ it is semi-orthogonal: a rotation of the smaller space into the larger.

        Parameters
        ----------
        columns : None or "std"
            "std" rotates columns of deviation 1 and returns to the vectors' units.

        Returns
        -------
        LinearMap
        """
        check_choice("columns", columns, COLUMNS)
        cov, cross, variance = self._moments()
        if columns is None:
            return self._map("procrustes", _polar(cross))
        left, right = _inverse_root(cov.diagonal()), _inverse_root(variance)
        turned = _polar(left[:, None] * cross * right)
        return self._map("procrustes", left[:, None] * turned * torch.where(right > 0, 1 / right, 0))

    def _prepared(self, subject: Tensor, atlas: Tensor) -> list[Tensor]:
        widths = [None, None] if self.n == 0 else [len(shift) for shift in self._shift]
        check_array("subject", subject, (None, widths[0]))
        check_array("atlas", atlas, (len(subject), widths[1]))
        if len(subject) == 0:
            raise ValueError("subject has no rows; expected at least one")
        both = [wide(subject), wide(atlas)]
        if self.rows is None:
            return both
        origins = self.origins or (x.new_zeros(x.shape[1]) for x in both)
        return [unit_norm(x - origin.to(x)) for x, origin in zip(both, origins)]

    def _moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Covariance of the subject, cross-covariance, variances of the atlas."""
        if self.n < 2:
            raise ValueError(f"{self.n} inputs were given to update(); at least 2 are needed")
        if self.n < max(self._sa.shape) / 4:
            warnings.warn(f"{self.n} inputs for widths {tuple(self._sa.shape)}: the map is mostly noise", stacklevel=3)
        mean_s, mean_a = (total / self.n for total in self._sums)
        cov = self._ss / self.n - torch.outer(mean_s, mean_s)
        return cov, self._sa / self.n - torch.outer(mean_s, mean_a), self._aa / self.n - mean_a.square()

    def _map(self, kind: str, matrix: Tensor) -> LinearMap:
        means = (shift + total / self.n for shift, total in zip(self._shift, self._sums))
        return LinearMap(matrix, *means, kind)


def semantic_lens_map(subject: Tensor, atlas: Tensor, *, n_top: int = 20) -> LinearMap:
    """What each subject feature's strongest inputs mean in the atlas: row j is their mean atlas vector less the mean.

    Parameters
    ----------
    subject, atlas : Tensor
        `(n, d_s)` and `(n, d_a)`, float: the same inputs.
    n_top : int
        Inputs per feature, 1 to n.

    Returns
    -------
    LinearMap

    Raises
    ------
    ValueError
        For different numbers of rows, or `n_top` out of range.

    Notes
    -----
    After SemanticLens (Dreyer et al. 2025), where a component stands for its most activating inputs.
    """
    check_array("subject", subject, (None, None))
    check_array("atlas", atlas, (len(subject), None))
    check_range("n_top", n_top, 1, len(subject))
    s, a = wide(subject), wide(atlas)
    top = s.topk(n_top, dim=0).indices.T
    return LinearMap(a[top].mean(1) - a.mean(0), s.mean(0), a.mean(0), "semantic lens")


def _inverse_root(variance: Tensor) -> Tensor:
    """1/σ, and 0 where the variance is rounding only."""
    least = 1e-14 * variance.max().clamp_min(torch.finfo(variance.dtype).tiny)
    return torch.where(variance > least, variance.clamp_min(least).rsqrt(), 0)


def _polar(matrix: Tensor) -> Tensor:
    """U Vᵀ of the singular value decomposition."""
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vt
