"""Influence functions (Koh & Liang 2017) on the generalised Gauss-Newton curvature, with five solvers."""

from __future__ import annotations

import torch
from torch import Tensor

from shared._checks import check_choice, check_range
from shared.influence._base import Attributor
from shared.influence._classifier import TrainedClassifier
from shared.influence._curvature import Curvature, FullCurvature, HeadCurvature
from shared.influence._ekfac import KroneckerEigenbasis
from shared.influence._gradients import LAYERS
from shared.influence._ihvp import arnoldi, conjugate_gradients, lissa
from shared.influence._outputs import OUTPUTS

SOLVERS = ("exact", "cg", "lissa", "arnoldi", "ekfac")
_DENSE = 4000  # parameters up to which a dense curvature is built
_BLOCK = 2**27  # numbers in a block of right-hand sides


class InfluenceFunctions(Attributor):
    """τ_i = φᵀ (G + λ I)⁻¹ ∇log p(y_i | x_i): what more weight on a training point adds to the explained output.

    φ is the gradient of the explained output; a point's self-influence takes its own gradient for φ.

    Parameters
    ----------
    solver : str
        "exact" factorises G (up to 4,000 parameters); "cg" runs conjugate gradients and "lissa" a stochastic Neumann
        series for each test point; "arnoldi" projects onto G's leading eigenvectors once; "ekfac" takes G as diagonal
        in the eigenbasis of its Kronecker factors (of the head only).
    layers : str
        Parameters of the "head" (in closed form, trainable or not) or the trainable ones of "all" layers.
    output : str
        "margin" (log-odds of the class), "logit" or "logp".
    damping : float
        λ.
    tol : float
        Of conjugate gradients; the last relative residual is kept in `residual_`.
    max_iterations : int
        Of conjugate gradients.
    depth : int
        Steps of LiSSA.
    points_per_step : int
        Training points drawn for each step of LiSSA.
    scale : float, optional
        LiSSA's divisor, which must exceed G's largest eigenvalue; by default estimated by the power method.
    steps : int
        Of Arnoldi: products with G.
    rank : int
        Of Arnoldi: eigenvectors kept.
    generator : torch.Generator, optional
        For LiSSA's points and Arnoldi's start; by default seeded with 0.
    """

    def __init__(
        self,
        *,
        solver: str = "cg",
        layers: str = "head",
        output: str = "margin",
        damping: float = 1e-3,
        tol: float = 1e-5,
        max_iterations: int = 100,
        depth: int = 500,
        points_per_step: int = 64,
        scale: float | None = None,
        steps: int = 100,
        rank: int = 50,
        generator: torch.Generator | None = None,
    ) -> None:
        self.solver = check_choice("solver", solver, SOLVERS)
        self.layers = check_choice("layers", layers, LAYERS)
        self.output = check_choice("output", output, OUTPUTS)
        if solver == "ekfac" and layers != "head":
            raise ValueError(f"solver='ekfac' takes layers='head'; got layers={layers!r}")
        check_range("damping", damping, 0.0)
        check_range("tol", tol, 0.0)
        check_range("max_iterations", max_iterations, 1)
        check_range("depth", depth, 1)
        check_range("points_per_step", points_per_step, 1)
        check_range("steps", steps, 1)
        check_range("rank", rank, 1, steps)
        self.damping = damping
        self.tol, self.max_iterations = tol, max_iterations
        self.depth = depth
        self.points_per_step = points_per_step
        self.scale = scale
        self.steps, self.rank = steps, rank
        self.generator = generator
        self.name = f"influence, {solver}" + (", all layers" if layers == "all" else "")

    def _fit(self, net: TrainedClassifier) -> None:
        self.curvature: Curvature = (HeadCurvature if self.layers == "head" else FullCurvature)(net)
        if self.solver == "exact":
            self._factorise()
        elif self.solver == "arnoldi":
            self._project()
        elif self.solver == "ekfac":
            self._basis = KroneckerEigenbasis(self.curvature.F, self.curvature.p)

    def _matvec(self, V: Tensor) -> Tensor:
        return self.curvature.matvec(V) + self.damping * V

    def _factorise(self) -> None:
        if self.curvature.size > _DENSE:
            raise ValueError(f"solver='exact' takes up to {_DENSE} parameters; these layers have {self.curvature.size}")
        G = self.curvature.dense()
        G.diagonal().add_(self.damping)
        factor, failed = torch.linalg.cholesky_ex(G)
        if int(failed):
            raise ValueError(f"the curvature isn't positive definite with damping={self.damping:g}; raise it")
        self._factor = factor

    def _rng(self, like: Tensor) -> torch.Generator:
        return self.generator or torch.Generator(like.device).manual_seed(0)

    def _project(self) -> None:
        like = self.fitted.train_features.new_empty(self.curvature.size)
        values, vectors = arnoldi(self.curvature.matvec, like, self.steps, self.rank, self._rng(like))
        self.eigenvalues_, self._vectors = values, vectors
        self._train = self.curvature.train_dot(vectors)  # (r, N)

    def _solve(self, B: Tensor) -> Tensor:
        if self.solver == "exact":
            return torch.cholesky_solve(B.T, self._factor).T
        if self.solver == "ekfac":
            return self._basis.solve(B, self.damping)
        if self.solver == "cg":
            V, self.iterations_, self.residual_ = conjugate_gradients(self._matvec, B, self.tol, self.max_iterations)
            return V
        generator, N = self._rng(B), len(self.fitted)

        def sampled(V: Tensor) -> Tensor:
            number = min(self.points_per_step, N)
            rows = torch.randint(N, (number,), generator=generator, device=generator.device).to(B.device)
            return self.curvature.matvec(V, rows) + self.damping * V

        return lissa(sampled, B, self.scale or self._largest(B), self.depth)

    def _largest(self, B: Tensor) -> float:
        """Twice the largest eigenvalue, by ten power iterations: batches exceed the mean."""
        v = torch.randn(1, B.shape[1], generator=self._rng(B), device=B.device, dtype=B.dtype)
        for _ in range(10):
            v = v / v.norm()
            v = self._matvec(v)
        return 2 * float(v.norm())

    def _weighted(self, B: Tensor) -> Tensor:
        """Coordinates of (G + λ)⁻¹ b in Arnoldi's basis, (T, r)."""
        return (B @ self._vectors.T) / (self.eigenvalues_ + self.damping)

    def _attribute(self, x: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        step = max(1, _BLOCK // self.curvature.size)
        parts = []
        for xs, fs, cs in zip(x.split(step), features.split(step), targets.split(step)):
            B = self.curvature.test(xs, fs, cs, self.output)
            if self.solver == "arnoldi":
                parts.append(self._weighted(B) @ self._train)
            else:
                parts.append(self.curvature.train_dot(self._solve(B)))
        return torch.cat(parts)

    def _self_influence(self, net: TrainedClassifier) -> Tensor:
        if self.solver == "arnoldi":
            return (self._train.square() / (self.eigenvalues_ + self.damping)[:, None]).sum(0)
        G = self.curvature.train()
        return torch.cat([(self._solve(B) * B).sum(1) for B in G.split(max(1, _BLOCK // self.curvature.size))])
