"""Composites: which module gets which rule, and the context manager that applies them to a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from shared._checks import check_choice
from shared.hooks import attention_modules, find_module, refuse_training, wrap_attention
from shared.lrp._errors import unsupported
from shared.lrp.rules._activations import identity_forward, needs_identity
from shared.lrp.rules._base import Rule
from shared.lrp.rules._canonizers import MergeBatchNorm, MergedPair, in_data_flow
from shared.lrp.rules._ops import ModuleOp, is_hf_conv1d, is_plain, leaves, linear_op, pad_input
from shared.lrp.transformers import _experts
from shared.lrp.transformers import _modules as _transformers
from shared.lrp.transformers._mha import mha_forward

LayerMap = Sequence[tuple[Any, Rule]]
NameMap = Sequence[tuple[Iterable[str], Rule]]
_ACTIVE = "_reprise_lrp_active"


class Composite:
    """Assigns rules to modules and applies them inside `context(model)`.

    A module gets the first rule that fits: `name_map` by exact name, then `first_map` if it is the model's first linear
    layer (registration order), then `layer_map` by type. Linear layers without a rule are LRP-0 (the plain gradient is
    right), elementwise activations get the identity rule, norms have their statistics detached.

    Parameters
    ----------
    layer_map : list of (type or tuple of types, rule); empty is LRP-0.
    name_map : list of (name or names, rule).
    first_map : like layer_map, for the input layer; the place for ZBox, Flat and WSquare.
    canonizers : None merges batch norms into the layer before them; `[]` keeps them as layers of their own.
    transformer : "attnlrp", "cp" or None (attention and gated MLPs are then refused).
    constants : names of modules whose output is a constant factor that takes no relevance, such as the gates of
        squeeze-and-excitation.
    """

    def __init__(
        self,
        layer_map: LayerMap,
        *,
        name_map: NameMap = (),
        first_map: LayerMap = (),
        canonizers: Sequence[MergeBatchNorm] | None = None,
        transformer: str | None = None,
        constants: Iterable[str] = (),
    ) -> None:
        if transformer is not None:
            check_choice("transformer", transformer, _transformers.MODES)
        self.layer_map, self.first_map = list(layer_map), list(first_map)
        self.name_map = [([names] if isinstance(names, str) else list(names), rule) for names, rule in name_map]
        self.canonizers = [MergeBatchNorm()] if canonizers is None else list(canonizers)
        self.transformer = transformer
        self.constants = [constants] if isinstance(constants, str) else list(constants)

    def rules(self, model: nn.Module) -> dict[str, Rule]:
        """Which module gets which rule.

        Parameters
        ----------
        model : any torch module.

        Returns
        -------
        Name -> rule for every module that gets one.
        """
        for name in [*itertools.chain.from_iterable(names for names, _ in self.name_map), *self.constants]:
            find_module(model, name)
        by_name = {name: rule for names, rule in self.name_map for name in names}
        modules = list(leaves(model).items())
        first = next((n for n, m in modules if linear_op(m) is not None), None)
        chosen = {}
        for name, module in modules:
            maps = (self.first_map if name == first else []) + self.layer_map
            rule = by_name.get(name) or next((r for types, r in maps if _matches(module, types)), None)
            if rule is not None:
                chosen[name] = rule
        return chosen

    @contextmanager
    def context(self, model: nn.Module, *, run: Callable[[], Any] | None = None) -> Iterator[Applied]:
        """Apply the rules to a model; its forward output is unchanged, its backward pass carries LRP coefficients.

        Parameters
        ----------
        model : any torch module in eval mode.
        run : calls the model on some input and returns its output; given it, default batch-norm merging is restricted
            to pairs in data flow.

        Yields
        ------
        What was applied, for `attribute`.
        """
        with ExitStack() as stack:
            yield stack.enter_context(Applied(self, model, run))

    def register(self, model: nn.Module) -> None:
        """Apply the rules until `remove()`; prefer `context`.

        Parameters
        ----------
        model : any torch module in eval mode.
        """
        if getattr(self, "_registered", None) is not None:
            raise RuntimeError("this composite is registered already; call remove() first")
        self._registered = Applied(self, model)
        self._registered.__enter__()

    def remove(self) -> None:
        """Undo `register`."""
        if getattr(self, "_registered", None) is not None:
            self._registered.__exit__(None, None, None)
            self._registered = None


def _matches(module: nn.Module, types: Any) -> bool:
    wanted = types if isinstance(types, tuple) else (types,)
    return isinstance(module, wanted) or (nn.Linear in wanted and is_hf_conv1d(module))


class Applied:
    """A composite at work on one model: installs the overrides on entry, removes them on exit."""

    def __init__(self, composite: Composite, model: nn.Module, run: Callable[[], Any] | None = None) -> None:
        self.composite, self.model, self.run = composite, model, run
        self.pairs: list[MergedPair] = []
        self.explicit_inputs: list[Tensor] = []  # inputs of layers whose rule sends relevance itself
        self.covered: set[Any] = set()  # graph nodes inside the attention calls that our wrappers answer for

    def __enter__(self) -> Applied:
        check_ready(self.model)
        if self.model.__dict__.get(_ACTIVE):
            raise RuntimeError("the model already has an active LRP composite; leave that context first")
        with ExitStack() as stack:
            self.model.__dict__[_ACTIVE] = True
            stack.callback(self.model.__dict__.pop, _ACTIVE, None)
            self._install(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.explicit_inputs.clear()
        self.covered.clear()
        self.pairs.clear()
        self._stack.close()

    def _install(self, stack: ExitStack) -> None:
        rules, mode = self.composite.rules(self.model), self.composite.transformer
        merged = self._merge(stack)
        for name, module in self.model.named_modules():
            if "parametrizations" in name.split("."):
                continue  # they compute weights, which are constants here
            _disable_inplace(stack, module)
            _functional_activation(stack, module)
            forward = self._forward_for(name, module, rules.get(name), merged.get(module))
            if forward is not None:
                _override(stack, module, forward)
        if mode is not None and attention_modules(self.model):
            stack.enter_context(wrap_attention(self.model, _transformers.attention_wrapper(mode, self.covered)))

    def _merge(self, stack: ExitStack) -> dict[nn.Module, MergedPair]:
        names = {module: name for name, module in self.model.named_modules()}
        merged = {}
        for canonizer in self.composite.canonizers:
            pairs = canonizer.find(self.model)
            if canonizer.pairs is None and self.run is not None:
                pairs = in_data_flow(self.model, pairs, self.run)
            for linear, norm in pairs:
                pair = MergedPair(linear_op(linear), linear, norm, names[norm])
                self.pairs.append(pair)
                merged[linear] = pair
                _override(stack, norm, pair.pass_through)
        return merged

    def _forward_for(
        self, name: str, module: nn.Module, rule: Rule | None, pair: MergedPair | None
    ) -> Callable[..., Any] | None:
        if name in self.composite.constants:
            return _constant(module.forward)
        if linear_op(module) is not None and (rule is not None or pair is not None):
            if not is_plain(module):
                raise unsupported(
                    "a forward of its own", module, name, ("Linear", "Conv1d/2d/3d", "ConvTranspose1d/2d/3d")
                )
            return self._linear_forward(module, rule, pair)
        if rule is not None:
            return _ruled(module, name, rule)
        if needs_identity(module):
            return identity_forward(module, module.forward)
        if _transformers.clip_forward(module) is not None:
            return _transformers.clip_forward(module)
        if isinstance(module, nn.MultiheadAttention) and self.composite.transformer is not None:
            return mha_forward(module, name, self.composite.transformer, self._dense_rule(), self.covered)
        _transformers.check_norm(module, name)
        return self._product_forward(module) or _transformers.norm_forward(module)

    def _product_forward(self, module: nn.Module) -> Callable[..., Any] | None:
        """The forward of a transformers module that multiplies activations, or caps its logits; None for any other."""
        mode, kind = self.composite.transformer, type(module).__name__
        if mode is None:
            return None
        if kind in _experts.ROUTERS:
            return _experts.router_forward(module, mode, self.covered)
        if kind in _experts.EXPERTS:
            return _experts.experts_forward(module, mode, self._dense_rule())
        return _transformers.gated_forward(module, mode) or _transformers.capped_logits(module)

    def _dense_rule(self) -> Rule | None:
        """The rule of dense layers, for projections that are no modules of their own."""
        maps = self.composite.layer_map
        return next((r for types, r in maps if nn.Linear in (types if isinstance(types, tuple) else (types,))), None)

    def _linear_forward(self, module: Any, rule: Rule | None, pair: MergedPair | None) -> Callable[[Tensor], Tensor]:
        op = linear_op(module)

        def forward(x: Tensor) -> Tensor:
            weight, bias = (module.weight, module.bias) if pair is None else pair.parameters()
            if rule is not None and rule.explicit:
                self.explicit_inputs.append(x)
            x = pad_input(module, x)
            z = op.apply(x, weight, bias) if rule is None else rule.apply(op, x, weight, bias)
            return z if pair is None else pair.give(z)

        return forward


def _ruled(module: nn.Module, name: str, rule: Rule) -> Callable[[Tensor], Tensor]:
    """The forward of a module that isn't linear, with its rule."""
    if rule.needs_weights:
        raise ValueError(f"{type(rule).__name__} is a rule for linear layers; {name!r} is {type(module).__name__}")
    op = ModuleOp(module, module.forward)
    return lambda x: rule.apply(op, x, None, None)


