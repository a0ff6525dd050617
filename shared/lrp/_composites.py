"""Composites: which module gets which rule, and the context manager that applies them to a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from shared._checks import check_choice
from shared.hooks import attention_modules, find_module, wrap_attention
from shared.lrp import _transformers
from shared.lrp._activations import identity_forward, needs_identity
from shared.lrp._canonizers import MergeBatchNorm, MergedPair, in_data_flow
from shared.lrp._errors import unsupported
from shared.lrp._mha import mha_forward
from shared.lrp._ops import (
    AnyLinear,
    AvgPool,
    Convolution,
    Linear,
    ModuleOp,
    is_hf_conv1d,
    is_plain,
    linear_op,
    pad_input,
)
from shared.lrp._rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Rule, ZBox, ZPlus

LayerMap = Sequence[tuple[Any, Rule]]
NameMap = Sequence[tuple[Iterable[str], Rule]]
ZeroParams = Sequence[str] | str
_ACTIVE = "_reprise_lrp_active"


class Composite:
    """Assigns rules to modules and applies them inside `context(model)`.

    A module gets the first rule that fits: `name_map` by exact name, then `first_map` if it is the model's first linear
    layer (registration order), then `layer_map` by type. Linear layers without a rule are LRP-0 (the plain gradient is
    right), elementwise activations get the identity rule, norms have their statistics detached.

    Args:
        layer_map: list of (type or tuple of types, rule).
        name_map: list of (names, rule).
        first_map: like layer_map, for the input layer; the place for ZBox, Flat and WSquare.
        canonizers: None merges batch norms into the layer before them; `[]` keeps them as layers of their own.
        transformer: "attnlrp", "cp" or None (attention and gated MLPs are then refused).
        constants: names of modules whose output is a constant factor that takes no relevance, such as the gates of
            squeeze-and-excitation.
    """

    def __init__(
        self,
        layer_map: LayerMap = (),
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
        """Name -> rule for every module of `model` that gets one."""
        for name in [*itertools.chain.from_iterable(names for names, _ in self.name_map), *self.constants]:
            find_module(model, name)
        by_name = {name: rule for names, rule in self.name_map for name in names}
        modules = [(n, m) for n, m in model.named_modules() if not any(True for _ in m.children())]
        first = next((n for n, m in modules if linear_op(m) is not None), None)
        chosen = {}
        for name, module in modules:
            maps = (self.first_map if name == first else []) + self.layer_map
            rule = by_name.get(name) or next((r for types, r in maps if _matches(module, types)), None)
            if rule is not None:
                chosen[name] = rule
        return chosen

    @contextmanager
    def context(self, model: nn.Module, run: Callable[[], Any] | None = None) -> Iterator[Applied]:
        """Apply the rules to `model`; its forward output is unchanged, its backward pass carries LRP coefficients.

        `run` calls the model on some input; given it, default batch-norm merging is restricted to pairs in data flow.
        """
        with ExitStack() as stack:
            yield stack.enter_context(Applied(self, model, run))

    def register(self, model: nn.Module) -> None:
        """Apply the rules until `remove()`; prefer `context`."""
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
        self.has_attention = False

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
        self.pairs.clear()
        self._stack.close()

    def _install(self, stack: ExitStack) -> None:
        rules, mode = self.composite.rules(self.model), self.composite.transformer
        merged = self._merge(stack)
        for name, module in self.model.named_modules():
            _disable_inplace(stack, module)
            _functional_activation(stack, module)
            forward = self._forward_for(name, module, rules.get(name), merged.get(module))
            if forward is not None:
                _override(stack, module, forward)
        if mode is not None and attention_modules(self.model):
            stack.enter_context(wrap_attention(self.model, _transformers.attention_wrapper(mode)))
            self.has_attention = True

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
            self.has_attention = True
            return mha_forward(module, name, self.composite.transformer, self._dense_rule())
        _transformers.check_norm(module, name)
        gated = _transformers.gated_forward(module, self.composite.transformer) if self.composite.transformer else None
        return gated or _transformers.norm_forward(module)

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
            if pair is not None:
                pair.output = z
            return z

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
    """Refuse compiled or data-parallel models, and train mode where it changes the function."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module; got {type(model).__name__}")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ValueError(f"model is a {type(model).__name__}; pass model.module")
    if hasattr(model, "_orig_mod"):
        raise ValueError("model is compiled by torch.compile, which hides its modules; pass model._orig_mod")
    for name, module in model.named_modules():
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        attends = isinstance(getattr(module, "attention_dropout", None), float) and module.attention_dropout > 0
        if module.training and (drops or attends or isinstance(module, nn.modules.batchnorm._BatchNorm)):
            raise RuntimeError(f"{type(module).__name__} at {name!r} is in train mode; call model.eval() first")


