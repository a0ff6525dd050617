"""What the tables of conditions are made of: ways to spoil a good call, and how its answer is compared.

A *condition* changes what a call stands in (precision, gradients, memory layout, the model's state), not whether its
input is valid. So the answer is the plain call's, or one error that names the argument: never another number.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Arguments = dict[str, Any]
Spoil = Callable[[Arguments], Arguments]


def leaves(value: Any) -> Iterator[Any]:
    """The arrays and numbers in an answer, in order; what is neither (figures, names, models) stays out."""
    if isinstance(value, Tensor):
        yield value.detach().cpu().to(torch.float64 if not value.is_complex() else value.dtype).numpy()
    elif isinstance(value, np.ndarray | np.generic | float | int | bool):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            yield array.astype(np.float64)
    elif hasattr(value, "toarray"):
        yield np.asarray(value.toarray(), dtype=np.float64)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from leaves(inner)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name))
    elif hasattr(value, "to_numpy"):
        yield from leaves(value.select_dtypes("number").to_numpy())


def differs(got: Any, want: Any, tolerance: float) -> str:
    """What is wrong with an answer, "" if nothing: its leaves against the expected ones, relative to their size."""
    one, other = list(leaves(got)), list(leaves(want))
    if [a.shape for a in one] != [b.shape for b in other]:
        return f"shapes {[a.shape for a in one]} instead of {[b.shape for b in other]}"
    for a, b in zip(one, other):
        if not b.size:
            continue
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return f"{int((~np.isfinite(a)).sum())} values not finite instead of {int((~np.isfinite(b)).sum())}"
        sound = np.isfinite(b)
        size = np.abs(b[sound]).max(initial=0.0)
        off = np.abs(a[sound] - b[sound]).max(initial=0.0)
        if off > tolerance * size:
            return f"off by {off:.2g} where values reach {size:.2g}"
    return ""


def names(error: Exception, arguments: Mapping[str, Any], also: tuple[str, ...] = ()) -> bool:
    """Whether a `ValueError` names one of the call's arguments (or of `also`)."""
    known = [*arguments, *also]
    return isinstance(error, ValueError) and any(re.search(rf"\b{re.escape(name)}\b", str(error)) for name in known)


def on_tensors(change: Callable[[Tensor], Tensor]) -> Spoil:
    """Changes every floating tensor among the arguments, in lists too."""

    def spoil(arguments: Arguments) -> Arguments:
        return {name: _changed(value, change) for name, value in arguments.items()}

    return spoil


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return change(value)
    if isinstance(value, list) and value and all(isinstance(v, Tensor) for v in value):
        return [_changed(v, change) for v in value]
    if isinstance(value, dict):
        return {k: _changed(v, change) for k, v in value.items()}
    return value


