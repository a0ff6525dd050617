"""Training-data attribution: which training points speak for or against a prediction, and how good such answers are.

>>> import torch
>>> from shared.influence import DualDA, TrainedClassifier, class_detection
>>> y = torch.arange(60) % 2
>>> x = torch.rand(60, 2, generator=torch.Generator().manual_seed(0)) + torch.nn.functional.one_hot(y)
>>> head = torch.nn.Linear(2, 2, bias=False).eval()
>>> head.weight.data = torch.eye(2)
>>> net = TrainedClassifier(head, x, y)  # a network, its linear head, its training data
>>> tau = DualDA(C=0.1).fit(net).attribute(x[:5])  # (5, 60): positive supports the predicted class
>>> class_detection(tau, net.y, net.predict(x[:5])).score
1.0

Every method (`DualDA`, `InfluenceFunctions`, `TracIn`, `TRAK`, …) has `fit(net)`, `attribute(x, targets=None)`,
`top(x, k)` and `self_influence()`, and one sign: positive means that the training point supports the explained class.
Inputs are tensors, or data sets that are read in parts; passes over data take the network's `batch_size`.
`explain_pairs` (XDA) draws heat maps that say why.
"""

from shared.influence._base import Attributor, RandomAttribution, TopScores
from shared.influence._classifier import Checkpoint, TrainedClassifier
from shared.influence._dual import DualDA, RepresenterPoints
from shared.influence._gradients import RandomProjection, TracIn, per_sample_gradients
from shared.influence._ihvp import DivergenceError
from shared.influence._influence_functions import InfluenceFunctions
from shared.influence._metrics import (
    AttributionScore,
    class_detection,
    lds,
    mislabelling_detection,
    model_randomisation,
    shortcut_detection,
    sparsity_curve,
    topk_cardinality,
)
from shared.influence._similarity import Similarity
from shared.influence._subsets import random_subsets
from shared.influence._svm import CrammerSingerSVM
from shared.influence._train import train_checkpoints
from shared.influence._trak import TRAK
from shared.influence._xda import PairMaps, class_map, explain_pairs

__all__ = [
    "TRAK",
    "AttributionScore",
    "Attributor",
    "Checkpoint",
    "CrammerSingerSVM",
    "DivergenceError",
    "DualDA",
    "InfluenceFunctions",
    "PairMaps",
    "RandomAttribution",
    "RandomProjection",
    "RepresenterPoints",
    "Similarity",
    "TopScores",
    "TracIn",
    "TrainedClassifier",
    "class_detection",
    "class_map",
    "explain_pairs",
    "lds",
    "mislabelling_detection",
    "model_randomisation",
    "per_sample_gradients",
    "random_subsets",
    "shortcut_detection",
    "sparsity_curve",
    "topk_cardinality",
    "train_checkpoints",
]
