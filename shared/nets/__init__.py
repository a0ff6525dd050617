"""Small architectures: plain modules with named blocks, so that hooks and rules find their layers.

>>> import torch
>>> net = SmallResNet(3, 10, widths=(4, 8)).eval()
>>> net(torch.rand(2, 3, 16, 16)).shape
torch.Size([2, 10])
>>> [name for name, _ in net.named_children()]
['stem', 'stages', 'pool', 'flatten', 'classifier']
"""

from shared.nets._autoencoder import ConceptAutoencoder, ConceptJudge
from shared.nets._bcos import (
    AddInverse,
    BcosConv2d,
    BcosLinear,
    SmallBcos,
    UncentredNorm,
    explanation_mode,
    linear_map,
)
from shared.nets._build import build_net
from shared.nets._conv import ConvNorm, ResidualBlock, SmallConv, SmallResNet, SmallVGG
from shared.nets._decoder import small_decoder
from shared.nets._efficientnet import EfficientNetLite0
from shared.nets._factors import FactorCNN, PatchHead
from shared.nets._lc0 import Lc0Net, SqueezeBlock, load_lc0
from shared.nets._logits import logits_of, target_logit
from shared.nets._phoenix import Phoenix, solve_step
from shared.nets._post_norm import PostNormBlock, PostNormPolicy
from shared.nets._stacked import StackedNet
from shared.nets._unet import PooledVGG, UNet
from shared.nets._volumes import graz_net

__all__ = [
    "AddInverse",
    "BcosConv2d",
    "BcosLinear",
    "ConceptAutoencoder",
    "ConceptJudge",
    "ConvNorm",
    "EfficientNetLite0",
    "FactorCNN",
    "Lc0Net",
    "PatchHead",
    "Phoenix",
    "PooledVGG",
    "PostNormBlock",
    "PostNormPolicy",
    "ResidualBlock",
    "SmallBcos",
    "SmallConv",
    "SmallResNet",
    "SmallVGG",
    "SqueezeBlock",
    "StackedNet",
    "UNet",
    "UncentredNorm",
    "build_net",
    "explanation_mode",
    "graz_net",
    "linear_map",
    "load_lc0",
    "logits_of",
    "small_decoder",
    "solve_step",
    "target_logit",
]
