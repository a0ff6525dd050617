"""A safety net: after the forward pass, look for operations that no rule has covered.

Parameters are frozen during an attribution, so every edge of the autograd graph leads to the input. A product of two
such tensors, or a nonlinear operation, that wasn't made by one of our rules would silently fall back to the plain
gradient; it is an error instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import Tensor, nn

from shared.lrp._errors import UnsupportedModule

NONLINEAR = (
    "Gelu Silu Hardtanh Sigmoid Tanh Softplus Elu Hardswish Hardsigmoid Mish LogSigmoid Exp Expm1 Log Log1P Pow Sqrt "
    "Rsqrt Reciprocal Sin Cos Erf Softmax LogSoftmax Logsumexp NativeLayerNorm NativeGroupNorm FusedRmsNorm "
    "LinalgVectorNorm Norm Var Std VarMean StdMean Prod Cumprod Clamp"
).split()
BILINEAR = ["Mul", "Div", "Mm", "Bmm", "Baddbmm", "Dot", "Mv", "Addcmul", "Addcdiv"]
ATTENTION = ["ScaledDotProduct"]
IN_ATTENTION = {"Softmax", "Bmm", "ScaledDotProduct"}  # the math kernel shows its parts


def nodes(root: Any) -> Iterator[Any]:
    """Every node of the autograd graph behind `root` (a grad_fn), each once."""
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        yield node
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)


def offence(node: Any, has_attention: bool) -> str | None:
    """The operation's name if no rule covers it, else None."""
    name = type(node).__name__.split("Backward")[0]
    if has_attention and (name in IN_ATTENTION or name.startswith("ScaledDotProduct")):
        return None
    bilinear = name in BILINEAR and sum(parent is not None for parent, _ in node.next_functions) > 1
    return name if name in NONLINEAR or bilinear or name.startswith("ScaledDotProduct") else None


def check_graph(output: Tensor, has_attention: bool, locate: Callable[[], str]) -> None:
    """Raise `UnsupportedModule` if the graph behind `output` holds an operation without a rule.

    `locate`, called only for the error, runs the model again and says in which module the operation sits.
    """
    for node in nodes(output.grad_fn):
        operation = offence(node, has_attention)
        if operation is not None:
            hint = (
                "use AttnLRP() or CPLRP() for a transformers model"
                if operation in IN_ATTENTION or operation.startswith("ScaledDotProduct")
                else "use the nn.Module form of an activation, detach a constant factor, or give the module a rule"
            )
            raise UnsupportedModule(f"no LRP rule for the operation {operation} in {locate()}; {hint}")


def first_offender(model: nn.Module, run: Callable[[], Any], has_attention: bool) -> str:
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
            if any(offence(n, has_attention) for n in fresh):
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
