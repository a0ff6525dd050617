"""Conditions of `shared.embeddings`' functions."""

import numpy as np

from tests.bad_input.good import normal, rand, rng

P = rand(4, 4) / 9
CALLS = {"js_divergence": lambda: {"prior": P, "Q": P.T.contiguous() / 2, "alpha": 0.5, "beta": 0.9}}
SCALES = {
    "affinities": {"X": (0, 1)},
    "angle_corr": {"X": 0, "Y": 0},
    "angle_errors": {"X": 0, "Y": 0},
    "classical_scaling": {"D": 1},
    "distance_matrix": {"X": 1},
    "global_corr": {"D": 0, "E": 0},
    "knn_radii": {"D": 1},
    "knn_recall": {"D": 0, "E": 0},
    "local_corr": {"D": 0, "E": 0},
    "nearest_neighbours": {"D": 0},
    "neighbour_affinities": {"X": (0, 1)},
    "nos_curve": {"D": 0, "other": 0},
    "pca_denoise": {"X": 1},
    "prior_affinities": {"prior": (0, 1)},
    "radius_corr": {"D": 0, "E": 0},
    "rms_radii": {"X": 1},
    "sphere_patch": {"X": 0},
    "triple_angles": {"X": 0},
    "trustworthiness": {"D": 0, "E": 0},
    "confetti": {"D": 0, "prior": 0},
}


def distances(X):
    return np.linalg.norm(X[:, None] - X[None], axis=-1)


X, PLANE = normal(40, 5), normal(40, 2)
TIED = X.copy()
TIED[:20] = X[0]
EQUAL, FEW, E = np.ones((40, 5)), X[:4], distances(PLANE)


def sums_to_one(found):
    """P of rows that are tied in part: a distribution, and bandwidths above zero."""
    P, sigma = (np.asarray(x.toarray() if hasattr(x, "toarray") else x) for x in found)
    return np.isclose(P.sum(), 1) and P.min() >= 0 and sigma.min() > 1e-3


def of(function, wants, **options):
    """A case per kind of data: the value, or the argument that the error names."""
    kinds = {"equal rows": EQUAL, "one row": X[:1], "fewer than neighbours": FEW, "tied rows": TIED}
    return {case: (lambda data=kinds[case]: {"X": data, **options}, want) for case, want in wants.items()}


def pair(wants, **options):
    kinds = {"equal rows": EQUAL, "one row": X[:1], "fewer than neighbours": FEW, "itself": PLANE}
    return {
        case: (lambda data=kinds[case]: {"D": distances(data), "E": E[: len(data), : len(data)], **options}, want)
        for case, want in wants.items()
    }


NONE = {"equal rows": "distances", "one row": "X", "fewer than neighbours": "X", "tied rows": sums_to_one}
ITSELF = {"one row": "D", "itself": 1.0}
VALUES = {
    "affinities": of("affinities", NONE, perplexity=5.0),
    "neighbour_affinities": of("neighbour_affinities", NONE, perplexity=5.0),
    "distance_matrix": of("distance_matrix", {"equal rows": np.zeros((40, 40)), "one row": "X"}),
    "pca_denoise": of("pca_denoise", {"equal rows": "X", "one row": "X"}, rank=2),
    "sphere_patch": of("sphere_patch", {"equal rows": "X", "one row": "X"}),
    "angle_corr": {
        case: (lambda data=data: {"X": data, "Y": PLANE[: len(data)], "generator": rng()}, "X")
        for case, data in {"equal rows": EQUAL, "one row": X[:1]}.items()
    },
    "angle_errors": {
        "equal rows": (lambda: {"X": EQUAL, "Y": PLANE, "generator": rng()}, "X"),
        "equal map": (lambda: {"X": X, "Y": np.ones((40, 2)), "generator": rng()}, "Y"),
        "itself": (lambda: {"X": PLANE, "Y": 3 * PLANE, "generator": rng()}, lambda e: np.abs(e).max() < 1e-4),
    },
    "rms_radii": {"equal rows": (lambda: {"X": EQUAL, "labels": np.zeros(40, int)}, np.zeros(1))},
    "classical_scaling": {"equal rows": (lambda: {"D": np.zeros((9, 9))}, np.zeros((9, 2)))},
    "confetti": {"equal rows": (lambda: {"D": np.zeros((40, 40)), "prior": E}, "D")},
    "global_corr": pair({"equal rows": np.nan, **ITSELF}),
    "knn_recall": pair({"fewer than neighbours": "k", **ITSELF}),
    "local_corr": pair({"fewer than neighbours": "k", **ITSELF}, k=5),
    "radius_corr": pair({"equal rows": "k", "fewer than neighbours": "k", **ITSELF}, k=5),
    "trustworthiness": pair({"fewer than neighbours": "k", **ITSELF}),
}
