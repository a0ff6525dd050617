"""The engine's parts that other rooms build their methods on: a model's call, its logits, targets, linear layers.

What a user of LRP needs stands in `shared.lrp`.
"""

from shared.lrp._attribute import explained_logits
from shared.lrp._batches import Part, parts_of, rows_of_input
from shared.lrp._errors import unsupported
from shared.lrp._inputs import EMBEDS, TOKENS, Inputs, frozen, last_positions, output_tensor
from shared.lrp._targets import weights_of
from shared.lrp.rules._composite import check_ready
from shared.lrp.rules._ops import StackedLinear, linear_op
from shared.lrp.transformers._heads import AttentionTap, check_found
from shared.lrp.transformers._modules import RMS_NORMS, norm_gain

__all__ = [
    "EMBEDS",
    "RMS_NORMS",
    "TOKENS",
    "AttentionTap",
    "Inputs",
    "Part",
    "StackedLinear",
    "check_found",
    "check_ready",
    "explained_logits",
    "frozen",
    "last_positions",
    "linear_op",
    "norm_gain",
    "output_tensor",
    "parts_of",
    "rows_of_input",
    "unsupported",
    "weights_of",
]
