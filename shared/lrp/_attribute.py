"""`attribute`: one forward and one backward pass give the relevance of the input and of any latent activation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from shared.hooks import attention_modules
from shared.lrp._batches import Part, parts_of
from shared.lrp._graph import check_graph, check_input_layer, check_merged, first_offender
from shared.lrp._inputs import Inputs, frozen, last_positions, output_tensor
from shared.lrp._probes import Condition, Probes, times
from shared.lrp._start import check_start, start_activation, start_seed
from shared.lrp._targets import seed
from shared.lrp.rules._composite import Applied, Composite
from shared.lrp.rules._presets import AttnLRP, EpsilonPlus


@dataclass
class Attribution:
    """Result of `attribute`. With a list of targets or conditions, all but the output get a leading axis N.

    Attributes
    ----------
    output : the explained logits, detached `(B, C)`; with `start_layer`, that layer's output.
    relevance : the input's relevance, in its shape; for token ids `(B, S, D)`, that of their embeddings.
    latent : module name -> relevance of its output, for the names in `record`.
    gap : explained amount minus the relevance that reached the input `(B,)`: what biases, constants and the
        non-conserving softmax and product rules kept.
    seed : coefficient at the logits `(B, C)`, so `(output * seed).sum()` is what was explained.
    """

    output: Tensor
    relevance: Tensor
    latent: dict[str, Tensor] = field(default_factory=dict)
    gap: Tensor = field(default_factory=lambda: torch.zeros(0))
    seed: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def tokens(self) -> Tensor:
        """Relevance per token `(..., B, S)`: the sum over the last (embedding) axis."""
        return self.relevance.sum(-1)

    @property
    def pixels(self) -> Tensor:
        """Relevance per pixel `(..., B, H, W)`: the sum over channels. Of volumes `voxels` is what is meant."""
        if self.relevance.ndim - self._lead >= 5:
            raise ValueError(f"relevance {tuple(self.relevance.shape)} is of volumes; take voxels for pixels")
        return self.relevance.sum(-3)

    @property
    def voxels(self) -> Tensor:
        """Relevance per voxel `(..., B, D, H, W)` of volumes: the sum over channels."""
        return self.relevance.sum(-4)

    @property
    def _lead(self) -> int:
        """Axes before the rows: 1 with a list of targets or conditions."""
        return self.gap.ndim - 1


def attribute(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    composite: Composite | None = None,
    init: str = "logit",
    embed: bool = False,
    record: Iterable[str] | str = (),
    conditions: Condition | Sequence[Condition] | None = None,
    start_layer: str | None = None,
    channel_axis: int | Mapping[str, int] | None = None,
    position: int | Tensor | None = None,
    output: str | Callable[[Any], Tensor] | None = None,
    wrt: str | None = None,
    batch_size: int | None = None,
) -> Attribution:
    """Relevance of the input for the target by layer-wise relevance propagation.

    Parameters
    ----------
    model : any torch module in eval mode; transformers models of the Llama, Qwen2/3 (experts too), Mistral, Mixtral,
        Phi-3, Gemma 1-3, GPT-2, OPT, BERT, ModernBERT, T5, ViT and CLIP families with `AttnLRP` or `CPLRP`. It comes
        back exactly as it was.
    x : float tensor `(B, ...)`; token ids `(B, S)`, explained at their embeddings; or a mapping (`input_ids`,
        `attention_mask`, `pixel_values`, …).
    target : int or LongTensor `(B,)` of classes, float weights `(B, C)` or a callable `logits -> weights` (`contrast`,
        `zero_mean`, `answer` for several tokens); None explains each row's largest logit. A list or tuple explains
        several over one forward pass.
    composite : the rules; default `AttnLRP()` for transformers models, else `EpsilonPlus()`.
    init : "logit", "one" (relevance sums to 1) or "softmax-contrast" (target against the mean of the others).
    embed : x holds embeddings `(B, S, D)` for the model's `inputs_embeds`.
    record : names of modules whose output's relevance is wanted in `.latent`.
    conditions : CRP: `{"layer3": [5, 17]}` lets relevance pass through these channels of the layer's output only (an
        int, a list, or a mask tensor that broadcasts to it); several layers combine. A list gives one result each.
    start_layer : explain this module's output instead of the logits. `target` is then a unit (int or LongTensor `(B,)`
        of channels), whose positive part is propagated, or float weights in the output's shape (or a callable of it),
        the coefficient as it stands; init="coefficient" takes the unit's positive part for the coefficient.
    channel_axis : axis of the channels in the conditioned and start layers' outputs, or name -> axis, where modules
        don't tell.
    position : for logits `(B, S, V)`: the position explained, int or LongTensor `(B,)`; default each row's last
        attended token.
    output : which field of the model's output to explain, or a callable that picks it; default the logits.
    wrt : key of the mapping to explain, when it isn't the pixels, embeddings or token ids.
    batch_size : rows in one pass, all by default; the numbers are the same for any.

    Returns
    -------
    `Attribution`, on the model's device; half-precision models give float32 relevance.

    Raises
    ------
    UnsupportedModule
        A norm, activation, attention or operation has no rule (it is named).
    RuntimeError
        The model computes something else under the composite.
    ValueError, TypeError
        Bad input, target or names.
    """
    results = list(
        attribute_parts(
            model,
            x,
            target,
            composite=composite,
            init=init,
            embed=embed,
            record=record,
            conditions=conditions,
            start_layer=start_layer,
            channel_axis=channel_axis,
            position=position,
            output=output,
            wrt=wrt,
            batch_size=batch_size,
        )
    )
    return results[0] if len(results) == 1 else _join(results, gives_many(target, conditions))


def attribute_parts(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    composite: Composite | None = None,
    init: str = "logit",
    embed: bool = False,
    record: Iterable[str] | str = (),
    conditions: Condition | Sequence[Condition] | None = None,
    start_layer: str | None = None,
    channel_axis: int | Mapping[str, int] | None = None,
    position: int | Tensor | None = None,
    output: str | Callable[[Any], Tensor] | None = None,
    wrt: str | None = None,
    batch_size: int | None = None,
) -> Iterator[Attribution]:
    """`attribute`, one batch of rows after the other; its arguments."""
    output = getattr(target, "output", None) if output is None else output  # an answer's tokens bring theirs
    check_start(model, start_layer, position, output)
    rules = composite or default_composite(model)
    how = _How(rules, init, embed, record, conditions, start_layer, channel_axis, output, wrt)
    options = {"batch_size": batch_size, "position": position, "embed": embed, "wrt": wrt}
    for part in parts_of(model, x, target, logits=lambda part: _plain_logits(model, part, how), **options):
        yield _attribute(model, part, how)


def gives_many(target: Any, conditions: Any) -> bool:
    """Whether the result of these has a leading axis."""
    return isinstance(target, list | tuple) or isinstance(conditions, Sequence)


@dataclass(frozen=True)
class _How:
    """The options of one call that are the same for all rows."""

    composite: Composite
    init: str
    embed: bool
    record: Iterable[str] | str
    conditions: Condition | Sequence[Condition] | None
    start_layer: str | None
    channel_axis: int | Mapping[str, int] | None
    output: Any
    wrt: str | None

    def explained(self, inputs: Inputs, position: int | Tensor | None) -> Tensor:
        """Where the backward pass starts, with its graph."""
        if self.start_layer is not None:
            return start_activation(inputs, self.start_layer)
        return explained_logits(inputs, self.output, position)

    def seed(self, model: nn.Module, target: Any, explained: Tensor) -> Tensor:
        """The coefficient there."""
        if self.start_layer is None:
            return seed(target, explained.detach(), self.init)
        axis = self.channel_axis
        axis = axis.get(self.start_layer) if isinstance(axis, Mapping) else axis
        return start_seed(model, self.start_layer, target, explained, self.init, axis)

    @property
    def wanted(self) -> list[Condition]:
        return list(self.conditions) if isinstance(self.conditions, Sequence) else [self.conditions or {}]


def _attribute(model: nn.Module, part: Part, how: _How) -> Attribution:
    inputs = Inputs(model, part.x, embed=how.embed, wrt=how.wrt)
    probes = Probes(model, how.record, how.wanted, how.channel_axis, part)
    own: list[Tensor] = []  # the model's logits before it was touched, where it had to run anyway

    def run() -> Tensor:
        logits = how.explained(inputs, part.position)
        own.append(logits.detach())
        return logits

    with ExitStack() as stack:
        stack.enter_context(frozen(model))
        applied = stack.enter_context(how.composite.context(model, run=run))
        with probes.attached():
            logits = how.explained(inputs, part.position)
        probes.open = False
        _check(applied, inputs, logits)
        _check_unchanged(own, logits)
        jobs = _jobs(part.target, how.wanted, lambda target: how.seed(model, target, logits))
        results = [_backward(applied, inputs, probes, logits, job, n + 1 < len(jobs)) for n, job in enumerate(jobs)]
    result = _stack(results) if gives_many(part.target, how.conditions) else results[0]
    _warn_not_finite(result, model, inputs, part, how)
    return result


def _plain_logits(model: nn.Module, part: Part, how: _How) -> Tensor:
    with frozen(model):
        return how.explained(Inputs(model, part.x, embed=how.embed, wrt=how.wrt), part.position).detach()


def default_composite(model: nn.Module) -> Composite:
    """The rules `attribute` takes when none are given.

    Parameters
    ----------
    model : any torch module.

    Returns
    -------
    `AttnLRP` for models with attention of transformers, `EpsilonPlus` for others.
    """
    return AttnLRP() if attention_modules(model) else EpsilonPlus()


def explained_logits(inputs: Inputs, output: Any, position: int | Tensor | None) -> Tensor:
    """What is explained, with its graph: of `(B, S, V)` the row of the explained position, of `(B,)` one column.

    Parameters
    ----------
    inputs : the call of the model.
    output : as for `attribute`.
    position : as for `attribute`.

    Returns
    -------
    Logits `(B, C)`.

    Raises
    ------
    ValueError
        The output doesn't depend on the input.
    """
    mask = inputs.mask if inputs.tokens or inputs.key == "inputs_embeds" else None
    last_only = position is None and output is None and "logits_to_keep" in inputs.accepts
    last_only = last_only and (mask is None or bool(mask[:, -1].all()))
    outputs = inputs.run(**({"logits_to_keep": 1} if last_only else {}))
    if inputs.leaf is None:
        raise ValueError(
            "x holds token ids that no nn.Embedding of the model looked up; pass embeddings with embed=True"
        )
    logits = output_tensor(outputs, output)
    if not logits.requires_grad:
        raise ValueError("the model's output does not depend on x differentiably")
    if logits.ndim != 3:
        return logits[:, None] if logits.ndim == 1 else logits
    index = last_positions(logits, None if last_only else mask, position)
    return logits[torch.arange(len(logits), device=logits.device), index]


def _check(applied: Applied, inputs: Inputs, logits: Tensor) -> None:
    check_graph(logits, applied.covered, lambda: first_offender(applied.model, inputs.run, applied.covered))
    check_input_layer(applied.explicit_inputs, inputs.leaf, logits)
    for pair in applied.pairs:
        pair.check_taken()
    check_merged({node: pair.name for pair in applied.pairs for node in pair.nodes}, logits)
    if len(logits) != len(inputs.leaf):
        raise ValueError(
            f"the explained output has {len(logits)} rows for {len(inputs.leaf)} of x; choose another output="
        )


def _check_unchanged(own: list[Tensor], logits: Tensor) -> None:
    """The composite must leave what the model computes alone."""
    for before in own:
        tolerance = 0.03 if before.dtype in (torch.float16, torch.bfloat16) else 1e-3
        error = ((before - logits).abs().max() / before.abs().max()).item() if before.shape == logits.shape else 1.0
        if error > tolerance:
            raise RuntimeError(
                f"the model's output under the composite differs from its own by {error:.0e} of its size: a module "
                "computes something else than modules of its class"
            )


def _jobs(target: Any, conditions: list[Condition], seed_of: Callable[[Any], Tensor]) -> list[tuple[Tensor, Condition]]:
    targets = list(target) if isinstance(target, list | tuple) else [target]
    if not targets or not conditions:
        raise ValueError("the list of targets or conditions is empty")
    if len(targets) > 1 and len(conditions) > 1 and len(targets) != len(conditions):
        raise ValueError(
            f"{len(targets)} targets and {len(conditions)} conditions: give one of either, or equally many"
        )
    seeds = [seed_of(one) for one in targets]
    count = max(len(targets), len(conditions))
    return [(seeds[n % len(seeds)], conditions[n % len(conditions)]) for n in range(count)]


def _backward(
    applied: Applied, inputs: Inputs, probes: Probes, logits: Tensor, job: tuple[Tensor, Condition], keep: bool
) -> Attribution:
    start, probes.condition = job
    (c,) = torch.autograd.grad(logits, inputs.leaf, start, retain_graph=keep)
    probes.check_reached()
    relevance = (c.float() if c.dtype in (torch.float16, torch.bfloat16) else c) if applied.explicit_inputs else None
    relevance = times(inputs.leaf.detach(), c) if relevance is None else relevance
    explained = times(logits.detach(), start).flatten(1).sum(-1)
    gap = explained - relevance.flatten(1).sum(-1)
    return Attribution(logits.detach(), relevance, probes.latent(), gap, start)


def _stack(results: list[Attribution]) -> Attribution:
    latent = {name: torch.stack([r.latent[name] for r in results]) for name in results[0].latent}
    relevance, gap, seeds = (torch.stack([getattr(r, k) for r in results]) for k in ("relevance", "gap", "seed"))
    return Attribution(results[0].output, relevance, latent, gap, seeds)


def _join(results: list[Attribution], many: bool) -> Attribution:
    """Results for some rows each as one for all."""
    axis = 1 if many else 0
    for name, latent in results[0].latent.items():
        if latent.shape[axis] != len(results[0].output):
            raise ValueError(
                f"record: {name!r} gives {tuple(latent.shape)}, not one entry per row; leave batch_size out"
            )
    latent = {name: torch.cat([r.latent[name] for r in results], axis) for name in results[0].latent}
    relevance, gap, seeds = (torch.cat([getattr(r, k) for r in results], axis) for k in ("relevance", "gap", "seed"))
    return Attribution(torch.cat([r.output for r in results]), relevance, latent, gap, seeds)


def _warn_not_finite(result: Attribution, model: nn.Module, inputs: Inputs, part: Part, how: _How) -> None:
    if bool(torch.isfinite(result.relevance).all()):
        return
    where = _first_not_finite(model, inputs, part, how)
    warnings.warn(f"relevance is not finite, first at the output of {where}", RuntimeWarning, stacklevel=4)


def _first_not_finite(model: nn.Module, inputs: Inputs, part: Part, how: _How) -> str:
    """Repeat the backward pass with a tap on every module: the first one, going backward, with NaN or infinity."""
    order: list[str] = []
    target = part.target[0] if isinstance(part.target, list | tuple) else part.target

    def tap(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, out: Any) -> None:
            if isinstance(out, Tensor) and out.requires_grad:
                out.register_hook(lambda c: order.append(name) if not bool(torch.isfinite(c).all()) else None)

        return hook

    with ExitStack() as stack:
        stack.enter_context(frozen(model))
        stack.enter_context(how.composite.context(model, run=inputs.run))
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(tap(name)).remove)
        logits = how.explained(inputs, part.position)
        torch.autograd.grad(logits, inputs.leaf, how.seed(model, target, logits))
    return repr(order[0]) if order else "the first layer"
