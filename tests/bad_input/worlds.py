"""Arguments of `shared.worlds`' functions."""

import numpy as np
import torch

from shared.worlds import solve_ending
from tests.bad_input.good import Calls, normal, rand, rng


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def positions() -> np.ndarray:
    return np.array([[63, 0, 9], [36, 4, 0]])  # black king, white king, rook


GOOD: Calls = {
    "best_moves": lambda: {"values": np.where(normal(2, 3, 64) > 0, 2, -1).astype(np.int8)},
    "ending_tokens": lambda: {"ending": solve_ending("R"), "squares": positions()},
    "is_held_out": lambda: {"ending": solve_ending("R"), "squares": positions()},
    "move_effects": lambda: {"ending": solve_ending("R"), "squares": positions()},
    "move_values": lambda: {"ending": solve_ending("R"), "squares": positions()},
    "play_ending": lambda: {
        **{"ending": solve_ending("R"), "squares": positions(), "longest": 1},
        "choose": lambda tokens, values: (values >= 0).reshape(len(values), -1).argmax(1),
    },
    "add_foreign": lambda: {
        **{"x": rand(6, 1, 8, 8), "y": torch.arange(6) % 3, "foreign": rand(2, 1, 8, 8), "label": 2},
    },
    "add_mark": lambda: {"x": rand(3, 1, 8, 8), "rows": torch.tensor([True, False, True])},
    "brain_cohort": lambda: {
        **{"labels": torch.arange(24).view(1, 2, 3, 4) % 3, "names": ("outside", "putamen", "caudate"), "n": 2},
        **{"effects": {"putamen": 1.0}, "generator": draws()},
    },
    "concept_images": lambda: {"Y": (rand(3, 8) > 0.5).float(), "generator": 0},
    "concept_sentences": lambda: {"Y": np.eye(6, dtype=int), "generator": rng()},
    "flip_labels": lambda: {
        **{"y": torch.arange(9) % 3, "share": 0.5, "n_classes": 3},
        "generator": torch.Generator().manual_seed(0),
    },
    "gaussian_clusters": lambda: {
        **{"sizes": [3, 4], "spreads": [1.0, 2.0], "d": 5},
        **{"generator": rng(), "centres": normal(2, 5)},
    },
    "group_labels": lambda: {"y": torch.arange(9) % 3, "groups": [[0, 1], [2]]},
    "hill": lambda: {"x": rand(4), "ec50": torch.full((4,), 0.5), "n": torch.full((4,), 1.5)},
    "lift_dimensions": lambda: {"X": normal(9, 2), "d": 4, "noise": 0.1, "generator": rng()},
    "permute_prior": lambda: {"prior": torch.eye(4).roll(1, 0), "generator": draws()},
    "plant_flaw": lambda: {
        **{"x": rand(6, 1, 8, 8), "y": torch.arange(6) % 3, "tests": rand(2, 1, 8, 8), "flaw": "mark", "n_classes": 3},
        "generator": torch.Generator().manual_seed(0),
    },
    "place_words": lambda: {"word": torch.tensor([1, 0]), "words": ["cat"], "generator": 0},
    "regulation_world": lambda: {"truth": torch.eye(4).roll(1, 0), "n_paths": 2, "generator": draws()},
    "relocate_edges": lambda: {"prior": torch.eye(4).roll(1, 0), "share": 0.5, "generator": draws()},
    "word_spans": lambda: {"words": ["he", "said", "nunc"], "chosen": np.array([False, False, True])},
}
ANY_RANK = {("hill", name) for name in ("x", "ec50", "n")}
