"""Where the channels of a module's activation are: said by the module, never guessed from the number of axes.

Batches come first, so an activation `(B, D)` has its channels on axis 1. With more axes the kind of module decides:
convolutions, pooling and batch norms keep channels on axis 1; linear maps, embeddings, layer norms and attention on the
last one. What only acts element by element takes its neighbour's word, a container that of its parts. A map with
channels last (Swin) and one with channels first look alike, so where this gives no answer the caller must.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from shared._checks import check_range
from shared.hooks._core import find_module

FIRST = 1
LAST = -1
_FIRST_KINDS = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,  # batch and instance norms
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._LPPoolNd,
    nn.Upsample,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
)
_LAST_KINDS = (
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RMSNorm,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)
_LAST_NAMES = ("Conv1D", "RMSNorm")  # transformers' own: GPT-2's linear map, the norm of each family
_ELEMENTWISE = (nn.Identity, nn.modules.dropout._DropoutNd)
_TURNING_NAMES = ("Permute", "Rearrange", "Transpose", "Unflatten")
_SIZES = ("out_channels", "in_channels", "out_features", "in_features", "num_features", "num_channels", "nf", "nx")
_LAST_SIZES = ("embedding_dim", "embed_dim", "hidden_size", "input_size")
ADVICE = "pass channel_axis (1 for maps (B, C, H, W), -1 for tokens (B, T, D) and maps (B, H, W, C))"


def find_channel_axis(model: nn.Module, layer: str, activation: Tensor, *, channel_axis: int | None = None) -> int:
    """Axis of the channels (features, units) of module `layer`'s activation, counted from 0.

    Parameters
    ----------
    model : any torch module.
    layer : name of one of its modules, as `model.named_modules()` spells it.
    activation : what that module gave or took, batch first.
    channel_axis : the axis where the caller knows it, for instance -1; it is only checked.

    Returns
    -------
    The axis, at least 1.

    Raises
    ------
    ValueError
        An unknown layer; an axis that the activation hasn't; a module that doesn't tell.
    """
    return AxisFinder(model, layer, channel_axis=channel_axis)(activation)


class AxisFinder:
    """`find_channel_axis` of one layer for many activations, as hooks need it: the module is asked once.

    Parameters
    ----------
    model : any torch module.
    layer : name of one of its modules.
    channel_axis : the axis where the caller knows it.
    """

    def __init__(self, model: nn.Module, layer: str, *, channel_axis: int | None = None) -> None:
        module = find_module(model, layer)
        self._named = f"layer={layer!r} ({type(module).__name__})"
        self._given = channel_axis
        self._told = module_axis(model, layer)
        self._widths = _widths(module)

    def __call__(self, activation: Tensor) -> int:
        """The axis, at least 1, or `ValueError`.

        Parameters
        ----------
        activation : what the module gave or took, batch first.
        """
        if self._given is not None or activation.ndim == 2:
            return resolve_axis(activation, self._given)
        shape = tuple(activation.shape)
        if self._told is None:
            raise ValueError(
                f"{self._named} doesn't tell which axis of its activation {shape} holds the channels: {ADVICE}"
            )
        axis = self._told % activation.ndim
        if self._widths and shape[axis] not in self._widths:  # a container may turn its axes unseen
            widths = " or ".join(map(str, sorted(self._widths)))
            raise ValueError(
                f"{self._named} has {widths} channels, but its activation {shape} has {shape[axis]} on axis {axis}: "
                f"{ADVICE}"
            )
        return axis


def resolve_axis(activation: Tensor, channel_axis: int | None, *, argument: str = "activation") -> int:
    """Axis of the channels of an activation whose module isn't at hand, counted from 0.

    Parameters
    ----------
    activation : batch first.
    channel_axis : the axis; may be None for `(B, D)` only.
    argument : what the caller calls the activation.

    Returns
    -------
    The axis, at least 1.

    Raises
    ------
    ValueError
        More than two axes without `channel_axis`; an axis out of range or the batch's.
    """
    ndim = activation.ndim
    if ndim < 2:
        raise ValueError(f"{argument} has shape {tuple(activation.shape)}; expected (B, D) or more axes")
    if channel_axis is None:
        if ndim == 2:
            return 1
        raise ValueError(f"{argument} has shape {tuple(activation.shape)}: {ADVICE}")
    check_range("channel_axis", channel_axis, -ndim, ndim - 1)
    if channel_axis % ndim == 0:
        raise ValueError(f"channel_axis={channel_axis} of {argument} {tuple(activation.shape)} is the batch's axis")
    return channel_axis % ndim


def module_axis(model: nn.Module, layer: str) -> int | None:
    """1 or -1 by the kind of module `layer` is, or None where that doesn't tell.

    Parameters
    ----------
    model : any torch module.
    layer : name of one of its modules.

    Returns
    -------
    1: convolutions, batch, instance and group norms, pooling. -1: linear maps, embeddings, layer and RMS norms,
    attention, recurrent nets. A container: what all of its parts say. An activation function, dropout or identity: what
    comes before it in its `Sequential`, else what the other parts of its container say.
    """
    module = find_module(model, layer)
    return _neighbours(model, layer) if _is_elementwise(module) else _told(module)


def _told(module: nn.Module) -> int | None:
    """What the module itself or, without own kind, its parts say."""
    own = _kind(module)
    if own is not None or isinstance(module, nn.LayerNorm):
        return own
    turns = any(type(part).__name__ in _TURNING_NAMES for part in module.modules())
    return None if turns else _agreed(module.children())


def _kind(module: nn.Module) -> int | None:
    if isinstance(module, nn.LayerNorm):
        return _layer_norm(module)
    if isinstance(module, _FIRST_KINDS):
        return FIRST
    name = type(module).__name__
    return LAST if isinstance(module, _LAST_KINDS) or name.endswith(_LAST_NAMES) else None


def _layer_norm(module: nn.LayerNorm) -> int | None:
    """Subclasses may norm another axis (ConvNeXt's says so; others don't tell)."""
    if getattr(module, "data_format", None) == "channels_first":
        return FIRST
    plain = type(module).forward is nn.LayerNorm.forward or hasattr(module, "data_format")
    return LAST if plain and len(module.normalized_shape) == 1 else None


def _agreed(modules: Iterator[nn.Module] | list[nn.Module]) -> int | None:
    """What all say that say anything; None where they differ."""
    said = {_told(module) for module in modules if _speaks(module)}
    return said.pop() if len(said) == 1 else None


def _speaks(module: nn.Module) -> bool:
    """Whether anything in the module has channels of its own."""
    return any(_kind(part) is not None or isinstance(part, nn.LayerNorm) for part in module.modules())


def _is_elementwise(module: nn.Module) -> bool:
    source = type(module).__module__
    return isinstance(module, _ELEMENTWISE) or (
        source in ("torch.nn.modules.activation", "transformers.activations")
        and not isinstance(module, nn.MultiheadAttention)
    )


def _neighbours(model: nn.Module, layer: str) -> int | None:
    if not layer:
        return None
    path, _, own = layer.rpartition(".")
    holder = find_module(model, path)
    if not isinstance(holder, nn.Sequential):
        return _agreed([child for name, child in holder.named_children() if name != own])
    before = list(holder.named_children())[: list(dict(holder.named_children())).index(own)]
    for _, child in reversed(before):
        if not _is_elementwise(child):
            return _told(child)
    return _neighbours(model, path) if path else None


def _widths(module: nn.Module) -> set[int]:
    """Numbers of channels that go in or out of a container's parts; empty where the kind itself is enough."""
    if _kind(module) is not None:
        return set()
    found: set[int] = set()
    for part in module.modules():
        names = (*_SIZES, *_LAST_SIZES) if _kind(part) == LAST else _SIZES
        found |= {value for name in names if isinstance(value := getattr(part, name, None), int)}
        if isinstance(part, nn.LayerNorm | nn.RMSNorm):
            found.add(part.normalized_shape[-1])
    return found
