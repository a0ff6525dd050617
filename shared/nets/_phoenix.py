"""A neural ODE of gene expression with an additive and a multiplicative branch, in many copies, and its solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_range

SOLVERS = ("rk4", "dopri5")


class Phoenix(nn.Module):
    """The right-hand side of PHOENIX: how fast each gene's expression changes, given that of all genes.

    `relu(rate) * (out_sums(sums σ(x)) + out_products exp(products log(1 + σ(x))) - x)` with biases in the first layers
    and the Hill-like `σ(x) = (x - ½) / (1 + |x - ½|)`. With `copies` every parameter has these leading dimensions: as
    many independent networks, trained by one optimiser at the price of a few large products.

    Parameters
    ----------
    n_genes : genes.
    n_hidden : hidden neurons of each branch; the authors take 40 for 350 genes.
    copies : leading dimensions of all parameters; none for one network.
    generator : draws the initial weights: first layers sparse (95 % zeros) and small, last layers orthogonal, rates
        uniform on [0, 1].

    Attributes
    ----------
    sums, products : (..., n_hidden, n_genes), the first layers.
    sums_bias, products_bias : (..., n_hidden).
    out_sums, out_products : (..., n_genes, n_hidden), the last layers.
    rate : (..., n_genes), the genes' multipliers.

    References
    ----------
    Hossain et al. 2024, Biologically informed NeuralODEs for genome-wide regulatory dynamics, Genome Biology 25:127.
    """

    WEIGHTS = ("sums", "products", "out_sums", "out_products")

    def __init__(
        self,
        n_genes: int,
        n_hidden: int,
        *,
        copies: Sequence[int] = (),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_range("n_genes", n_genes, 1)
        check_range("n_hidden", n_hidden, 1)
        shape = (*copies, n_hidden, n_genes)
        self.sums = nn.Parameter(_sparse(shape, generator))
        self.products = nn.Parameter(_sparse(shape, generator))
        bound = n_genes**-0.5
        for name in ("sums_bias", "products_bias"):
            bias = torch.rand(*copies, n_hidden, generator=generator)
            setattr(self, name, nn.Parameter((2 * bias - 1) * bound))
        self.out_sums = nn.Parameter(_orthogonal(shape, generator))
        self.out_products = nn.Parameter(_orthogonal(shape, generator))
        self.rate = nn.Parameter(torch.rand(*copies, n_genes, generator=generator))

    def drive(self, x: Tensor) -> Tensor:
        """What production pulls each gene to: the bracket without its decay.

        Parameters
        ----------
        x : (..., B, n_genes), expression; leading dimensions as the copies'.

        Returns
        -------
        The same shape.
        """
        s = _soft_sign(x)
        sums = s @ self.sums.mT + self.sums_bias.unsqueeze(-2)
        products = torch.exp(torch.log1p(s) @ self.products.mT + self.products_bias.unsqueeze(-2))
        return sums @ self.out_sums.mT + products @ self.out_products.mT

    def forward(self, x: Tensor) -> Tensor:
        """Change of expression per unit of time.

        Parameters
        ----------
        x : (..., B, n_genes).

        Returns
        -------
        The same shape.
        """
        return torch.relu(self.rate).unsqueeze(-2) * (self.drive(x) - x)

    @torch.no_grad()
    def effects(self) -> Tensor:
        """Effect of each gene on each other one along all paths; exactly zero where no path of weights is left.

        Returns
        -------
        (..., n_genes, n_genes), rows the regulators.
        """
        paths = self.sums.mT @ self.out_sums.mT + self.products.mT @ self.out_products.mT
        return paths * torch.relu(self.rate).unsqueeze(-2)


def _soft_sign(x: Tensor) -> Tensor:
    shifted = x - 0.5
    return shifted / (1 + shifted.abs())


def _sparse(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Normal weights of sd 0.05, 95 % of each column zero, as `torch.nn.init.sparse_`."""
    keep = shape[-2] - -(-95 * shape[-2] // 100)
    order = torch.rand(shape, generator=generator).argsort(-2).argsort(-2)
    return torch.where(order < max(keep, 1), 0.05 * torch.randn(shape, generator=generator), 0.0)


def _orthogonal(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """(..., n_genes, n_hidden) with orthonormal columns, or rows where these are fewer."""
    hidden, genes = shape[-2:]
    tall = torch.randn(*shape[:-2], max(hidden, genes), min(hidden, genes), generator=generator)
    q = torch.linalg.qr(tall).Q
    return (q if genes >= hidden else q.mT).contiguous()


def solve_step(
    field: Callable[[Tensor], Tensor],
    x: Tensor,
    dt: Tensor | float,
    *,
    solver: str = "rk4",
    substeps: int = 1,
) -> Tensor:
    """Where an autonomous ODE's flow takes states in one interval of time.

    Parameters
    ----------
    field : states -> their change per unit of time, in the states' shape.
    x : (..., n), states.
    dt : interval; a number, or a tensor that broadcasts against `x`.
    solver : "rk4", the classical Runge–Kutta method of fixed steps, or "dopri5", adaptive, by torchdiffeq.
    substeps : steps of "rk4".

    Returns
    -------
    States after `dt`, in the shape of `x`.

    Raises
    ------
    ValueError
        States or intervals that aren't finite, an unknown solver, no steps.
    """
    check_choice("solver", solver, SOLVERS)
    check_range("substeps", substeps, 1)
    check_finite("x", x)
    if isinstance(dt, Tensor):
        check_finite("dt", dt)
    if solver == "dopri5":
        from torchdiffeq import odeint

        return odeint(lambda _, y: dt * field(y), x, x.new_tensor([0.0, 1.0]), method="dopri5", rtol=1e-6, atol=1e-7)[1]
    h = dt / substeps
    for _ in range(substeps):
        k1 = field(x)
        k2 = field(x + 0.5 * h * k1)
        k3 = field(x + 0.5 * h * k2)
        x = x + h / 6 * (k1 + 2 * (k2 + k3) + field(x + h * k3))
    return x
