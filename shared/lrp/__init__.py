"""Layer-wise relevance propagation for CNNs and transformers: one forward and one backward pass per explanation.

>>> import torch
>>> from torch import nn
>>> cnn = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
>>> result = attribute(cnn, torch.rand(5, 1, 4, 4), target=2, composite=EpsilonPlus(), record=["1"])
>>> result.pixels.shape, result.latent["1"].shape
(torch.Size([5, 4, 4]), torch.Size([5, 2, 2, 2]))

Relevance of a tensor is `x * c`; the rules change the coefficient `c` that the backward pass carries. `Rule` says how
to write one.

    result = attribute(cnn, images, target=285, composite=EpsilonPlusFlat())
    result.pixels                                        # (B, H, W); .relevance is (B, C, H, W)
    result = attribute(llm, dict(tokenizer(text, return_tensors="pt")), target=contrast(yes, no), composite=AttnLRP())
    result.tokens                                        # (B, S)
    attribute(cnn, volumes, target=1).voxels             # (B, D, H, W), through 3-D convolutions
    attribute(cnn, images, 285, record=["layer3"]).latent["layer3"]      # relevance of a hidden layer
    attribute(cnn, images, 285, conditions={"layer3": [5, 17]})          # CRP: only what flows through these channels
    attribute(cnn, images, 5, start_layer="layer3")                      # of channel 5 of a hidden layer, no logit
    reference_banks(cnn, "layer3", images, k=8)["layer3"].rows           # each channel's 8 most relevant images
    attribute(cnn, images, target=list(range(10))).relevance             # (10, B, C, H, W) over one forward pass

`shared.lrp.unrolled` holds the differentiable form, for training through heatmaps; `shared.lrp.engine` the parts that
other rooms build on.
"""

from shared.lrp._attribute import Attribution, attribute, default_composite
from shared.lrp._errors import UnsupportedModule
from shared.lrp._references import ReferenceBank, channel_relevance, crop_to_relevance, reference_banks
from shared.lrp._targets import answer, contrast, zero_mean
from shared.lrp._weights import conservation_report, weight_relevance
from shared.lrp.rules._base import ElementwiseRule, LinearRule, Rule
from shared.lrp.rules._canonizers import MergeBatchNorm
from shared.lrp.rules._composite import Composite
from shared.lrp.rules._functions import stabilize
from shared.lrp.rules._input import Flat, WSquare, ZBox
from shared.lrp.rules._linear import AlphaBeta, Epsilon, Gamma, Norm, Pass, ZPlus
from shared.lrp.rules._ops import AnyLinear, AvgPool, BatchNorm, Convolution, Linear
from shared.lrp.rules._presets import (
    CPLRP,
    AttnLRP,
    BetaSmooth,
    Deconvnet,
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    ExcitationBackprop,
    GuidedBackprop,
)
from shared.lrp.rules._rectifiers import DeconvReLU, GuidedReLU, SmoothReLU
from shared.lrp.transformers._heads import attention_relevance, head_relevance

__all__ = [
    "CPLRP",
    "AlphaBeta",
    "AnyLinear",
    "AttnLRP",
    "Attribution",
    "AvgPool",
    "BatchNorm",
    "BetaSmooth",
    "Composite",
    "Convolution",
    "DeconvReLU",
    "Deconvnet",
    "ElementwiseRule",
    "Epsilon",
    "EpsilonAlpha2Beta1",
    "EpsilonAlpha2Beta1Flat",
    "EpsilonGammaBox",
    "EpsilonPlus",
    "EpsilonPlusFlat",
    "ExcitationBackprop",
    "Flat",
    "Gamma",
    "GuidedBackprop",
    "GuidedReLU",
    "Linear",
    "LinearRule",
    "MergeBatchNorm",
    "Norm",
    "Pass",
    "ReferenceBank",
    "Rule",
    "SmoothReLU",
    "UnsupportedModule",
    "WSquare",
    "ZBox",
    "ZPlus",
    "answer",
    "attention_relevance",
    "attribute",
    "channel_relevance",
    "conservation_report",
    "contrast",
    "crop_to_relevance",
    "default_composite",
    "head_relevance",
    "reference_banks",
    "stabilize",
    "weight_relevance",
    "zero_mean",
]
