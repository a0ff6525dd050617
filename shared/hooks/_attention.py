"""Wrap the attention function of a transformers model, per instance, reversibly, any number of times.

transformers (5.x) looks the attention function up by the name in the attention module's config. Inside the context
each attention module gets its own copy of the config that names one dispatcher; the dispatcher runs the module's
wrappers and ends in the function the model had before. Masks are built by the model's own config, so they stay those
of that function.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from shared.hooks._core import refuse_compiled

NAME = "reprise"
_STACK = "_reprise_attention"
Wrapper = Callable[..., "tuple[Tensor, Tensor | None]"]


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Every attention of a transformers model that goes through its attention interface.

    Parameters
    ----------
    model : any torch module.

    Returns
    -------
    Name -> module.
    """
    return {name: module for name, module in model.named_modules() if _uses_interface(module)}


def _uses_interface(module: nn.Module) -> bool:
    source = sys.modules.get(type(module).__module__)
    named = "Attention" in type(module).__name__ and hasattr(module, "config")
    return named and hasattr(source, "ALL_ATTENTION_FUNCTIONS")


@contextmanager
def wrap_attention(model: nn.Module, wrapper: Wrapper) -> Iterator[dict[str, nn.Module]]:
    """Run `wrapper` in place of every attention function of a transformers model.

    Parameters
    ----------
    model : a transformers model that isn't compiled.
    wrapper : called as `wrapper(call, module, query, key, value, mask, **kwargs)`; `call`, of all but its first
        argument, is the next function in the chain. Both return `(output (B, S, H, d), weights or None)`. query
        (B, H, S, d), key and value (B, Hkv, S, d) after rotary embedding; mask as the model's implementation builds it
        (None where it is implied). Wrappers nest in any order.

    Yields
    ------
    The attention modules by name.
    """
    refuse_compiled(model)
    modules = attention_modules(model)
    with ExitStack() as stack:
        for module in modules.values():
            stack.enter_context(_wrapped(module, wrapper))
        yield modules


@contextmanager
def _wrapped(module: nn.Module, wrapper: Wrapper) -> Iterator[None]:
    state = module.__dict__.get(_STACK)
    outermost = state is None
    if outermost:
        _register_dispatcher()
        state = module.__dict__[_STACK] = {"config": module.config, "wrappers": []}
        module.config = copy.copy(module.config)
        module.config._attn_implementation_internal = NAME
    state["wrappers"].append(wrapper)
    try:
        yield
    finally:
        state["wrappers"].remove(wrapper)
        if outermost:
            module.config = state["config"]
            del module.__dict__[_STACK]


def _register_dispatcher() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, _dispatch)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _dispatch(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    state = module.__dict__[_STACK]
    call: Callable[..., Any] = _base_function(module, state["config"]._attn_implementation)
    for wrapper in state["wrappers"]:
        call = partial(wrapper, call)
    return call(module, *args, **kwargs)


def _base_function(module: nn.Module, implementation: str) -> Callable[..., Any]:
    source = sys.modules[type(module).__module__]
    eager = getattr(source, "eager_attention_forward", None)
    return source.ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager)
