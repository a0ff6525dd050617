"""Correcting a trained model: the ClArC family, right-reason training, new last layers, inputs hidden in training.

>>> import torch
>>> from shared import correction, probes
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
>>> H, y = torch.eye(4).repeat(4, 1), torch.tensor([1, 0, 0, 0]).repeat(4)  # unit 0 tells the artifact
>>> remove = correction.PClArC(probes.fit_direction(H, y, layer="1"), "1")
>>> correction.predict(model, torch.ones(5, 3), correction=remove).shape
torch.Size([5, 2])
"""

from shared.correction._base import Correction, predict, predict_from
from shared.correction._clarc import AClArC, PClArC, PoolMismatchError, RClArC
from shared.correction._detector import ArtifactDetector
from shared.correction._dropout_training import fit_with_dropout, occlude, reldrop_composite, training_relevance
from shared.correction._input_dropout import (
    InputDropout,
    RandomErasing,
    RelDropBlock,
    RelDropPatch,
    RelDropPixel,
    RelDropPoints,
)
from shared.correction._refit import last_layer_refit, prior_shift
from shared.correction._right_reason import RRClArCLoss, freeze_up_to, rrr_loss
from shared.correction._scores import artifact_relevance, group_accuracy

__all__ = [
    "AClArC",
    "ArtifactDetector",
    "Correction",
    "InputDropout",
    "PClArC",
    "PoolMismatchError",
    "RClArC",
    "RRClArCLoss",
    "RandomErasing",
    "RelDropBlock",
    "RelDropPatch",
    "RelDropPixel",
    "RelDropPoints",
    "artifact_relevance",
    "fit_with_dropout",
    "freeze_up_to",
    "group_accuracy",
    "last_layer_refit",
    "occlude",
    "predict",
    "predict_from",
    "prior_shift",
    "reldrop_composite",
    "rrr_loss",
    "training_relevance",
]
