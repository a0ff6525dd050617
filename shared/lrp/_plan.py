"""A network as the list of its modules in the order of application, for what walks it layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from shared import nets


class Branches(nn.Module):
    """Two paths from the same input whose outputs are added: a residual block before its activation.

    Parameters
    ----------
    main, shortcut : modules, or sequences of them; an empty one is the identity.
    """

    def __init__(self, main: nn.Module | Sequence[nn.Module], shortcut: nn.Module | Sequence[nn.Module]) -> None:
        super().__init__()
        self.main, self.shortcut = (nn.Sequential(*flatten(path)) for path in (main, shortcut))

    def forward(self, x: Any) -> Any:
        return self.main(x) + self.shortcut(x)


Parts = Callable[[Any], list[Any]]


def flatten(model: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    """The modules in order: sequences and known networks are taken apart, anything else stays whole.

    Parameters
    ----------
    model : a module or a sequence of them.

    Returns
    -------
    list of nn.Module
    """
    if type(model) is nn.Sequential or isinstance(model, list | tuple) or isinstance(model, nets.ConvNorm):
        return [leaf for child in model for leaf in flatten(child)]
    parts = _parts(model)
    return [model] if parts is None else [leaf for part in parts for leaf in flatten(part)]


def _parts(model: nn.Module) -> list[nn.Module] | None:
    known = _OWN.get(type(model)) or _HUB.get(type(model).__name__ if _of_transformers(model) else "")
    return None if known is None else known(model)


def _of_transformers(model: nn.Module) -> bool:
    return type(model).__module__.startswith("transformers.models.resnet.")


def _in_order(*names: str) -> Parts:
    return lambda model: [model.get_submodule(name) for name in names]


def _block(main: tuple[str, ...], activation: str) -> Parts:
    def parts(model: Any) -> list[nn.Module]:
        paths = _in_order(*main)(model)
        return [Branches(paths, [model.shortcut]), model.get_submodule(activation)]

    return parts


_OWN: dict[type, Parts] = {
    nets.SmallVGG: _in_order("features", "flatten", "classifier"),
    nets.SmallConv: _in_order("features", "classifier"),
    nets.SmallResNet: _in_order("stem", "stages", "pool", "flatten", "classifier"),
    nets.ResidualBlock: _block(("conv1", "conv2"), "act"),
    nets.PooledVGG: _in_order("levels", "pool", "flatten", "classifier"),
}
_HUB: dict[str, Parts] = {
    "ResNetForImageClassification": _in_order("resnet", "classifier"),
    "ResNetModel": _in_order("embedder", "encoder", "pooler"),
    "ResNetEmbeddings": _in_order("embedder", "pooler"),
    "ResNetEncoder": lambda model: list(model.stages),
    "ResNetStage": lambda model: list(model.layers),
    "ResNetBasicLayer": _block(("layer",), "activation"),
    "ResNetBottleNeckLayer": _block(("layer",), "activation"),
    "ResNetShortCut": _in_order("convolution", "normalization"),
    "ResNetConvLayer": _in_order("convolution", "normalization", "activation"),
}
