"""Going on from a hidden state: only the blocks behind it run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from shared._checks import check_finite
from shared.hooks._core import _edit_inputs, _edit_value, find_module, refuse_compiled


@contextmanager
def resume_from(model: nn.Module, layer: str, hidden: Tensor) -> Iterator[nn.Module]:
    """Within the context a forward pass takes `hidden` for the output of block `layer` and runs only what follows it.

    The blocks up to `layer` are taken out of the stack (of the last block only the result is replaced), so inside the
    context the names of the others are counted anew. Gradients flow into `hidden`. Several hidden states of one input,
    edited each in its own way, thus cost one pass of the upper blocks.

    Parameters
    ----------
    model : any torch module that runs a stack of blocks one after the other and isn't compiled.
    layer : a block in a `ModuleList` or `Sequential`, as `model.named_modules()` spells it ("encoder.layers.2").
    hidden : what the block is to give, (B, …), finite. The pass itself needs inputs of batch size B, whose values play
        no part (zeros will do).

    Yields
    ------
    The model.

    Raises
    ------
    ValueError
        An unknown name (the closest are listed), one that is no block of a stack, or bad `hidden`.
    """
    refuse_compiled(model)
    find_module(model, layer)
    path, _, last = layer.rpartition(".")
    holder_name, _, attribute = path.rpartition(".")
    stack = find_module(model, path)
    if not isinstance(stack, nn.ModuleList | nn.Sequential) or not path:
        raise ValueError(f"layer={layer!r} is no block of a ModuleList or Sequential; give one, such as 'layers.2'")
    check_finite("hidden", hidden)
    holder, blocks = find_module(model, holder_name), list(stack)
    rest = blocks[int(last) + 1 :]
    if rest:
        handle = rest[0].register_forward_pre_hook(
            lambda _m, args, kwargs: _edit_inputs(args, kwargs, lambda old: _fitting(old, hidden)), with_kwargs=True
        )
    else:
        rest = blocks[-1:]
        handle = rest[0].register_forward_hook(
            lambda _m, _a, out: _edit_value(out, lambda old: _fitting(old, hidden)), prepend=True
        )
    try:
        setattr(holder, attribute, _same_kind(stack, rest))
        yield model
    finally:
        handle.remove()
        setattr(holder, attribute, stack)


def _same_kind(stack: nn.Module, blocks: list[nn.Module]) -> nn.Module:
    made = nn.Sequential(*blocks) if isinstance(stack, nn.Sequential) else nn.ModuleList(blocks)
    made.training = stack.training  # the container's own flag; the blocks stay as they are
    return made


def _fitting(old: Tensor, hidden: Tensor) -> Tensor:
    if old.shape[0] != hidden.shape[0] or old.shape[2:] != hidden.shape[2:]:
        raise ValueError(
            f"hidden has shape {tuple(hidden.shape)}; this pass has activations of shape {tuple(old.shape)}"
        )
    return hidden.to(old)
