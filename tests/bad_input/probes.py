"""Arguments of `shared.probes`' functions."""

import torch

from tests.bad_input.good import Calls, net, rand

H, V = rand(20, 4), rand(3, 4) - 0.5
Y, Y1 = (torch.arange(60).reshape(20, 3) % 7 % 2).float(), torch.arange(20) % 2
MEAN, COV = rand(4).double(), torch.eye(4).double() + 0.1
IMAGES, LAYER = rand(2, 3, 2, 2), "1"
MOMENTS = {"gradients": rand(9, 4), "mean": MEAN, "cov": COV}


GOOD: Calls = {
    "activations": lambda: {"model": net(), "layers": LAYER, "x": IMAGES},
    "auroc_cosine": lambda: {"V": V, "H": H, "Y": Y},
    "bootstrap_direction": lambda: {"H": H, "y": Y1, "draws": 3},
    "cav_from_population": lambda: {"method": "pattern", "H_c": rand(9, 4), "H_n": rand(9, 4), "n_c": 5, "n_n": 5},
    "cav_mean_cov": lambda: {
        "method": "pattern",
        **{"mean_c": MEAN, "cov_c": COV, "n_c": 5},
        **{"mean_n": MEAN, "cov_n": COV, "n_n": 5},
    },
    "cosine": lambda: {"V": V, "W": V.flip(0)},
    "expected_cosine": lambda: {"mean": MEAN, "cov": COV},
    "expected_tcav": lambda: MOMENTS,
    "finetune": lambda: {"H": H, "Y": Y, "start": V, "alpha": torch.ones(3, 3), "epochs": 1},
    "fit_direction": lambda: {"H": H, "y": Y1},
    "fit_directions": lambda: {"H": H, "Y": Y},
    "flag_threshold": lambda: {"benign": rand(20)},
    "flip_groups": lambda: {"y": Y1, "groups": torch.arange(20) // 4, "generator": torch.Generator().manual_seed(0)},
    "group_auroc": lambda: {"scores": rand(20), "y": Y1, "groups": torch.arange(20) // 4},
    "herd_to_point": lambda: {"candidates": H, "point": rand(4), "n": 3},
    "layer_gradients": lambda: {"model": net(), "layer": LAYER, "x": IMAGES, "target": torch.tensor([0, 1])},
    "lda_mean": lambda: {"cov": COV, "delta": MEAN, "n": 20},
    "leakage": lambda: {"V": V, "truth": V.flip(0)},
    "multi_pattern": lambda: {"H": H, "Y": Y},
    "orthogonalise": lambda: {"V": V},
    "orthogonality": lambda: {"V": V},
    "pair_weights": lambda: {"V": V, "Y": Y, "alpha": 0.1, "beta": 1.0, "n_targets": 2},
    "pgd_shift": lambda: {"model": net(), "layer": LAYER, "x": IMAGES, "gradient": rand(5)},
    "ridge_equivalent": lambda: {
        **{"covs": COV.repeat(2, 1, 1), "means": rand(2, 4), "counts": torch.tensor([10, 10])},
        **{"labels": torch.tensor([1.0, -1.0]), "lam": 1.0},
    },
    "select_for_tcav": lambda: {
        **{"candidates": H, "gradient": rand(4), "n": 3},
        **{"strata": Y1, "quotas": torch.tensor([1, 2])},
    },
    "sensitivity_moments": lambda: MOMENTS,
    "sign_flip_probability": lambda: MOMENTS,
    "stack_directions": lambda: {"directions": V},
    "tcav": lambda: {"model": net(), "layer": LAYER, "x": IMAGES, "target": 1, "directions": rand(2, 5)},
    "tcav_scores": lambda: {"gradients": rand(9, 4), "vectors": V},
    "tcav_test": lambda: {"scores": rand(9), "random_scores": rand(9)},
}
ELSEWHERE = {"check_layer": "vectors belong anywhere"}
ANY_RANK = {(name, "x") for name in ("activations", "layer_gradients", "pgd_shift", "tcav")}  # the model decides
ANY_NUMBER = {("orthogonalise", "V")}  # rows with NaN stay out
FEWER = {  # one concept, one direction, one class for all
    *(
        ("fit_directions", "Y"),
        ("multi_pattern", "Y"),
        ("layer_gradients", "target"),
        ("stack_directions", "directions"),
    ),
}
