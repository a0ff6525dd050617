"""Arguments of `shared.sae`'s functions."""

import torch

from shared.sae import SAEConfig, SparseDict, Steerability, Units
from tests.bad_input.good import Calls, rand

SAE = SparseDict(SAEConfig("topk", 4, 8, k=2), generator=torch.Generator().manual_seed(0))
UNITS = Units(rand(3, 4), rand(2, 5, 3))
FOUND = Steerability(torch.tensor([0, 1, 1]), rand(3), rand(3), rand(3))
ATTRIBUTE = torch.tensor([True, False, True])
GOOD: Calls = {
    "code_contrast": lambda: {"codes": rand(3, 8), "attribute": ATTRIBUTE},
    "coverage": lambda: {"found": FOUND, "steerable": ATTRIBUTE},
    "edit_codes": lambda: {"sae": SAE, "activation": rand(3, 4), "edit": lambda codes: codes * 2},
    "feature_units": lambda: {"sae": SAE, "hidden": rand(2, 5, 4), "features": [1, 2]},
    "match_mass": lambda: {"mass": rand(8), "chosen": torch.tensor([1, 2]), "generator": torch.Generator()},
    "neuron_units": lambda: {"hidden": rand(2, 5, 4), "neurons": [1, 2]},
    "rank_by_contrast": lambda: {"codes": rand(3, 8), "attribute": ATTRIBUTE, "target": torch.tensor([0, 1, 1])},
    "select_tokens": lambda: {"x": rand(2, 5, 4), "tokens": "cls"},
    "steer_units": lambda: {"upper": lambda x: x, "hidden": rand(2, 5, 4), "units": UNITS, "strengths": rand(3)},
    "steerability": lambda: {"base": rand(2, 6), "steered": rand(3, 2, 6)},
    "step_size": lambda: {"hidden": rand(2, 5, 4), "units": UNITS, "strengths": rand(3)},
}
ELSEWHERE = {"write_activations": "an iterable of parts; tests/sae/test_train.py"}
ANY_RANK = {("edit_codes", "activation")}
