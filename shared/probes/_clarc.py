"""Class artifact compensation: projective, augmentive and reactive corrections of a model's activations.

P-ClArC and A-ClArC: Anders et al. 2022 (arXiv 1912.11425); R-ClArC: Bareeva et al. 2024 (arXiv 2404.09601).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from shared import hooks
from shared._checks import check_array, check_choice, check_finite
from shared.probes._direction import Direction, stack
from shared.probes._estimators import SVMProbe
from shared.probes._inputs import PoolMismatchError, pool_unchecked
from shared.probes._steering import project_unchecked, shift, span_projector
from shared.probes._tcav import check_layer

FORMS = ("position", "broadcast")
CONDITIONS = ("class", "artifact", "class+artifact")


class PClArC:
    """Removes artifact directions from every sample: `a' = a − P a + P z`.

    P projects onto the directions' span; z is the mean activation of samples without the artifact (`mean_neg`).

    Parameters
    ----------
    directions : one per artifact, fitted at `layer`.
    form : "position" corrects each position of a map by itself, and needs directions of mean-pooled activations, since
        z is compared with single positions; "broadcast" adds one shift per sample, computed from its pooled activation.
    reference : (d,) in place of the directions' mean of `mean_neg`.
    force : allow "position" with another pooling than the mean (it destroys average-pooling networks).
    """

    _towards = "mean_neg"

    def __init__(
        self,
        directions: Direction | Sequence[Direction],
        layer: str,
        *,
        form: str = "position",
        reference: Tensor | None = None,
        force: bool = False,
    ) -> None:
        self.directions = [directions] if isinstance(directions, Direction) else list(directions)
        check_layer(self.directions, layer)
        self.layer, self.form = layer, check_choice("form", form, FORMS)
        self.V = stack(self.directions)
        self.pool = self.directions[0].pool
        if form == "position" and self.pool not in ("mean", "none") and not force:
            raise PoolMismatchError(
                f"directions were fitted on activations pooled by {self.pool!r}, but form='position' compares their "
                "reference with single positions; fit with pool='mean', use form='broadcast', or pass force=True"
            )
        values = torch.linalg.svdvals(self.V.double())
        if float(values[-1]) < 1e-6 * float(values[0]):
            warnings.warn("the directions are (nearly) linearly dependent; their common span is used", stacklevel=2)
        self._reference = reference
        self._cache: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def subset(self, active: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Projector (d, d) and reference (d,) of some of the directions; kept for the next time."""
        if active not in self._cache:
            chosen = [self.directions[i] for i in active]
            z = self._reference
            if z is None:
                z = torch.stack([getattr(d, self._towards) for d in chosen]).double().mean(0)
            self._cache[active] = span_projector(self.V[list(active)]), z.double()
        return self._cache[active]

    def correct(self, activation: Tensor, active: tuple[int, ...] | None = None) -> Tensor:
        """The corrected activation, of the same shape; `active` numbers the directions to remove (all)."""
        active = tuple(range(len(self.V))) if active is None else active
        if not active:
            return activation
        P, z = self.subset(active)
        if self.form == "position" or activation.ndim == 2:
            return project_unchecked(activation, P, z)
        pooled = pool_unchecked(activation, "mean" if self.pool == "none" else self.pool)
        return shift(activation, project_unchecked(pooled, P, z) - pooled)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Within the context the model runs with corrected activations; use eval mode for P-ClArC."""
        with hooks.edit(model, {self.layer: self.correct}):
            yield model


class AClArC(PClArC):
    """Adds the artifact to every sample instead (`z` is `mean_pos`): for fine-tuning the layers behind, which then

    meet the artifact in all classes and learn to do without it. After fine-tuning the model runs without the hook.
    """

    _towards = "mean_pos"


class ArtifactDetector:
    """Says whether a sample shows the artifact: a balanced linear SVM on pooled activations (n, d)."""

    def __init__(self, H: Tensor, y: Tensor, *, C: float = 1.0) -> None:
        self._size = H.std(0).clamp(min=1e-8)
        self._svm = SVMProbe(C=C, class_weight="balanced").fit(H / self._size, y)

    def decision(self, H: Tensor) -> Tensor:
        """Signed distances (n,); positive: artifact."""
        return self._svm.decision_function(H / self._size.to(H))

    def __call__(self, H: Tensor) -> Tensor:
        """Booleans (n,)."""
        return self.decision(H) > 0


class RClArC:
    """P-ClArC only where it is needed: each sample has its own set of directions to remove.

    Parameters
    ----------
    correction : what to do, a `PClArC`.
    condition : "class", the artifacts listed in `class_map` for the class that the *uncorrected* model predicts;
        "artifact", those whose detector fires on the pooled activation; "class+artifact", both; or a function
        `(predicted (n,), pooled (n, d)) -> (n, k) bool`.
    class_map : class -> numbers of the artifacts that affect it.
    detectors : one per direction, each `pooled (n, d) -> (n,) bool`.
    """

    def __init__(
        self,
        correction: PClArC,
        condition: str | Callable[[Tensor, Tensor], Tensor],
        *,
        class_map: Mapping[int, Sequence[int]] | None = None,
        detectors: Sequence[Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        k = len(correction.directions)
        self.correction, self.condition = correction, condition
        if not callable(condition):
            check_choice("condition", condition, CONDITIONS)
            if "class" in condition and class_map is None:
                raise ValueError(f"condition={condition!r} needs class_map")
            if "artifact" in condition and (detectors is None or len(detectors) != k):
                raise ValueError(f"condition={condition!r} needs one detector per direction ({k})")
        for name, listed in (class_map or {}).items():
            if bad := [j for j in listed if not 0 <= j < k]:
                raise ValueError(f"class_map[{name!r}] names artifacts {bad}; there are {k}, numbered from 0")
        self.class_map, self.detectors = dict(class_map or {}), list(detectors or [])

    def active(self, predicted: Tensor, pooled: Tensor, n_classes: int) -> Tensor:
        """Which artifacts to remove, (n, k) bool."""
        if callable(self.condition):
            chosen = torch.as_tensor(self.condition(predicted, pooled), device=predicted.device).bool()
        else:
            chosen = torch.ones(len(predicted), len(self.correction.directions), dtype=torch.bool)
            chosen = chosen.to(predicted.device)
            if "class" in self.condition:
                chosen &= self._by_class(n_classes).to(predicted.device)[predicted]
            if "artifact" in self.condition:
                chosen &= torch.stack([detect(pooled) for detect in self.detectors], 1).to(predicted.device)
        if chosen.shape != (len(predicted), len(self.correction.directions)):
            raise ValueError(f"the condition gave shape {tuple(chosen.shape)}; expected (n, k)")
        return chosen

    def _by_class(self, n_classes: int) -> Tensor:
        table = torch.zeros(n_classes, len(self.correction.directions), dtype=torch.bool)
        for name, listed in self.class_map.items():
            if not 0 <= name < n_classes:
                raise KeyError(f"class_map names class {name!r}; the model has classes 0 to {n_classes - 1}")
            table[name, list(listed)] = True
        return table

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor) -> Tensor:
        """Logits (n, classes). Samples without an active artifact keep the plain model's logits bit by bit.

        One pass for all samples, a second one for those that are corrected. The model must be in eval mode.
        """
        if model.training:
            raise ValueError("model is in training mode; call model.eval() first")
        with hooks.capture(model, self.correction.layer) as seen:
            logits = hooks.first_tensor(model(x))

        def again(rows: Tensor, corrected: Tensor) -> Tensor:
            with hooks.patch(model, {self.correction.layer: corrected}):
                return hooks.first_tensor(model(x[rows]))

        return self._react(logits, seen[self.correction.layer], again)

    def _react(self, logits: Tensor, activation: Tensor, again: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Logits with those of the samples that the condition picks replaced by `again(rows, corrected activation)`."""
        how = "mean" if self.correction.pool == "none" else self.correction.pool
        active = self.active(logits.argmax(1), pool_unchecked(activation, how), logits.shape[1])
        rows = active.any(1).nonzero().flatten()
        if not len(rows):
            return logits
        corrected = activation[rows].clone()
        patterns, which = active[rows].unique(dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            own = (which == number).nonzero().flatten()
            corrected[own] = self.correction.correct(corrected[own], tuple(pattern.nonzero().flatten().tolist()))
        logits = logits.clone()
        logits[rows] = again(rows, corrected)
        return logits

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
        """A callable `x -> logits` for code that treats corrections alike."""
        yield lambda x: self(model, x)


def predict(model: nn.Module, x: Tensor, correction: PClArC | RClArC | None = None, *, batch_size: int = 512) -> Tensor:
    """Logits (n, classes) of the plain or corrected model, in batches, without gradients."""
    check_finite("x", x)
    device = next(model.parameters()).device
    parts = []
    with torch.no_grad():
        for batch in x.split(batch_size):
            batch = batch.to(device)
            if isinstance(correction, RClArC):
                parts.append(correction(model, batch))
            elif correction is None:
                parts.append(hooks.first_tensor(model(batch)))
            else:
                with correction.applied(model):
                    parts.append(hooks.first_tensor(model(batch)))
    return torch.cat(parts)


@torch.no_grad()
def predict_from(
    head: Callable[[Tensor], Tensor], activation: Tensor, correction: PClArC | RClArC | None = None
) -> Tensor:
    """Logits (n, classes) from stored activations of the correction's layer; `head` is the network behind it.

    The same as `predict` at a fraction of its cost where many corrections are compared on the same images.
    """
    check_finite("activation", activation)
    if isinstance(correction, RClArC):
        return correction._react(head(activation), activation, lambda rows, corrected: head(corrected))
    return head(activation if correction is None else correction.correct(activation))


def last_layer_refit(
    F: Tensor, y: Tensor, groups: Tensor | None = None, *, n_subsamples: int = 10, C: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """New weights (classes, d) and bias (classes,) of the last layer from group-balanced subsamples (DFR).

    F : (n, d) penultimate activations; groups : (n,), balanced over (the classes unless given). Standardises, fits
    multinomial logistic regression to each subsample and averages (Kirichenko et al. 2023); the scaling is folded
    back in, and rows are centred over classes.
    """
    from sklearn.linear_model import LogisticRegression

    check_array("F", F, ("n", "d"))
    check_array("y", y, (len(F),))
    if groups is not None:
        check_array("groups", groups, (len(F),))
    X, labels = F.detach().cpu().double().numpy(), y.cpu().numpy()
    g = labels if groups is None else groups.cpu().numpy()
    classes = int(labels.max()) + 1
    mean, deviation = X.mean(0), X.std(0).clip(min=1e-8)
    rng, smallest = np.random.default_rng(seed), min(np.bincount(g)[np.unique(g)])
    if len(np.unique(labels)) < max(classes, 2):
        raise ValueError(f"y has {len(np.unique(labels))} different classes of {classes}; every class must occur")
    W, b = np.zeros((classes, X.shape[1])), np.zeros(classes)
    for _ in range(n_subsamples):
        rows = np.concatenate([rng.choice(np.flatnonzero(g == v), smallest, replace=False) for v in np.unique(g)])
        fit = LogisticRegression(C=C, max_iter=2000).fit((X[rows] - mean) / deviation, labels[rows])
        coef, bias = fit.coef_, fit.intercept_
        if classes == 2:
            coef, bias = np.concatenate([-coef, coef]) / 2, np.concatenate([-bias, bias]) / 2
        W, b = W + coef / n_subsamples, b + bias / n_subsamples
    W = W / deviation
    b = b - W @ mean
    return torch.from_numpy(W - W.mean(0)).float(), torch.from_numpy(b - b.mean()).float()


def prior_shift(bias: Tensor, train_prior: Tensor, target_prior: Tensor) -> Tensor:
    """A classifier's bias moved from one class prior to another: the baseline that a refit must beat."""
    check_array("bias", bias, ("classes",))
    check_array("train_prior", train_prior, (len(bias),))
    check_array("target_prior", target_prior, (len(bias),))
    return bias - train_prior.to(bias).log() + target_prior.to(bias).log()
