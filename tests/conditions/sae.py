"""Conditions of `shared.sae`'s functions."""

import torch

from tests.bad_input.good import rand
from tests.conditions.kinds import whole

SCALES = {
    "code_contrast": {"codes": 1},
    "match_mass": {"mass": 0},
    "rank_by_contrast": {"codes": 0},
}
THREE = torch.tensor([True, False, True])
VALUES = {
    "code_contrast": {
        "constant": (lambda: {"codes": torch.ones(3, 8), "attribute": THREE, "standardise": True}, torch.zeros(8)),
        "never on": (lambda: {"codes": torch.zeros(3, 2), "attribute": THREE}, torch.full((2,), torch.nan)),
        "one class": (lambda: {"codes": rand(3, 8), "attribute": THREE | True}, "attribute"),
    },
}


def spliced(model, layer, x):
    from shared.sae import SAEConfig, SparseDict, splice

    sae = SparseDict(SAEConfig("topk", 4, 8, k=2), generator=torch.Generator().manual_seed(0))
    with splice(model, layer, sae) as codes:
        return model(x), dict(codes)


MODELS = {"splice": lambda: {"model": whole(), "layer": "first", "x": rand(2, 3, 4, 4), "call": spliced}}
KNOWN = {
    ("splice", "train"): "one may splice into a model that trains",
}
