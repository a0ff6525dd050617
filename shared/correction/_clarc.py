"""Class artifact compensation: projective, augmentive and reactive corrections of a model's activations.

P-ClArC and A-ClArC: Anders et al. 2022 (arXiv 1912.11425); R-ClArC: Bareeva et al. 2024 (arXiv 2404.09601).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shared import hooks
from shared._checks import check_choice, copied, wide
from shared.correction._base import Correction, Data
from shared.probes import Direction, check_layer, stack_directions

FORMS = ("position", "broadcast")
CONDITIONS = ("class", "artifact", "class+artifact")


def _twin(model: nn.Module) -> nn.Module:
    """A copy with hooks of its own that shares the model's weights."""
    shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return copied("model", model, shared)


class PoolMismatchError(ValueError):
    """A direction fitted on activations pooled one way, used where they are pooled another way."""


class PClArC(Correction):
    """Removes artifact directions from every sample: `a' = a − P a + P z`.

    P projects onto the directions' span; z is the mean activation of samples without the artifact (`mean_neg`).

    Parameters
    ----------
    directions : one per artifact, fitted at `layer`.
    layer : name of the module whose output is corrected.
    form : "position" corrects each position of a map by itself, and needs directions of mean-pooled activations, since
        z is compared with single positions; "broadcast" adds one shift per sample, computed from its pooled activation.
    reference : (d,) in place of the directions' mean of `mean_neg`.
    channel_axis : of the layer's activation, where neither the directions nor the module tell.
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
        channel_axis: int | None = None,
        force: bool = False,
    ) -> None:
        self.directions = [directions] if isinstance(directions, Direction) else list(directions)
        check_layer(self.directions, layer)
        self.layer = layer
        self.form = check_choice("form", form, FORMS)
        self.V = stack_directions(self.directions)
        self.pool = self.directions[0].pool
        self.channel_axis = self.directions[0].channel_axis if channel_axis is None else channel_axis
        if form == "position" and self.pool not in ("mean", "none") and not force:
            raise PoolMismatchError(
                f"directions were fitted on activations pooled by {self.pool!r}, but form='position' compares their "
                "reference with single positions; fit with pool='mean', use form='broadcast', or pass force=True"
            )
        values = torch.linalg.svdvals(wide(self.V))
        if float(values[-1]) < 1e-6 * float(values[0]):
            warnings.warn("the directions are (nearly) linearly dependent; their common span is used", stacklevel=2)
        self._reference = reference
        self._cache: dict[tuple[int, ...], hooks.Projection] = {}

    def projection(self, active: tuple[int, ...]) -> hooks.Projection:
        """The map that removes some of the directions; kept for the next time.

        Parameters
        ----------
        active : their numbers.

        Returns
        -------
        `hooks.Projection`.
        """
        if active not in self._cache:
            z = self._reference
            if z is None:
                chosen = [getattr(self.directions[i], self._towards) for i in active]
                z = wide(torch.stack(chosen)).mean(0)
            self._cache[active] = hooks.Projection(self.V[list(active)], reference=z)
        return self._cache[active]

    def correct(
        self, activation: Tensor, *, active: tuple[int, ...] | None = None, channel_axis: int | None = None
    ) -> Tensor:
        """The corrected activation.

        Parameters
        ----------
        activation : (n, d), or maps or tokens.
        active : numbers of the directions to remove; all unless given.
        channel_axis : of maps and tokens; by default the correction's own.

        Returns
        -------
        The same shape.
        """
        active = tuple(range(len(self.V))) if active is None else active
        if not active:
            return activation
        axis = self._axis(activation, channel_axis)
        project = self.projection(active)
        if self.form == "position" or activation.ndim == 2:
            return project(activation, channel_axis=axis)
        pooled = self.pooled(activation, channel_axis=axis)
        return hooks.steered(activation, project(pooled) - pooled, channel_axis=axis)

    def pooled(self, activation: Tensor, *, channel_axis: int | None = None) -> Tensor:
        """One row per sample, pooled as the directions' activations were (by the mean if those came pooled).

        Parameters
        ----------
        activation : (n, d), or maps or tokens.
        channel_axis : of maps and tokens; by default the correction's own.

        Returns
        -------
        (n, d).
        """
        axis = self._axis(activation, channel_axis)
        return hooks.pool(activation, "mean" if self.pool == "none" else self.pool, channel_axis=axis)

    def _axis(self, activation: Tensor, given: int | None) -> int:
        own = None if activation.ndim == 2 else self.channel_axis
        return hooks.resolve_axis(activation, own if given is None else given)

    def finder(self, model: nn.Module) -> hooks.AxisFinder:
        """Finds the channel axis of the layer's activations.

        Parameters
        ----------
        model : that has the layer.

        Returns
        -------
        `hooks.AxisFinder`, which prefers the correction's own axis.
        """
        return hooks.AxisFinder(model, self.layer, channel_axis=self.channel_axis)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Within the context the model runs with corrected activations; use eval mode for P-ClArC.

        Parameters
        ----------
        model : that has the layer.

        Yields
        ------
        The model.
        """
        find = self.finder(model)
        with hooks.edit(model, {self.layer: lambda a: self.correct(a, channel_axis=find(a))}):
            yield model

    @torch.no_grad()
    def logits(self, model: nn.Module, x: Data) -> Tensor:
        """Logits of the corrected model on one batch.

        Parameters
        ----------
        model : in eval mode.
        x : a tensor (n, …), or a mapping of tensors by argument name.

        Returns
        -------
        (n, classes).
        """
        hooks.refuse_training(model)
        with self.applied(model):
            return hooks.first_tensor(hooks.run_model(model, x))

    def logits_from(self, head: Callable[[Tensor], Tensor], activation: Tensor) -> Tensor:
        """Logits from a stored activation of the layer.

        Parameters
        ----------
        head : the network behind the layer.
        activation : (n, …).

        Returns
        -------
        (n, classes).
        """
        return head(self.correct(activation))


