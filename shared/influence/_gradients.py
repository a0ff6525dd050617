"""Per-sample gradients, random projection, and TracIn with its one-checkpoint forms (GradDot, GradCos)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared._checks import check_array, check_choice, check_range
from shared.influence._base import Attributor
from shared.influence._classifier import Checkpoint, TrainedClassifier
from shared.influence._functional import TrainableLogits
from shared.influence._outputs import OUTPUTS, explained, output_gradient
from shared.influence._rows import Inputs, as_rows, check_rows
from shared.stats import unit_norm

LAYERS = ("head", "all")
_BUDGET = 2**28  # floats that a matrix of per-sample gradients may hold


class RandomProjection:
    """g `(B, P)` -> g R `(B, k)`, R of ±1/√k: inner products are kept in expectation.

    The matrix is drawn in blocks of rows and kept only if it is small, so P may be in the millions.

    Parameters
    ----------
    k : int
        Dimensions to keep.
    random_state : int
        Seed of R.
    """

    _ROWS, _KEEP = 2**15, 2**26

    def __init__(self, k: int, *, random_state: int = 0) -> None:
        check_range("k", k, 1)
        self.k = k
        self.random_state = random_state
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
        generator = torch.Generator().manual_seed(self.random_state * 1_000_003 + number)
        signs = torch.randint(0, 2, (rows, self.k), generator=generator, dtype=torch.int8)
        block = (2 * signs - 1).to(like) / self.k**0.5
        if (number + 1) * self._ROWS * self.k <= self._KEEP:
            self._blocks[number] = block
        return block


def per_sample_gradients(
    net: TrainedClassifier,
    x: Inputs,
    targets: Tensor,
    *,
    output: str = "logp",
    projection: RandomProjection | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Gradients of the explained output in all trainable parameters, one row per input.

    Parameters
    ----------
    net : TrainedClassifier
        The network.
    x : Tensor, Dataset or DataLoader
        Inputs `(B, …)` shaped like the training data.
    targets : Tensor
        Classes `(B,)`.
    output : str
        "logp", "logit" or "margin" (log-odds) of the class.
    projection : RandomProjection, optional
        Applied to the gradients.
    batch_size : int, optional
        Inputs at once; by default the network's, at most 64.

    Returns
    -------
    Tensor
        `(B, P)`, or `(B, k)` projected.

    Raises
    ------
    ValueError
        B · P floats exceed the budget (2^28) and no projection is given; a model that is frozen or recurrent.
    """
    check_choice("output", output, OUTPUTS)
    x = as_rows("x", x)
    check_rows("x", x, ("B", *net.x.shape[1:]))
    check_array("targets", targets, (len(x),))
    function = TrainableLogits(net)
    if projection is None and len(x) * function.size > _BUDGET:
        raise ValueError(f"{len(x)} gradients of {function.size} parameters exceed 2^28 numbers; give projection=")
    size = min(64, net.batch_size) if batch_size is None else batch_size
    check_range("batch_size", size, 1)

    def value(parameters: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
        return explained(function(parameters, one[None])[0], target, output)

    gradients = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0, 0))
    rows = []
    for part, classes in zip(x.split(size), targets.split(size), strict=True):
        made = gradients(function.parameters, net.placed(part), classes)
        flat = torch.cat([g.flatten(1) for g in made.values()], 1)
        rows.append(flat if projection is None else projection(flat))
    return torch.cat(rows)


class TracIn(Attributor):
    """τ_i = Σ_k η_k ∇log p(c | x) · ∇log p(y_i | x_i) over checkpoints k (Pruthi et al. 2020).

    Both gradients are of log-probabilities, so positive means proponent. One checkpoint with η = 1 is GradDot; with
    `cosine` it is GradCos.

    Parameters
    ----------
    checkpoints : sequence of Checkpoint
        Weights along training with their learning rates; none means the network as it is.
    layers : str
        "head" takes the last layer's gradients in closed form, "all" those of every trainable parameter.
    projection : int, optional
        Project "all" gradients to this many dimensions.
    cosine : bool
        Divide by both gradients' norms at each checkpoint. A point's self-influence is then the same for all, which
        `self_influence` warns of.
    random_state : int
        Seed of the projection.
    """

    def __init__(
        self,
        *,
        checkpoints: Sequence[Checkpoint] = (),
        layers: str = "head",
        projection: int | None = None,
        cosine: bool = False,
        random_state: int = 0,
    ) -> None:
        self.layers = check_choice("layers", layers, LAYERS)
        self.cosine = cosine
        self.checkpoints = list(checkpoints)
        self.projection = RandomProjection(projection, random_state=random_state) if projection else None
        self.name = "GradCos" if cosine else "TracIn" if self.checkpoints else "GradDot"

    def _fit(self, net: TrainedClassifier) -> None:
        stages = [(c.lr, net.at(c)) for c in self.checkpoints] or [(1.0, net)]
        self._stages = [(lr, at, self._gradients(at, at.x, at.train_features, at.y)) for lr, at in stages]

    def _gradients(self, at: TrainedClassifier, x: Tensor, features: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Factors whose inner products multiply: (residual, features) for the head, (gradient,) for all."""
        if self.layers == "head":
            factors = output_gradient(at.logits(features), targets, "logp"), at.augmented(features)
        else:
            factors = (per_sample_gradients(at, x, targets, projection=self.projection),)
        return tuple(unit_norm(f, dim=1) for f in factors) if self.cosine else factors

    def _attribute(self, x: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        tau = features.new_zeros(len(x), len(self.fitted))
        for lr, at, train in self._stages:
            test = self._gradients(at, x, features if at is self.fitted else at.features(x), targets)
            tau += lr * torch.stack([a @ b.T for a, b in zip(test, train)]).prod(0)
        return tau

    def _self_influence(self, net: TrainedClassifier) -> Tensor:
        def own(factors: tuple[Tensor, ...]) -> Tensor:
            """Inner products with itself; cosines are exactly 1, 0 without gradient: rounding must not rank."""
            squares = torch.stack([f.square().sum(1) for f in factors])
            return ((squares > 0).to(squares) if self.cosine else squares).prod(0)

        return sum(lr * own(train) for lr, _, train in self._stages)
