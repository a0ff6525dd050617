"""Arguments of `shared.embeddings`' functions."""

import numpy as np
import torch

from shared import embeddings
from tests.bad_input.good import Calls, axes, normal, rand, rng

X, PLANE = normal(40, 5), normal(40, 2)
D, E = embeddings.distances(X), embeddings.distances(PLANE)
PAIR = {"D": D, "E": E}
BALL = normal(40, 3)
BALL /= np.linalg.norm(BALL, axis=1, keepdims=True)
SPHERE = torch.as_tensor(BALL)

GOOD: Calls = {
    "affinities": lambda: {"X": X, "perplexity": 5.0},
    "align": lambda: {"Y": BALL, "reference": BALL[::-1].copy()},
    "angle_corr": lambda: {"X": X, "Y": PLANE, "rng": rng()},
    "angle_errors": lambda: {"X": X, "Y": PLANE, "rng": rng()},
    "angles": lambda: {"X": X, "at": np.array([[0, 1, 2], [1, 2, 3]])},
    "bandwidths": lambda: {"squared": torch.as_tensor(D**2).fill_diagonal_(torch.inf), "perplexity": 5.0},
    "classical_scaling": lambda: {"D": D},
    "confetti": lambda: {"D": D, "prior": E},
    "denoise": lambda: {"X": X, "rank": 2},
    "density_scale": lambda: {"sigma": rand(5) + 0.1},
    "descend": lambda: {"Y": rand(9, 2), "gradient": lambda Y, _: Y, "schedule": embeddings.Schedule(n_iter=2)},
    "distances": lambda: {"X": X},
    "draw_map": lambda: {"ax": axes(), "Y": PLANE, "values": X[:, 0], "markers": np.arange(40) % 2},
    "draw_sphere": lambda: {"ax": axes(), "Y": BALL, "values": X[:, 0]},
    "exp_map": lambda: {"Y": SPHERE, "V": 0.1 * SPHERE.flip(0)},
    "face_on": lambda: {"Y": BALL},
    "from_lonlat": lambda: {"lonlat": PLANE},
    "global_corr": lambda: PAIR,
    "js_divergence": lambda: {"prior": rand(4, 4) / 9, "Q": rand(4, 4) / 9, "alpha": 0.5, "beta": 0.9},
    "knn_recall": lambda: PAIR,
    "label_distances": lambda: {"labels": np.array([0.0, 0.0, 1.0])},
    "local_corr": lambda: {**PAIR, "k": 5},
    "nearest": lambda: {"D": D, "k": 5},
    "neighbour_affinities": lambda: {"X": X, "perplexity": 5.0},
    "nos_area": lambda: {"curve": np.linspace(0.1, 1, 9)},
    "nos_curve": lambda: {"D": D, "other": E},
    "patch": lambda: {"X": X},
    "prior_affinities": lambda: {"prior": D, "perplexity": 5.0},
    "radii": lambda: {"D": D, "k": 5},
    "radius_corr": lambda: {**PAIR, "k": 5},
    "rms_radii": lambda: {"X": X, "labels": np.arange(40) % 2},
    "to_lonlat": lambda: {"Y": BALL},
    "trustworthiness": lambda: PAIR,
}
STEP = "runs in each step of {0}.fit, which checks X, the prior and the start; tests/embeddings/test_{1}.py"
ELSEWHERE = {
    **dict.fromkeys(("kl_gradient", "kl_objective", "pair_kernel"), STEP.format("DTSNE", "estimators")),
    "jedi_objective": STEP.format("JEDI", "confetti"),
    **dict.fromkeys(
        ("angle_cosines", "angle_loss", "directions", "project", "retract", "tangents"), STEP.format("Mercat", "mercat")
    ),
}
ANY_RANK = {
    ("exp_map", "Y"),
    ("js_divergence", "prior"),
}
