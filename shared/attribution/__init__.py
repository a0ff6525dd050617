"""Explanations that stand beside LRP: gradients, Grad-CAM, attention, Shapley, ALTI-Logit, VAR, second order.

>>> import torch
>>> from torch import nn
>>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
>>> maps = input_x_gradient(net, torch.rand(2, 4), [0, 1, 2])  # a list of targets gives a leading axis
>>> maps.shape, var_map(maps, target=0).shape
(torch.Size([3, 2, 4]), torch.Size([2, 4]))

Every method is called `f(model, x, target, *, options)` with x, target and position as for `shared.lrp.attribute`:
`gradient`, `input_x_gradient`, `integrated_gradients`, `smooth_grad`, `occlusion`, `guided_backprop` and `deconvnet`,
`grad_cam` (which needs a layer), `alti_logit`. `shapley_values` takes any function; `var_map` compares the maps of
several classes; `explain_uncertainty` tells what an `Ensemble`'s doubt comes from.
"""

from shared.attribution._alti import AltiLogit, alti_logit
from shared.attribution._attention import raw_attention, rollout
from shared.attribution._ensemble import Ensemble
from shared.attribution._grad_cam import grad_cam
from shared.attribution._gradients import gradient, guided_backprop, input_x_gradient, integrated_gradients
from shared.attribution._members import explain_members, explain_variance, gamma_except_last, predictive_variance
from shared.attribution._perturbations import deconvnet, occlusion, smooth_grad
from shared.attribution._second_order import SecondOrder, explain_uncertainty, second_order
from shared.attribution._shapley import shapley_values
from shared.attribution._var import choose_classes, class_gradients, class_softmax, shared_map, var_map

__all__ = [
    "AltiLogit",
    "Ensemble",
    "SecondOrder",
    "alti_logit",
    "choose_classes",
    "class_gradients",
    "class_softmax",
    "deconvnet",
    "explain_members",
    "explain_uncertainty",
    "explain_variance",
    "gamma_except_last",
    "grad_cam",
    "gradient",
    "guided_backprop",
    "input_x_gradient",
    "integrated_gradients",
    "occlusion",
    "predictive_variance",
    "raw_attention",
    "rollout",
    "second_order",
    "shapley_values",
    "shared_map",
    "smooth_grad",
    "var_map",
]
