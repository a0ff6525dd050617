"""Linear probes, concept vectors, TCAV and disentangled directions, for hundreds of concepts at once.

Labels are 1 for the concept and 0 otherwise; a direction points from non-concept to concept. Activations are (n, d), or
maps (n, d, h, w) and tokens (n, T, d), which are pooled first; a `Direction` remembers how, and at which layer. To
steer by one or project it out: `hooks.steer(model, {direction.layer: direction.vector})`, `hooks.project_out`.

>>> import torch
>>> from shared import probes
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
>>> x, y = torch.eye(3).repeat(4, 1), torch.tensor([1, 0, 0]).repeat(4)
>>> direction = probes.fit_direction(probes.activations(model, "0", x), y, layer="0", name="first")
>>> probes.tcav(model, "0", x, 1, direction).per_sample.shape
torch.Size([12, 1])
"""

from shared.probes._answers import flag_threshold, flip_groups, group_auroc
from shared.probes._attacks import herd_to_point, pgd_shift, select_for_tcav
from shared.probes._direction import Direction, check_layer, fit_direction, fit_directions, stack_directions
from shared.probes._disentangle import FinetuneHistory, finetune, multi_pattern, orthogonalise, pair_weights
from shared.probes._estimators import (
    PROBE_METHODS,
    FastCAV,
    LassoProbe,
    LDAProbe,
    LogisticProbe,
    MeanDifference,
    MedianDifference,
    PatternCAV,
    Probe,
    RidgeProbe,
    SVMProbe,
)
from shared.probes._factor import SharedFactor
from shared.probes._files import load_directions, save_directions
from shared.probes._inputs import DegenerateDirectionError
from shared.probes._metrics import auroc_cosine, cosine, leakage, orthogonality, welch_bound
from shared.probes._passes import activations, layer_gradients
from shared.probes._stats import (
    bootstrap_direction,
    cav_from_population,
    cav_mean_cov,
    expected_cosine,
    expected_tcav,
    lda_mean,
    ridge_equivalent,
    sensitivity_moments,
    sign_flip_probability,
)
from shared.probes._study import tcav_study
from shared.probes._tcav import TCAVResult, TCAVTest, tcav, tcav_scores, tcav_test

__all__ = [
    "PROBE_METHODS",
    "DegenerateDirectionError",
    "Direction",
    "FastCAV",
    "FinetuneHistory",
    "LDAProbe",
    "LassoProbe",
    "LogisticProbe",
    "MeanDifference",
    "MedianDifference",
    "PatternCAV",
    "Probe",
    "RidgeProbe",
    "SVMProbe",
    "SharedFactor",
    "TCAVResult",
    "TCAVTest",
    "activations",
    "auroc_cosine",
    "bootstrap_direction",
    "cav_from_population",
    "cav_mean_cov",
    "check_layer",
    "cosine",
    "expected_cosine",
    "expected_tcav",
    "finetune",
    "fit_direction",
    "fit_directions",
    "flag_threshold",
    "flip_groups",
    "group_auroc",
    "herd_to_point",
    "layer_gradients",
    "lda_mean",
    "leakage",
    "load_directions",
    "multi_pattern",
    "orthogonalise",
    "orthogonality",
    "pair_weights",
    "pgd_shift",
    "ridge_equivalent",
    "save_directions",
    "select_for_tcav",
    "sensitivity_moments",
    "sign_flip_probability",
    "stack_directions",
    "tcav",
    "tcav_scores",
    "tcav_study",
    "tcav_test",
    "welch_bound",
]
