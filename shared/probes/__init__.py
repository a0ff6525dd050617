"""Linear probes, concept vectors, TCAV, steering and model correction, for hundreds of concepts at once.

Labels are 1 for the concept and 0 otherwise; a direction points from non-concept to concept. Activations are (n, d), or
maps (n, d, h, w) and tokens (n, T, d), which are pooled first; a `Direction` remembers how, and at which layer.
"""

from shared.probes._attacks import herd_to_point, pgd_shift, select_for_tcav
from shared.probes._clarc import AClArC, ArtifactDetector, PClArC, RClArC, last_layer_refit, predict, prior_shift
from shared.probes._direction import Direction, fit_direction, fit_directions, stack
from shared.probes._disentangle import History, finetune, multi_pattern, orthogonalise, pair_weights
from shared.probes._estimators import (
    METHODS,
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
from shared.probes._inputs import DegenerateDirectionError, PoolMismatchError, pool
from shared.probes._metrics import (
    artifact_relevance,
    auroc,
    auroc_cosine,
    cosine,
    group_accuracy,
    leakage,
    orthogonality,
    welch_bound,
)
from shared.probes._right_reason import RRClArCLoss, freeze_up_to, rrr_loss
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
from shared.probes._steering import add, move, move_to, project, project_out, span_projector
from shared.probes._tcav import (
    TCAVResult,
    TCAVTest,
    activations,
    layer_gradients,
    tcav,
    tcav_scores,
    tcav_test,
)

__all__ = [
    "METHODS",
    "AClArC",
    "ArtifactDetector",
    "DegenerateDirectionError",
    "Direction",
    "FastCAV",
    "History",
    "LDAProbe",
    "LassoProbe",
    "LogisticProbe",
    "MeanDifference",
    "MedianDifference",
    "PClArC",
    "PatternCAV",
    "PoolMismatchError",
    "Probe",
    "RClArC",
    "RRClArCLoss",
    "RidgeProbe",
    "SVMProbe",
    "SharedFactor",
    "TCAVResult",
    "TCAVTest",
    "activations",
    "add",
    "artifact_relevance",
    "auroc",
    "auroc_cosine",
    "bootstrap_direction",
    "cav_from_population",
    "cav_mean_cov",
    "cosine",
    "expected_cosine",
    "expected_tcav",
    "finetune",
    "fit_direction",
    "fit_directions",
    "freeze_up_to",
    "group_accuracy",
    "herd_to_point",
    "last_layer_refit",
    "layer_gradients",
    "lda_mean",
    "leakage",
    "move",
    "move_to",
    "multi_pattern",
    "orthogonalise",
    "orthogonality",
    "pair_weights",
    "pgd_shift",
    "pool",
    "predict",
    "prior_shift",
    "project",
    "project_out",
    "ridge_equivalent",
    "rrr_loss",
    "select_for_tcav",
    "sensitivity_moments",
    "sign_flip_probability",
    "span_projector",
    "stack",
    "tcav",
    "tcav_scores",
    "tcav_test",
    "welch_bound",
]