def on_arrays(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Changes every array of numpy among the arguments."""

    def spoil(arguments: Arguments) -> Arguments:
        return {k: change(v) if isinstance(v, np.ndarray) and v.ndim else v for k, v in arguments.items()}

    return spoil


def strided(value: Tensor) -> Tensor:
    """The same values, every second one of a longer memory."""
    return value.repeat_interleave(2, -1)[..., ::2] if value.ndim else value


def read_only(value: np.ndarray) -> np.ndarray:
    """The same values in Fortran's order, not writeable."""
    kept = np.array(value, order="F")
    kept.flags.writeable = False
    return kept


def in_dtype(dtype: torch.dtype) -> Spoil:
    """Tensors in another precision, and the model with them."""

    def spoil(arguments: Arguments) -> Arguments:
        model = arguments.get("model")
        moved = {"model": model.to(dtype)} if isinstance(model, nn.Module) else {}
        return on_tensors(lambda t: t.to(dtype))({**arguments, **moved})

    return spoil


def rounded(dtype: torch.dtype) -> Spoil:
    """Values that `dtype` holds, still in their own precision: what the call in `dtype` is compared with."""

    def spoil(arguments: Arguments) -> Arguments:
        model = arguments.get("model")
        moved = {"model": model.to(dtype).float()} if isinstance(model, nn.Module) else {}
        return on_tensors(lambda t: t.detach().to(dtype).to(t.dtype))({**arguments, **moved})

    return spoil


def same(arguments: Arguments) -> Arguments:
    return arguments


@dataclasses.dataclass(frozen=True)
class Condition:
    """A way to spoil a call.

    Attributes
    ----------
    spoil : callable
        The arguments, changed.
    plain : callable
        The arguments whose call gives the right value.
    around : callable
        A context the call stands in.
    tolerance : float
        Relative to the answer's largest value.
    """

    spoil: Spoil = same
    plain: Spoil = same
    around: Callable[[], AbstractContextManager] = contextlib.nullcontext
    tolerance: float = 1e-5


def autocast() -> AbstractContextManager:
    return torch.autocast("cpu", torch.bfloat16)


ON_ANY: dict[str, Condition] = {  # what every function with tensors or arrays is tried under
    "bfloat16": Condition(in_dtype(torch.bfloat16), rounded(torch.bfloat16), tolerance=0.03),
    "float16": Condition(in_dtype(torch.float16), rounded(torch.float16), tolerance=0.01),
    "float64": Condition(in_dtype(torch.float64)),
    "needs grad": Condition(on_tensors(lambda t: t.detach().clone().requires_grad_())),
    "strided": Condition(on_tensors(strided)),
    "no_grad": Condition(around=torch.no_grad),
    "inference_mode": Condition(around=torch.inference_mode),
    "autocast": Condition(around=autocast, tolerance=0.03),
    "read-only": Condition(on_arrays(read_only)),
}


# --- models ------------------------------------------------------------------------------------------------------
class Twice(nn.Module):
    """A network one of whose convolutions is used twice; `untied` gives each use its own copy."""

    def __init__(self, untied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.other = copy.deepcopy(self.again) if untied else self.again
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool, self.flat, self.head = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu1(self.first(x))
        h = self.relu3(self.other(self.relu2(self.again(h))))
        return self.head(self.flat(self.pool(h)))


class Whole(nn.Module):
    """Names as in `Twice`, with buffers that matter and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.norm.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
        self.norm.running_var.copy_(torch.tensor([0.5, 1.5, 1.0, 2.0]))
        self.relu1, self.drop = nn.ReLU(), nn.Dropout(0.5)
        self.pool, self.flat, self.head = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.pool(self.drop(self.relu1(self.norm(self.first(x)))))))


def whole() -> nn.Module:
    return Whole().eval()


def with_model(change: Callable[[nn.Module], nn.Module], prefix: str = "") -> Spoil:
    """Changes the model (and with `prefix` the layers' names)."""

    def spoil(arguments: Arguments) -> Arguments:
        named = {
            k: prefix + v
            for k, v in arguments.items()
            if k in ("layer", "layers", "record", "names", "head") and isinstance(v, str)
        }
        return {**arguments, **named, "model": change(arguments["model"])}

    return spoil


def parametrised(model: nn.Module) -> nn.Module:
    """Weights computed from others, with the same values."""
    for name in ("first", "head"):
        nn.utils.parametrizations.weight_norm(model.get_submodule(name))
    return model


def weight_normed(model: nn.Module) -> nn.Module:
    """The same by hooks, as older code has it: the weight is an attribute that each pass sets anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for name in ("first", "head"):
            nn.utils.weight_norm(model.get_submodule(name))
    return model


def compiled(model: nn.Module) -> nn.Module:
    """Compiled (by dynamo alone, without code) and run once."""
    made = torch.compile(model, backend="eager")
    with torch.no_grad():
        made(torch.ones(2, 3, 4, 4))
    return made


def compiled_in_place(model: nn.Module) -> nn.Module:
    """The same, under its own names."""
    model.compile(backend="eager")
    with torch.no_grad():
        model(torch.ones(2, 3, 4, 4))
    return model


class Wrapper(nn.Module):
    """A module of the user's own around a model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.train(module.training)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def frozen(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False)


MODEL: dict[str, Condition] = {  # what every function that runs a model is tried under
    "train": Condition(with_model(lambda m: m.train())),
    "frozen": Condition(with_model(frozen)),
    "no_grad": Condition(around=torch.no_grad),
    "inference_mode": Condition(around=torch.inference_mode),
    "needs grad": Condition(on_tensors(lambda t: t.detach().clone().requires_grad_())),
    "strided": Condition(on_tensors(strided)),
    "autocast": Condition(around=autocast, tolerance=0.05),
    "bfloat16": Condition(in_dtype(torch.bfloat16), rounded(torch.bfloat16), tolerance=0.05),
    "float64": Condition(in_dtype(torch.float64)),
    "wrapped": Condition(with_model(nn.DataParallel, "module.")),
    "wrapped by hand": Condition(with_model(Wrapper, "module.")),
    "parametrised": Condition(with_model(parametrised), tolerance=1e-3),
    "weight norm": Condition(with_model(weight_normed), tolerance=1e-3),
    "compiled": Condition(with_model(compiled, "_orig_mod.")),
    "compiled in place": Condition(with_model(compiled_in_place)),
    "twice": Condition(
        with_model(lambda _: Twice().eval()),
        with_model(lambda _: Twice(untied=True).eval()),
    ),
}


def state(model: nn.Module) -> tuple:
    """What a call must leave as it was: mode, flags, gradients, hooks, values."""
    modules = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    weights = [(p.requires_grad, p.grad is None, p.detach().double().sum().item()) for p in model.parameters()]
    return tuple(modules), tuple(weights), tuple(b.double().sum().item() for b in model.buffers())
