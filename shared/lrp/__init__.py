"""Layer-wise relevance propagation for CNNs and transformers: one forward and one backward pass per explanation.

Relevance of a tensor is `x * c`; the rules change the coefficient `c` that the backward pass carries.
"""

from shared.lrp._attention import attention_relevance, head_relevance, raw_attention, rollout
from shared.lrp._attribute import Attribution, attribute, default_composite
from shared.lrp._canonizers import MergeBatchNorm
from shared.lrp._composites import (
    CPLRP,
    AttnLRP,
    Composite,
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
)
from shared.lrp._errors import UnsupportedModule
from shared.lrp._ops import AnyLinear, AvgPool, BatchNorm, Convolution, Linear
from shared.lrp._rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Pass, Rule, WSquare, ZBox, ZPlus
from shared.lrp._targets import contrast, zero_mean
from shared.lrp._weights import conservation_report, weight_relevance

__all__ = [
    "CPLRP",
    "AlphaBeta",
    "AnyLinear",
    "AttnLRP",
    "Attribution",
    "AvgPool",
    "BatchNorm",
    "Composite",
    "Convolution",
    "Epsilon",
    "EpsilonAlpha2Beta1",
    "EpsilonAlpha2Beta1Flat",
    "EpsilonGammaBox",
    "EpsilonPlus",
    "EpsilonPlusFlat",
    "Flat",
    "Gamma",
    "Linear",
    "MergeBatchNorm",
    "Norm",
    "Pass",
    "Rule",
    "UnsupportedModule",
    "WSquare",
    "ZBox",
    "ZPlus",
    "attention_relevance",
    "attribute",
    "conservation_report",
    "contrast",
    "default_composite",
    "head_relevance",
    "raw_attention",
    "rollout",
    "weight_relevance",
    "zero_mean",
]
