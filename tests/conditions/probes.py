"""Conditions of `shared.probes`' functions."""

import torch

from tests.bad_input.good import rand
from tests.conditions.kinds import whole

X, CLASSES = rand(2, 3, 4, 4), torch.tensor([1, 0])


def layer() -> dict:
    return {"model": whole(), "layer": "first", "x": X}


MODELS = {
    "activations": lambda: {"model": whole(), "layers": "first", "x": X},
    "layer_gradients": lambda: {**layer(), "target": CLASSES},
    "pgd_shift": lambda: {**layer(), "gradient": rand(4) - 0.4, "steps": 2},
    "tcav": lambda: {**layer(), "target": CLASSES, "directions": rand(2, 4) - 0.4},
    "tcav_study": lambda: {
        **{"model": whole(), "layers": "first", "x": rand(6, 3, 4, 4), "target": 1},
        **{"concepts": {"a": rand(4, 3, 4, 4)}, "random_sets": [rand(5, 3, 4, 4)[1:] ** (i + 1) for i in range(4)]},
    },
}
H, Y = rand(20, 4), torch.arange(20) % 2
CALLS = {
    "bootstrap_direction": lambda: {"H": H, "y": Y, "draws": 3, "generator": torch.Generator().manual_seed(0)},
}
SCALES = {
    "auroc_cosine": {"V": 0, "H": 0},
    "cosine": {"V": 0, "W": 0},
    "expected_tcav": {"gradients": 0},
    "leakage": {"V": 0, "truth": 0},
    "orthogonality": {"V": 0},
    "sensitivity_moments": {"gradients": 1},
    "sign_flip_probability": {"gradients": 0},
    "tcav_scores": {"gradients": (0, 0, 0, 0, 1), "vectors": (0, 0, 0, 0, 1)},
    "select_for_tcav": {"gradient": 0, "candidates": 0},
    "herd_to_point": {("candidates", "point"): 0},
    "fit_direction": {"H": (0, 1, 2, 1, 1, 0, 0)},
    "multi_pattern": {"H": 1},
    "orthogonalise": {"V": 0},
    "fit_directions": {"H": (0, 1, 2, 1, 1, 0, 0) * 3},
}
V, SAME = rand(3, 4) - 0.5, rand(1, 4).repeat(3, 1)
VALUES = {
    "cosine": {"zero": (lambda: {"V": torch.zeros(2, 4), "W": V}, torch.zeros(2, 3))},
    "leakage": {"zero": (lambda: {"V": torch.zeros(3, 4), "truth": V}, torch.zeros(3, 3))},
    "fit_direction": {
        "constant": (lambda: {"H": torch.ones(20, 4), "y": Y}, "H"),
        "one class": (lambda: {"H": H, "y": torch.zeros(20)}, "Y"),
        "duplicates": (lambda: {"H": H.repeat(2, 1), "y": Y.repeat(2)}, lambda d: close(d.vector, vector(H, Y))),
    },
    "fit_directions": {"one row": (lambda: {"H": H[:1], "Y": Y[:1]}, "Y")},
    "orthogonality": {
        "one row": (lambda: {"V": V[:1]}, "V"),
        "duplicates": (lambda: {"V": SAME}, torch.zeros(3)),
        "orthogonal": (lambda: {"V": torch.eye(3)}, torch.ones(3)),
    },
    "orthogonalise": {"duplicates": (lambda: {"V": SAME}, "V")},
    "expected_cosine": {
        "zero": (lambda: {"mean": torch.zeros(4), "cov": torch.zeros(4, 4)}, "mean"),
        "certain": (lambda: {"mean": torch.ones(4), "cov": torch.zeros(4, 4)}, 1.0),
    },
    "expected_tcav": {"certain": (lambda: {"gradients": H, "mean": rand(4), "cov": torch.zeros(4, 4)}, 1.0)},
    "sign_flip_probability": {
        "certain": (lambda: {"gradients": H, "mean": rand(4), "cov": torch.zeros(4, 4)}, torch.zeros(20)),
    },
    "tcav_test": {
        "equal": (lambda: {"scores": torch.ones(3), "random_scores": torch.ones(3)}, lambda t: t.p_value == 1),
        "one score": (lambda: {"scores": torch.ones(1), "random_scores": torch.ones(3)}, "scores"),
    },
    "select_for_tcav": {"fewer than asked": (lambda: {"candidates": H[:2], "gradient": rand(4), "n": 3}, "candidates")},
    "herd_to_point": {"fewer than asked": (lambda: {"candidates": H[:2], "point": rand(4), "n": 3}, "candidates")},
    "bootstrap_direction": {"two rows": (lambda: {"H": H[:2], "y": Y[:2], "draws": 3}, "y")},
}


def vector(H, y):
    from shared.probes import fit_direction

    return fit_direction(H, y).vector


def close(a, b):
    return torch.allclose(a, b, atol=1e-5)
