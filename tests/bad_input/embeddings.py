"""Arguments of `shared.embeddings`' functions."""

import numpy as np
import torch

from shared import embeddings
from tests.bad_input.good import Calls, axes, normal, rand, rng

X, PLANE = normal(40, 5), normal(40, 2)
D, E = embeddings.distance_matrix(X), embeddings.distance_matrix(PLANE)
PAIR = {"D": D, "E": E}
BALL = normal(40, 3)
BALL /= np.linalg.norm(BALL, axis=1, keepdims=True)
SPHERE = torch.as_tensor(BALL)
SHORT = embeddings.DescentSchedule(max_iter=2)

GOOD: Calls = {
    "affinities": lambda: {"X": X, "perplexity": 5.0},
    "angle_corr": lambda: {"X": X, "Y": PLANE, "generator": rng()},
    "angle_errors": lambda: {"X": X, "Y": PLANE, "generator": rng()},
    "bandwidths": lambda: {"squared": torch.as_tensor(D**2).fill_diagonal_(torch.inf), "perplexity": 5.0},
    "classical_scaling": lambda: {"D": D},
    "confetti": lambda: {"D": D, "prior": E},
    "density_scale": lambda: {"sigma": rand(5) + 0.1},
    "descend": lambda: {"Y": rand(9, 2), "gradient": lambda Y, _: Y, "schedule": SHORT},
    "distance_matrix": lambda: {"X": X},
    "draw_map": lambda: {"ax": axes(), "Y": PLANE, "values": X[:, 0], "markers": np.arange(40) % 2},
    "draw_sphere": lambda: {"ax": axes(), "Y": BALL, "values": X[:, 0]},
    "exp_map": lambda: {"Y": SPHERE, "V": 0.1 * SPHERE.flip(0)},
    "face_on": lambda: {"Y": BALL},
    "from_lonlat": lambda: {"lonlat": PLANE},
    "global_corr": lambda: PAIR,
    "js_divergence": lambda: {"prior": rand(4, 4) / 9, "Q": rand(4, 4) / 9, "alpha": 0.5, "beta": 0.9},
    "knn_radii": lambda: {"D": D, "k": 5},
    "knn_recall": lambda: PAIR,
    "label_distances": lambda: {"labels": np.array([0.0, 0.0, 1.0])},
    "local_corr": lambda: {**PAIR, "k": 5},
    "nearest_neighbours": lambda: {"D": D, "k": 5},
    "neighbour_affinities": lambda: {"X": X, "perplexity": 5.0},
    "nos_area": lambda: {"curve": np.linspace(0.1, 1, 9)},
    "nos_curve": lambda: {"D": D, "other": E},
    "pca_denoise": lambda: {"X": X, "rank": 2},
    "prior_affinities": lambda: {"prior": D, "perplexity": 5.0},
    "procrustes_align": lambda: {"Y": BALL, "reference": BALL[::-1].copy()},
    "radius_corr": lambda: {**PAIR, "k": 5},
    "rms_radii": lambda: {"X": X, "labels": np.arange(40) % 2},
    "sphere_patch": lambda: {"X": X},
    "to_lonlat": lambda: {"Y": BALL},
    "triple_angles": lambda: {"X": X, "at": np.array([[0, 1, 2], [1, 2, 3]])},
    "trustworthiness": lambda: PAIR,
}
STEP = "runs in each step of {0}.fit, which checks X, the prior and the start; tests/embeddings/test_{1}.py"
ELSEWHERE = {
    **dict.fromkeys(("kl_gradient", "kl_objective", "pair_kernel"), STEP.format("DTSNE", "estimators")),
    "jedi_objective": STEP.format("JEDI", "confetti"),
    **dict.fromkeys(("angle_cosines", "angle_loss", "pairwise_directions"), STEP.format("Mercat", "mercat")),
    **dict.fromkeys(("pairwise_tangents", "project_to_tangent", "retract"), STEP.format("Mercat", "mercat")),
}
ANY_RANK = {
    ("exp_map", "Y"),
    ("js_divergence", "prior"),
}
