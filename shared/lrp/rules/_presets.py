"""The field's named composites; names and defaults as in zennit and lxt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from shared._checks import check_range
from shared.lrp.rules._base import Rule
from shared.lrp.rules._composite import Composite, LayerMap, NameMap
from shared.lrp.rules._input import Flat, ZBox
from shared.lrp.rules._linear import AlphaBeta, Epsilon, Gamma, Norm, ZPlus
from shared.lrp.rules._ops import AnyLinear, AvgPool, Convolution, Linear
from shared.lrp.rules._rectifiers import DeconvReLU, GuidedReLU, SmoothReLU

ZeroParams = Sequence[str] | str


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
        super().__init__([*layer_map, *rules], name_map=name_map, first_map=[*first_map, *first], **options)


class EpsilonPlus(_Preset):
    """ZPlus in convolutions, Epsilon in dense layers.

    Parameters
    ----------
    epsilon : stabilizer of every rule, >= 0.
    zero_params : "bias" leaves biases out of the denominators, so that they keep no relevance (deep nets).
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(self, *, epsilon: float = 1e-6, zero_params: ZeroParams = (), **maps: Any) -> None:
        rules = _rules(epsilon, ZPlus(epsilon, zero_params=zero_params), zero_params)
        super().__init__(rules, **maps)


class EpsilonPlusFlat(_Preset):
    """`EpsilonPlus` with Flat at the input layer.

    Parameters
    ----------
    epsilon : stabilizer of every rule, >= 0.
    zero_params : "bias" leaves biases out of the denominators, so that they keep no relevance (deep nets).
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(self, *, epsilon: float = 1e-6, zero_params: ZeroParams = (), **maps: Any) -> None:
        rules = _rules(epsilon, ZPlus(epsilon, zero_params=zero_params), zero_params)
        super().__init__(rules, [(AnyLinear, Flat(epsilon))], **maps)


class EpsilonGammaBox(_Preset):
    """Gamma in convolutions, Epsilon in dense layers, ZBox at the input layer.

    Parameters
    ----------
    low, high : smallest and largest value of a pixel in the model's normalised units; scalars, or tensors that
        broadcast to the input, such as `(1, C, 1, 1)`.
    gamma : how much contributions of the output's own sign are favoured in convolutions, >= 0.
    epsilon : stabilizer of every rule, >= 0.
    zero_params : "bias" leaves biases out of the denominators, so that they keep no relevance (deep nets).
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(
        self,
        low: float | Tensor,
        high: float | Tensor,
        *,
        gamma: float = 0.25,
        epsilon: float = 1e-6,
        zero_params: ZeroParams = (),
        **maps: Any,
    ) -> None:
        rules = _rules(epsilon, Gamma(gamma, epsilon, zero_params=zero_params), zero_params)
        super().__init__(rules, [(Convolution, ZBox(low, high, epsilon))], **maps)


class EpsilonAlpha2Beta1(_Preset):
    """AlphaBeta(2, 1) in convolutions, Epsilon in dense layers.

    Parameters
    ----------
    epsilon : stabilizer of every rule, >= 0.
    zero_params : "bias" leaves biases out of the denominators, so that they keep no relevance (deep nets).
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(self, *, epsilon: float = 1e-6, zero_params: ZeroParams = (), **maps: Any) -> None:
        rules = _rules(epsilon, AlphaBeta(2, 1, epsilon, zero_params=zero_params), zero_params)
        super().__init__(rules, **maps)


class EpsilonAlpha2Beta1Flat(_Preset):
    """`EpsilonAlpha2Beta1` with Flat at the input layer.

    Parameters
    ----------
    epsilon : stabilizer of every rule, >= 0.
    zero_params : "bias" leaves biases out of the denominators, so that they keep no relevance (deep nets).
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(self, *, epsilon: float = 1e-6, zero_params: ZeroParams = (), **maps: Any) -> None:
        rules = _rules(epsilon, AlphaBeta(2, 1, epsilon, zero_params=zero_params), zero_params)
        super().__init__(rules, [(AnyLinear, Flat(epsilon))], **maps)


class ExcitationBackprop(_Preset):
    """ZPlus in convolutions and dense layers (Zhang et al. 2016).

    Parameters
    ----------
    epsilon : stabilizer of every rule, >= 0.
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(self, *, epsilon: float = 1e-6, **maps: Any) -> None:
        super().__init__([(AvgPool, Norm(epsilon)), (AnyLinear, ZPlus(epsilon))], **maps)


class GuidedBackprop(_Preset):
    """Guided backpropagation (Springenberg et al. 2015) as a composite: relevance is x times the guided gradient.

    Parameters
    ----------
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(self, **maps: Any) -> None:
        super().__init__([(nn.ReLU, GuidedReLU())], **maps)


class Deconvnet(_Preset):
    """Deconvolution (Zeiler & Fergus 2014) as a composite: relevance is x times the deconvolved gradient.

    Parameters
    ----------
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(self, **maps: Any) -> None:
        super().__init__([(nn.ReLU, DeconvReLU())], **maps)


class BetaSmooth(_Preset):
    """The gradient with ReLU's step smoothed (Dombrowski et al. 2019); relevance is x times it.

    Parameters
    ----------
    beta : sharpness of the step, >= 0.
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(self, *, beta: float = 10.0, **maps: Any) -> None:
        check_range("beta", beta, 0.0)
        super().__init__([(nn.ReLU, SmoothReLU(beta))], **maps)


def _gamma_rules(gamma_linear: float, gamma_conv: float) -> list[tuple[Any, Rule]]:
    conv = [(Convolution, Gamma(gamma_conv))] if gamma_conv else []
    return conv + ([(Linear, Gamma(gamma_linear))] if gamma_linear else [])


class AttnLRP(_Preset):
    """AttnLRP for transformers (Achtibat et al. 2024): halves at products, softmax by its own rule, norms constant.

    Parameters
    ----------
    gamma_linear : gamma in dense layers; 0 is LRP-0. For ViTs the authors search {0, 0.01, 0.05, 0.1, 1}.
    gamma_conv : gamma in the patch embedding's convolution; 0 is LRP-0. The authors search {0.1, 0.25, 100}.
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(self, *, gamma_linear: float = 0.0, gamma_conv: float = 0.0, **maps: Any) -> None:
        super().__init__(_gamma_rules(gamma_linear, gamma_conv), **{"transformer": "attnlrp", **maps})


class CPLRP(_Preset):
    """CP-LRP (Ali et al. 2022): attention pattern and gates are constants. With gammas, the choice for ViTs.

    Parameters
    ----------
    gamma_linear : gamma in dense layers; 0 is LRP-0.
    gamma_conv : gamma in the patch embedding's convolution; 0 is LRP-0.
    maps : further arguments of `Composite`; their rules come first.
    """

    def __init__(self, *, gamma_linear: float = 0.0, gamma_conv: float = 0.0, **maps: Any) -> None:
        super().__init__(_gamma_rules(gamma_linear, gamma_conv), **{"transformer": "cp", **maps})
