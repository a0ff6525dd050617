"""A safety net: after the forward pass, look for operations that no rule has covered.

Parameters are frozen during an attribution, so every edge of the autograd graph leads to the input. What is linear in
the input, or homogeneous (`f(x) = f'(x) x`), is right under the plain gradient; our rules and the attention they wrap
are known; whatever else made a node would silently fall back to the plain gradient, and is an error instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import Tensor, nn

from shared.lrp._errors import UnsupportedModule

# Autograd's names without "Backward0". Linear in the input: sums, moves, fixed resampling, running batch norm.
LINEAR = frozenset(
    "AccumulateGrad Add Sub Rsub Neg Sum Mean Nansum Cumsum Trace Diagonal DiagonalScatter Diag Tril Triu Complex "
    "View UnsafeView ReshapeAlias Alias AsStrided Permute Transpose T Mt Movedim Squeeze Unsqueeze Flatten Unflatten "
    "Expand Repeat Clone Copy CopySlices ToCopy To Contiguous Detach Slice SliceScatter Select SelectScatter Narrow "
    "Split SplitWithSizes UnsafeSplit UnsafeSplitWithSizes Unbind Cat Stack Index IndexSelect IndexPut IndexPutImpl "
    "UnsafeIndex UnsafeIndexPut IndexAdd IndexCopy IndexFill Gather Scatter ScatterAdd Take Put MaskedSelect "
    "MaskedFill MaskedScatter Where SWhere Flip Roll Rot90 Unfold Fill Zero Constant ConstantPadNd ReflectionPad1D "
    "ReflectionPad2D ReflectionPad3D ReplicationPad1D ReplicationPad2D ReplicationPad3D Im2Col Col2Im PixelShuffle "
    "PixelUnshuffle ChannelShuffle NativeChannelShuffle AvgPool1D AvgPool2D AvgPool3D AdaptiveAvgPool1D "
    "AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D "
    "UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D UpsampleLinear1D UpsampleBilinear2D "
    "UpsampleBilinear2DAa UpsampleBicubic2D UpsampleBicubic2DAa UpsampleTrilinear3D Embedding EmbeddingBag "
    "NativeBatchNorm CudnnBatchNorm MiopenBatchNorm BatchNormNoUpdate NativeDropout".split()
)
# Homogeneous: pieces through the origin, or one entry picked out of several.
HOMOGENEOUS = frozenset(
    "Relu LeakyRelu Prelu PreluKernel RreluWithNoise Abs Max Min Amax Amin Maximum Minimum Fmax Fmin Topk Sort Cummax "
    "Cummin Median Kthvalue MaxPool2DWithIndices MaxPool3DWithIndices MaxPool2D MkldnnMaxPool2D MkldnnMaxPool3D "
    "AdaptiveMaxPool1D AdaptiveMaxPool2D AdaptiveMaxPool3D FractionalMaxPool2D FractionalMaxPool3D MaxUnpool2D "
    "MaxUnpool3D".split()
)
# Linear in each of these two arguments, and so right while one of them is constant.
PRODUCTS = {
    **dict.fromkeys("Mul Mm Bmm Mv Dot Linear MkldnnLinear GridSampler2D GridSampler3D".split(), (0, 1)),
    **dict.fromkeys("Addmm Baddbmm Addbmm Addmv Addr Addcmul".split(), (1, 2)),
}
QUOTIENTS = {"Div": 1, "Addcdiv": 2}  # name -> the argument that must be constant
ATTENTION = ("Softmax", "Bmm", "ScaledDotProduct")  # for the hint: what an attention kernel shows
OWN_FUNCTIONS = ("shared.lrp.", "torch.utils.checkpoint")  # checkpointed parts run again under the same rules


def nodes(root: Any, *, until: Collection[Any] = ()) -> Iterator[Any]:
    """Every node of the autograd graph behind `root` (a grad_fn), each once; not those in `until`, nor what is behind
    them only.
    """
    seen, stack = {root, *until}, [root]
    while stack:
        node = stack.pop()
        yield node
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)


def cover(known: set[Any], output: Tensor, *inputs: Tensor) -> None:
    """Add to `known` the nodes between the inputs and the output of a call that a rule answers for."""
    if output.grad_fn is not None:
        known.update(nodes(output.grad_fn, until={x.grad_fn for x in inputs if x.grad_fn is not None}))


def offence(node: Any, known: Collection[Any]) -> str | None:
    """The operation's name if neither the plain gradient is right for it nor a rule covers it (`known`), else None."""
    if node in known or _is_own(node):
        return None
    name = type(node).__name__.split("Backward")[0]
    depends = [parent is not None for parent, _ in node.next_functions]
    if name in PRODUCTS or "Conv" in name:
        return name if all(depends[at] for at in PRODUCTS.get(name, (0, 1)) if at < len(depends)) else None
    if name in QUOTIENTS:
        return name if depends[QUOTIENTS[name]] else None
    by_batch = name.endswith("BatchNorm") and getattr(node, "_saved_training", False)
    return name if by_batch or name not in LINEAR | HOMOGENEOUS else None