# --- the field's named composites (names and defaults as in zennit)


def _rules(epsilon: float, convolution: Rule, zero_params: ZeroParams) -> list[tuple[Any, Rule]]:
    dense = Epsilon(epsilon, zero_params=zero_params)
    return [(AvgPool, Norm(epsilon)), (Convolution, convolution), (Linear, dense)]


class _Preset(Composite):
    """`layer_map`, `name_map`, `first_map` given by the user come before the preset's own."""

    def __init__(
        self,
        rules: LayerMap,
        first: LayerMap = (),
        *,
        layer_map: LayerMap = (),
        name_map: NameMap = (),
        first_map: LayerMap = (),
        **options: Any,
    ) -> None:
        super().__init__([*layer_map, *rules], name_map, [*first_map, *first], **options)


class EpsilonPlus(_Preset):
    """ZPlus in convolutions, Epsilon in dense layers.

    Args:
        epsilon: stabilizer of every rule.
        zero_params: "bias" leaves biases out of the denominators, so that they keep no relevance (deep nets).
        maps: further arguments of `Composite`; their rules come first.
    """

    def __init__(self, *, epsilon: float = 1e-6, zero_params: ZeroParams = (), **maps: Any) -> None:
        rules = _rules(epsilon, ZPlus(epsilon, zero_params=zero_params), zero_params)
        super().__init__(rules, **maps)


class EpsilonPlusFlat(_Preset):
    """`EpsilonPlus` with Flat at the input layer."""

    def __init__(self, *, epsilon: float = 1e-6, zero_params: ZeroParams = (), **maps: Any) -> None:
        rules = _rules(epsilon, ZPlus(epsilon, zero_params=zero_params), zero_params)
        super().__init__(rules, [(AnyLinear, Flat(epsilon))], **maps)


class EpsilonGammaBox(_Preset):
    """Gamma in convolutions, Epsilon in dense layers, ZBox at the input layer; `low`, `high` in normalised units."""

    def __init__(
        self,
        low: float | Tensor,
        high: float | Tensor,
        gamma: float = 0.25,
        *,
        epsilon: float = 1e-6,
        zero_params: ZeroParams = (),
        **maps: Any,
    ) -> None:
        rules = _rules(epsilon, Gamma(gamma, epsilon, zero_params=zero_params), zero_params)
        super().__init__(rules, [(Convolution, ZBox(low, high, epsilon))], **maps)


class EpsilonAlpha2Beta1(_Preset):
    """AlphaBeta(2, 1) in convolutions, Epsilon in dense layers."""

    def __init__(self, *, epsilon: float = 1e-6, zero_params: ZeroParams = (), **maps: Any) -> None:
        rules = _rules(epsilon, AlphaBeta(2, 1, epsilon, zero_params=zero_params), zero_params)
        super().__init__(rules, **maps)


class EpsilonAlpha2Beta1Flat(_Preset):
    """`EpsilonAlpha2Beta1` with Flat at the input layer."""

    def __init__(self, *, epsilon: float = 1e-6, zero_params: ZeroParams = (), **maps: Any) -> None:
        rules = _rules(epsilon, AlphaBeta(2, 1, epsilon, zero_params=zero_params), zero_params)
        super().__init__(rules, [(AnyLinear, Flat(epsilon))], **maps)


def _gamma_rules(gamma_linear: float, gamma_conv: float) -> list[tuple[Any, Rule]]:
    conv = [(Convolution, Gamma(gamma_conv))] if gamma_conv else []
    return conv + ([(Linear, Gamma(gamma_linear))] if gamma_linear else [])


class AttnLRP(_Preset):
    """AttnLRP for transformers (Achtibat et al. 2024): halves at products, softmax by its own rule, norms constant.

    Args:
        gamma_linear, gamma_conv: gamma of the Gamma rule in dense and patch-embedding layers; 0 is LRP-0. For ViTs the
            authors search conv in {0.1, 0.25, 100}, linear in {0, 0.01, 0.05, 0.1, 1}.
    """

    def __init__(self, gamma_linear: float = 0.0, gamma_conv: float = 0.0, **maps: Any) -> None:
        super().__init__(_gamma_rules(gamma_linear, gamma_conv), **{"transformer": "attnlrp", **maps})


class CPLRP(_Preset):
    """CP-LRP (Ali et al. 2022): attention pattern and gates are constants. With gammas, the choice for ViTs."""

    def __init__(self, gamma_linear: float = 0.0, gamma_conv: float = 0.0, **maps: Any) -> None:
        super().__init__(_gamma_rules(gamma_linear, gamma_conv), **{"transformer": "cp", **maps})