class AClArC(PClArC):
    """Adds the artifact to every sample instead: `z` is `mean_pos`; parameters as of `PClArC`.

    For fine-tuning the layers behind, which then meet the artifact in all classes and learn to do without it. After
    fine-tuning the model runs without the hook.
    """

    _towards = "mean_pos"


class RClArC(Correction):
    """P-ClArC only where it is needed: each sample has its own set of directions to remove.

    Parameters
    ----------
    correction : what to do.
    condition : "class", the artifacts listed in `class_map` for the class that the *uncorrected* model predicts;
        "artifact", those whose detector fires on the pooled activation; "class+artifact", both; or a function
        `(predicted (n,), pooled (n, d)) -> (n, k) bool`.
    class_map : class -> numbers of the artifacts that affect it.
    detectors : one per direction, each `pooled (n, d) -> (n,) bool`, for instance a fitted `ArtifactDetector`.
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
        self.correction = correction
        self.condition = condition
        self.layer = correction.layer
        if not callable(condition):
            check_choice("condition", condition, CONDITIONS)
            if "class" in condition and class_map is None:
                raise ValueError(f"condition={condition!r} needs class_map")
            if "artifact" in condition and (detectors is None or len(detectors) != k):
                raise ValueError(f"condition={condition!r} needs one detector per direction ({k})")
        for name, listed in (class_map or {}).items():
            if bad := [j for j in listed if not 0 <= j < k]:
                raise ValueError(f"class_map[{name!r}] names artifacts {bad}; there are {k}, numbered from 0")
        self.class_map = dict(class_map or {})
        self.detectors = list(detectors or [])

    def active(self, predicted: Tensor, pooled: Tensor, n_classes: int) -> Tensor:
        """Which artifacts to remove.

        Parameters
        ----------
        predicted : (n,), classes of the uncorrected model.
        pooled : (n, d), activations.
        n_classes : number of classes.

        Returns
        -------
        (n, k) bool.
        """
        k = len(self.correction.directions)
        if callable(self.condition):
            chosen = torch.as_tensor(self.condition(predicted, pooled), device=predicted.device).bool()
        else:
            chosen = torch.ones(len(predicted), k, dtype=torch.bool, device=predicted.device)
            if "class" in self.condition:
                chosen &= self._by_class(n_classes).to(predicted.device)[predicted]
            if "artifact" in self.condition:
                chosen &= torch.stack([detect(pooled) for detect in self.detectors], 1).to(predicted.device)
        if chosen.shape != (len(predicted), k):
            raise ValueError(f"the condition gave shape {tuple(chosen.shape)}; expected (n, k)")
        return chosen

    def _by_class(self, n_classes: int) -> Tensor:
        table = torch.zeros(n_classes, len(self.correction.directions), dtype=torch.bool)
        for name, listed in self.class_map.items():
            if not 0 <= name < n_classes:
                raise KeyError(f"class_map names class {name!r}; the model has classes 0 to {n_classes - 1}")
            table[name, list(listed)] = True
        return table

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Within the context the model itself runs corrected, each of its modules once per call.

        Samples without an active artifact keep the plain model's activation. Detectors decide at the layer; where the
        condition asks for the uncorrected prediction, a twin that shares the weights gives it, so that whatever hooks
        into the model (LRP, TCAV, `hooks.capture`) meets a single pass.

        Parameters
        ----------
        model : in eval mode.

        Yields
        ------
        The model.
        """
        hooks.refuse_training(model)
        find = self.correction.finder(model)
        twin = None if self.condition == "artifact" else _twin(model)
        plain: list[Tensor] = []

        def predict(module: nn.Module, args: tuple, kwargs: dict) -> None:
            with torch.no_grad():
                plain[:] = [hooks.first_tensor(twin(*args, **kwargs))]

        def correct(activation: Tensor) -> Tensor:
            axis = find(activation)
            logits = plain[0] if plain else activation.new_zeros(len(activation), 1)  # detectors don't look at it
            return self._corrected(activation, self._active(logits, activation.detach(), axis), axis)

        with hooks.edit(model, {self.layer: correct}):
            handle = None if twin is None else model.register_forward_pre_hook(predict, with_kwargs=True)
            try:
                yield model
            finally:
                if handle is not None:
                    handle.remove()

    @torch.no_grad()
    def logits(self, model: nn.Module, x: Data) -> Tensor:
        """Logits of the corrected model on one batch: one pass for all samples, a second for those it corrects.

        Samples without an active artifact keep the plain model's logits bit by bit.

        Parameters
        ----------
        model : in eval mode.
        x : a tensor (n, …), or a mapping of tensors by argument name.

        Returns
        -------
        (n, classes).
        """
        hooks.refuse_training(model)
        with hooks.capture(model, self.layer) as seen:
            plain = hooks.first_tensor(hooks.run_model(model, x))

        def again(rows: Tensor, corrected: Tensor) -> Tensor:
            with hooks.patch(model, {self.layer: corrected}):
                return hooks.first_tensor(hooks.run_model(model, hooks.take_rows(x, rows)))

        activation = seen[self.layer]
        return self._react(plain, activation, self.correction.finder(model)(activation), again)

    def logits_from(self, head: Callable[[Tensor], Tensor], activation: Tensor) -> Tensor:
        """Logits from a stored activation of the layer.

        Parameters
        ----------
        head : the network behind the layer.
        activation : (n, …).

        Returns
        -------
        (n, classes).
        """
        axis = self.correction._axis(activation, None)
        return self._react(head(activation), activation, axis, lambda rows, corrected: head(corrected))

    def _react(self, plain: Tensor, activation: Tensor, axis: int, again: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Logits with those of the samples that the condition picks replaced by `again(rows, corrected activation)`."""
        active = self._active(plain, activation, axis)
        rows = active.any(1).nonzero().flatten()
        if not len(rows):
            return plain
        logits = plain.clone()
        logits[rows] = again(rows, self._corrected(activation[rows], active[rows], axis))
        return logits

    def _active(self, logits: Tensor, activation: Tensor, axis: int) -> Tensor:
        return self.active(logits.argmax(1), self.correction.pooled(activation, channel_axis=axis), logits.shape[1])

    def _corrected(self, activation: Tensor, active: Tensor, axis: int) -> Tensor:
        """Samples with the same active artifacts are corrected together."""
        corrected = activation.clone()
        patterns, which = active.unique(dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            own = (which == number).nonzero().flatten()
            removed = tuple(pattern.nonzero().flatten().tolist())
            corrected[own] = self.correction.correct(corrected[own], active=removed, channel_axis=axis)
        return corrected
