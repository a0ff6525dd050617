"""Layer-wise relevance propagation for CNNs and transformers: one forward and one backward pass per explanation.

Relevance of a tensor is `x * c`; the rules change the coefficient `c` that the backward pass carries.

    result = attribute(cnn, images, target=285, composite=EpsilonPlusFlat())
    result.pixels                                        # (B, H, W); .relevance is (B, C, H, W)
    result = attribute(llm, dict(tokenizer(text, return_tensors="pt")), target=contrast(yes, no), composite=AttnLRP())
    result.tokens                                        # (B, S)
    attribute(cnn, images, 285, record=["layer3"]).latent["layer3"]      # relevance of a hidden layer
    attribute(cnn, images, 285, conditions={"layer3": [5, 17]})          # CRP: only what flows through these channels
    attribute(cnn, images, target=list(range(10))).relevance             # (10, B, C, H, W) over one forward pass

`shared.lrp.unrolled` holds the differentiable form, for training through heatmaps; `shared.lrp.engine` the parts that
other rooms build on.
"""

from shared.lrp._attention import attention_relevance, head_relevance
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
    "weight_relevance",
    "zero_mean",
]
