"""What can be pruned: filters of convolutions, neurons of dense layers, heads of transformers, and single weights."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.utils import parametrize

from shared._checks import UnknownNameError, check_choice
from shared.hooks import attention_modules, find_module
from shared.lrp import Convolution, Linear, MergeBatchNorm

KINDS = ("filter", "neuron", "head")


def find_units(model: nn.Module, kind: str) -> dict[str, int]:
    """The layers of a model that have units of one kind.

    Parameters
    ----------
    model : any torch module.
    kind : "filter", output channels of convolutions; "neuron", outputs of dense layers but for the last one, which
        gives the logits; "head", attention heads of a transformers model.

    Returns
    -------
    Module name -> number of units, in the order of registration.

    Raises
    ------
    ValueError
        An unknown kind, or none of it in the model.
    """
    check_choice("kind", kind, KINDS)
    if kind == "head":
        found = {name: unit_count(model, name) for name in attention_modules(model)}
    else:
        types = Convolution if kind == "filter" else Linear
        names = [name for name, module in model.named_modules() if isinstance(module, types)]
        found = {name: unit_count(model, name) for name in (names[:-1] if kind == "neuron" else names)}
    if not found:
        raise ValueError(f"kind={kind!r}: {type(model).__name__} has no such units")
    return found


def unit_count(model: nn.Module, name: str) -> int:
    """How many units a layer has.

    Parameters
    ----------
    model : any torch module.
    name : a convolution, dense layer or attention of it.

    Returns
    -------
    Number of output channels, outputs or heads.

    Raises
    ------
    ValueError
        Another kind of module, or an unknown name.
    """
    module = find_module(model, name)
    if "Attention" in type(module).__name__ and is_head_layer(model, name):
        return module.config.num_attention_heads
    for attribute in ("out_channels", "out_features", "nf"):  # the last is that of GPT-2's Conv1D
        if isinstance(getattr(module, attribute, None), int):
            return getattr(module, attribute)
    raise UnknownNameError(f"layer {name!r} is a {type(module).__name__}; units are filters, neurons or heads")


def is_head_layer(model: nn.Module, name: str) -> bool:
    """Whether the module's units are attention heads."""
    return name in attention_modules(model)


def channel_axis(module: nn.Module) -> int:
    """Axis of the units in a layer's output, from the end: the same with and without a batch axis."""
    return -1 - len(module.kernel_size) if isinstance(module, Convolution) else -1


def norms_after(model: nn.Module) -> dict[str, str]:
    """Layer -> the batch norm registered right after it, of as many channels."""
    names = {module: name for name, module in model.named_modules()}
    pairs = MergeBatchNorm().find(model)
    return {names[a]: names[b] for a, b in pairs if unit_count(model, names[a]) == b.num_features}


def check_layers(model: nn.Module, layers: Iterable[str] | str) -> list[str]:
    """Names of layers that have units, at least one."""
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise ValueError("layers is empty; at least one layer with units is needed")
    for name in names:
        unit_count(model, name)  # refuses what has none
    return names


def parameter_of(model: nn.Module, key: str) -> tuple[nn.Module, str]:
    """The module and the name of its parameter that scores or a mask under `key` are for."""
    for leaf in ("bias", "weight"):
        if key.endswith(f".{leaf}"):
            return find_module(model, key.removesuffix(f".{leaf}")), leaf
    if key in model._parameters or parametrize.is_parametrized(model, key):
        return model, key  # the model's own, as Phoenix's
    return find_module(model, key), "weight"
