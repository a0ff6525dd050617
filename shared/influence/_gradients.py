"""Per-sample gradients, random projection, and TracIn with its one-checkpoint forms (GradDot, GradCos)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from shared._checks import check_choice, check_range
from shared.influence._base import Attributor
from shared.influence._classifier import Checkpoint, Classifier
from shared.influence._outputs import OUTPUTS, explained, output_gradient

LAYERS = ("head", "all")
_BUDGET = 2**28  # floats that a matrix of per-sample gradients may hold


class RandomProjection:
    """g (B, P) -> g R (B, k), R of ±1/√k drawn from `seed`: inner products are kept in expectation.

    The matrix is drawn in blocks of rows and kept only if it is small, so P may be in the millions.
    """

    _ROWS, _KEEP = 2**15, 2**26

    def __init__(self, k: int, seed: int = 0) -> None:
        check_range("k", k, 1)
        self.k, self.seed = k, seed
        self._blocks: dict[int, Tensor] = {}

    def __call__(self, g: Tensor) -> Tensor:
        out = g.new_zeros(len(g), self.k)
        for number, part in enumerate(g.split(self._ROWS, 1)):
            out += part @ self._block(number, part.shape[1], g)
        return out

    def _block(self, number: int, rows: int, like: Tensor) -> Tensor:
        found = self._blocks.get(number)
        if found is not None and len(found) == rows:
            return found.to(like)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        signs = torch.randint(0, 2, (rows, self.k), generator=generator, dtype=torch.int8)
        block = (2 * signs - 1).to(like) / self.k**0.5
        if (number + 1) * self._ROWS * self.k <= self._KEEP:
            self._blocks[number] = block
        return block


def per_sample_gradients(
    net: Classifier,
    x: Tensor,
    targets: Tensor,
    output: str = "logp",
    *,
    projection: RandomProjection | None = None,
    chunk: int = 64,
) -> Tensor:
    """Gradients of the explained output in all parameters, one row per input: (B, P), or (B, k) projected.

    Raises `ValueError` if B P floats exceed the budget (2^28) and no projection is given.
    """
    check_choice("output", output, OUTPUTS)
    parameters = {name: p.detach() for name, p in net.model.named_parameters()}
    size = sum(p.numel() for p in parameters.values())
    if projection is None and len(x) * size > _BUDGET:
        raise ValueError(f"{len(x)} gradients of {size} parameters exceed 2^28 numbers; give projection=")
    buffers = dict(net.model.named_buffers())

    def value(parameters: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
        return explained(net.output(net.model, (parameters, buffers), one[None])[0], target, output)

    gradients = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0, 0))
    rows = []
    for part, classes in zip(x.split(chunk), targets.split(chunk)):
        made = gradients(parameters, part.to(targets.device), classes)
        flat = torch.cat([g.flatten(1) for g in made.values()], 1)
        rows.append(flat if projection is None else projection(flat))
    return torch.cat(rows)


class TracIn(Attributor):
    """τ_i = Σ_k η_k ∇log p(c | x) · ∇log p(y_i | x_i) over checkpoints k (Pruthi et al. 2020).

    Both gradients are of log-probabilities, so positive means proponent. One checkpoint with η = 1 is GradDot; with
    `cosine` it is GradCos.

    Args:
        checkpoints: weights along training with their learning rates; none means the network as it is.
        layers: "head" takes the last layer's gradients in closed form, "all" those of every parameter.
        projection: project "all" gradients to this many dimensions.
        cosine: divide by both gradients' norms at each checkpoint.
    """

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint] = (),
        *,
        layers: str = "head",
        projection: int | None = None,
        cosine: bool = False,
        seed: int = 0,
    ) -> None:
        self.layers, self.cosine = check_choice("layers", layers, LAYERS), cosine
        self.checkpoints = list(checkpoints)
        self.projection = RandomProjection(projection, seed) if projection else None
        self.name = "GradCos" if cosine else "TracIn" if self.checkpoints else "GradDot"

    def _fit(self, net: Classifier) -> None:
        stages = [(c.lr, net.at(c)) for c in self.checkpoints] or [(1.0, net)]
        self._stages = [(lr, at, self._gradients(at, at.x, at.train_features, at.y)) for lr, at in stages]

    def _gradients(self, at: Classifier, x: Tensor, features: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Factors whose inner products multiply: (residual, features) for the head, (gradient,) for all."""
        if self.layers == "head":
            factors = output_gradient(at.logits(features), targets, "logp"), at.augmented(features)
        else:
            factors = (per_sample_gradients(at, x, targets, projection=self.projection),)
        return tuple(F.normalize(f, dim=1) for f in factors) if self.cosine else factors

    def _attribute(self, x: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        tau = features.new_zeros(len(x), len(self.fitted))
        for lr, at, train in self._stages:
            test = self._gradients(at, x, features if at is self.fitted else at.features(x), targets)
            tau += lr * torch.stack([a @ b.T for a, b in zip(test, train)]).prod(0)
        return tau

    def _self_influence(self, net: Classifier) -> Tensor:
        return sum(lr * torch.stack([f.square().sum(1) for f in train]).prod(0) for lr, _, train in self._stages)
