"""Layer-wise relevance propagation for CNNs and transformers: one forward and one backward pass per explanation.

Relevance of a tensor is `x * c`; the rules change the coefficient `c` that the backward pass carries.

    result = attribute(cnn, images, target=285, composite=EpsilonPlusFlat())
    result.pixels                                        # (B, H, W); .relevance is (B, C, H, W)
    result = attribute(llm, dict(tokenizer(text, return_tensors="pt")), target=contrast(yes, no), composite=AttnLRP())
    result.tokens                                        # (B, S)
    attribute(cnn, images, 285, record=["layer3"]).latent["layer3"]      # relevance of a hidden layer
    attribute(cnn, images, 285, conditions={"layer3": [5, 17]})          # CRP: only what flows through these channels
    attribute(cnn, images, target=list(range(10))).relevance             # (10, B, C, H, W) over one forward pass
    alti_logit(llm, ids, target=contrast(yes, no)).tokens # (B, S) by a forward pass only: ALTI-Logit
    explain_uncertainty(Ensemble(networks), x).diagonal                  # CovLRP: what the ensemble's doubt comes from

`shared.lrp.unrolled` holds the differentiable form, for training through heatmaps.
"""

from shared.lrp._alti import AltiLogit, alti_logit
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
from shared.lrp._ensemble import Ensemble
from shared.lrp._errors import UnsupportedModule
from shared.lrp._ops import AnyLinear, AvgPool, BatchNorm, Convolution, Linear
from shared.lrp._rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Pass, Rule, WSquare, ZBox, ZPlus
from shared.lrp._second_order import (
    SecondOrder,
    explain_members,
    explain_uncertainty,
    explain_variance,
    gamma_except_last,
    predictive_variance,
    second_order,
)
from shared.lrp._targets import contrast, zero_mean
from shared.lrp._var import choose_classes, class_gradients, class_softmax, shared_map, var_map
from shared.lrp._weights import conservation_report, weight_relevance

__all__ = [
    "CPLRP",
    "AlphaBeta",
    "AltiLogit",
    "AnyLinear",
    "AttnLRP",
    "Attribution",
    "AvgPool",
    "BatchNorm",
    "Composite",
    "Convolution",
    "Ensemble",
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
    "SecondOrder",
    "UnsupportedModule",
    "WSquare",
    "ZBox",
    "ZPlus",
    "alti_logit",
    "attention_relevance",
    "attribute",
    "choose_classes",
    "class_gradients",
    "class_softmax",
    "conservation_report",
    "contrast",
    "default_composite",
    "explain_members",
    "explain_uncertainty",
    "explain_variance",
    "gamma_except_last",
    "head_relevance",
    "predictive_variance",
    "raw_attention",
    "rollout",
    "second_order",
    "shared_map",
    "var_map",
    "weight_relevance",
    "zero_mean",
]
