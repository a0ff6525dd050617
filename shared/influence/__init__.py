"""Training-data attribution: which training points speak for or against a prediction, and how good such answers are.

    net = Classifier(model, x_train, y_train, head="classifier")     # a network, its linear head, its training data
    method = DualDA(C=0.1).fit(net)                                  # or InfluenceFunctions, TracIn, TRAK, …
    tau = method.attribute(x_test)                                   # (T, N): positive supports the predicted class
    method.self_influence()                                          # (N,)
    explain_pairs(method, x_test[0], tau[0].topk(3).indices)         # XDA: heat maps that say why
    class_detection(tau, y_train, net.predict(x_test)).score

Every method has `fit(net)`, `attribute(x, targets=None)` and `self_influence()`, and one sign: positive means that the
training point supports the explained class.
"""

from shared.influence._base import Attributor, Random
from shared.influence._classifier import Checkpoint, Classifier
from shared.influence._dual import DualDA, RepresenterPoints
from shared.influence._gradients import RandomProjection, TracIn, per_sample_gradients
from shared.influence._ihvp import DivergenceError
from shared.influence._influence_functions import InfluenceFunctions
from shared.influence._metrics import (
    Score,
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
from shared.influence._trak import TRAK
from shared.influence._xda import PairMaps, class_map, explain_pairs

__all__ = [
    "TRAK",
    "Attributor",
    "Checkpoint",
    "Classifier",
    "CrammerSingerSVM",
    "DivergenceError",
    "DualDA",
    "InfluenceFunctions",
    "PairMaps",
    "Random",
    "RandomProjection",
    "RepresenterPoints",
    "Score",
    "Similarity",
    "TracIn",
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
]