def _constant(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *args, **kwargs: forward(*args, **kwargs).detach()


def _override(stack: ExitStack, module: nn.Module, forward: Callable[..., Any]) -> None:
    """Replace the instance's forward until the stack closes; an earlier instance override comes back then."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward

    def restore() -> None:
        if before is None:
            module.__dict__.pop("forward", None)
        else:
            module.__dict__["forward"] = before

    stack.callback(restore)


def _disable_inplace(stack: ExitStack, module: nn.Module) -> None:
    """In-place activations would overwrite outputs that rules and recordings need."""
    if getattr(module, "inplace", False) is True:
        module.inplace = False
        stack.callback(setattr, module, "inplace", True)


def _functional_activation(stack: ExitStack, module: nn.Module) -> None:
    """`nn.TransformerEncoderLayer` calls its activation as a function: give that function the identity rule."""
    if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        function = module.activation
        if not isinstance(function, nn.Module) and function is not F.relu:
            stack.callback(setattr, module, "activation", function)
            module.activation = identity_forward(module, function)


def check_ready(model: nn.Module) -> None:
    """Refuse compiled or data-parallel models, and train mode where it changes the function.

    Parameters
    ----------
    model : any torch module.

    Raises
    ------
    TypeError, ValueError
        No module, or one that hides its parts; dropout or batch norm in training mode.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module; got {type(model).__name__}")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ValueError(f"model is a {type(model).__name__}; pass model.module")
    if hasattr(model, "_orig_mod"):
        raise ValueError("model is compiled by torch.compile, which hides its modules; pass model._orig_mod")
    refuse_training(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"{type(module).__name__} at {name!r} has no running statistics: it normalises by the batch, so that "
                "a row's explanation would depend on the other rows; give the model a norm with track_running_stats"
            )
