"""Explanations that stand beside LRP: gradients, Grad-CAM, attention, Shapley, ALTI-Logit, VAR, second order.

alti_logit(llm, ids, target=contrast(yes, no)).tokens                # (B, S) by a forward pass only: ALTI-Logit
var_map(attribute(cnn, images, [3, 5, 7]).relevance, 0)              # what class 3 owns: VAR
explain_uncertainty(Ensemble(networks), x).diagonal                  # CovLRP: what the ensemble's doubt comes from
"""

from shared.attribution._alti import AltiLogit, alti_logit
from shared.attribution._attention import raw_attention, rollout
from shared.attribution._ensemble import Ensemble
from shared.attribution._second_order import (
    SecondOrder,
    explain_members,
    explain_uncertainty,
    explain_variance,
    gamma_except_last,
    predictive_variance,
    second_order,
)
from shared.attribution._var import choose_classes, class_gradients, class_softmax, shared_map, var_map

__all__ = [
    "AltiLogit",
    "Ensemble",
    "SecondOrder",
    "alti_logit",
    "choose_classes",
    "class_gradients",
    "class_softmax",
    "explain_members",
    "explain_uncertainty",
    "explain_variance",
    "gamma_except_last",
    "predictive_variance",
    "raw_attention",
    "rollout",
    "second_order",
    "shared_map",
    "var_map",
]