def _is_own(node: Any) -> bool:
    function = getattr(node, "_forward_cls", None)
    return function is not None and function.__module__.startswith(OWN_FUNCTIONS)


def check_graph(output: Tensor, known: Collection[Any], locate: Callable[[], str]) -> None:
    """Raise `UnsupportedModule` if the graph behind `output` holds an operation without a rule.

    `locate`, called only for the error, runs the model again and says in which module the operation sits.
    """
    for node in nodes(output.grad_fn):
        operation = offence(node, known)
        if operation is not None:
            hint = (
                "use AttnLRP() or CPLRP() for a transformers model"
                if operation.startswith(ATTENTION)
                else "use the nn.Module form of an activation, detach a constant factor, or give the module a rule"
            )
            raise UnsupportedModule(f"no LRP rule for the operation {operation} in {locate()}; {hint}")


def first_offender(model: nn.Module, run: Callable[[], Any], known: Collection[Any]) -> str:
    """Run the model once more and name the module that makes the first uncovered operation.

    What is new in a module's output it made itself; what is new in its input, the module around it made.
    """
    seen: set[Any] = set()
    found: list[str] = []
    running: list[str] = []

    def look(value: Any, maker: str) -> None:
        for tensor in _tensors(value):
            fresh = [n for n in nodes(tensor.grad_fn) if n not in seen] if tensor.grad_fn is not None else []
            seen.update(fresh)
            if any(offence(n, known) for n in fresh):
                found.append(maker)

    def before(label: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
        look((*args, *kwargs.values()), running[-1] if running else label)
        running.append(label)

    def after(label: str, _module: nn.Module, _args: Any, output: Any) -> None:
        look(output, label)
        running.pop()

    with ExitStack() as stack:
        for name, module in model.named_modules():
            label = f"{type(module).__name__} at {name!r}" if name else type(module).__name__
            stack.callback(module.register_forward_pre_hook(partial(before, label), with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(partial(after, label)).remove)
        run()
    return found[0] if found else type(model).__name__


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [part for part in parts if isinstance(part, Tensor)]


def count_consumers(wanted: set[Any], output: Tensor) -> dict[Any, int]:
    """How many operations behind `output` take the result of each wanted graph node."""
    consumers = dict.fromkeys(wanted, 0)
    for node in nodes(output.grad_fn) if wanted and output.grad_fn is not None else ():
        for parent, _ in node.next_functions:
            if parent in consumers:
                consumers[parent] += 1
    return consumers


def check_merged(merged: dict[Any, str], output: Tensor) -> None:
    """Raise if the output of a layer whose batch norm was merged goes anywhere else too.

    `merged` maps the graph node of the layer's output to the name of its batch norm.
    """
    for node, count in count_consumers(set(merged), output).items():
        if count > 1:
            raise RuntimeError(
                f"the layer before batch norm {merged[node]!r} feeds {count} operations, so the norm can't be merged "
                "into it; pass canonizers=[] or MergeBatchNorm(pairs=...) without this pair"
            )


VIEWS = "View UnsafeView ReshapeAlias Alias Permute Transpose T Unsqueeze Squeeze Clone ConstantPadNd Slice".split()


def check_input_layer(explicit_inputs: list[Tensor], leaf: Tensor, output: Tensor) -> None:
    """Explicit rules (Flat, WSquare, ZBox) need a layer fed by the input alone, and an input that feeds it alone."""
    for tensor in explicit_inputs:
        node = tensor.grad_fn
        while node is not None and type(node).__name__.split("Backward")[0].rstrip("0123456789") in VIEWS:
            node = node.next_functions[0][0]
        reaches = getattr(node, "variable", None) is leaf if tensor.grad_fn is not None else tensor is leaf
        if not reaches:
            raise ValueError(
                "Flat, WSquare and ZBox are for the input layer; here the layer isn't fed by the input itself"
            )
    edges = sum(getattr(p, "variable", None) is leaf for n in nodes(output.grad_fn) for p, _ in n.next_functions)
    if explicit_inputs and edges != len(explicit_inputs):
        raise ValueError(
            f"the input feeds {edges} operations; with Flat, WSquare or ZBox only the input layer may take it"
        )
