"""Arguments of `shared.influence`'s functions."""

import torch
from torch import nn

from shared.influence import DualDA, TrainedClassifier
from tests.bad_input.good import Calls, rand


def net() -> TrainedClassifier:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    return TrainedClassifier(model, rand(9, 3, 2, 2), torch.arange(9) % 3, head="3")


NET = net()
METHOD = DualDA(C=1.0).fit(NET)
MARKED = torch.tensor([True, False, False, True])
GOOD: Calls = {
    "class_detection": lambda: {
        "tau": rand(2, 9),
        "train_labels": torch.arange(9) % 3,
        "targets": torch.tensor([0, 1]),
    },
    "class_map": lambda: {"method": METHOD, "x": rand(3, 2, 2)},
    "explain_pairs": lambda: {"method": METHOD, "x": rand(3, 2, 2), "indices": torch.tensor([0, 4])},
    "lds": lambda: {"tau": rand(2, 4), "subsets": rand(5, 4) > 0.5, "outputs": rand(5, 2)},
    "mislabelling_detection": lambda: {"self_influence": rand(4), "flipped": MARKED},
    "model_randomisation": lambda: {"tau": rand(2, 4), "tau_random": rand(2, 4)},
    "per_sample_gradients": lambda: {"net": NET, "x": rand(2, 3, 2, 2), "targets": torch.tensor([0, 1])},
    "shortcut_detection": lambda: {"tau": rand(2, 4), "marked": MARKED, "keep": torch.tensor([True, False])},
    "sparsity_curve": lambda: {"tau": rand(2, 4)},
    "topk_cardinality": lambda: {"tau": rand(2, 4)},
    "train_checkpoints": lambda: {
        **{"model": nn.Linear(4, 3), "x": rand(6, 4), "y": torch.arange(6) % 3, "epochs": 3, "lr": 1e-3},
        "generator": torch.Generator().manual_seed(0),
    },
}
FEWER = {("explain_pairs", "indices")}  # one number is one pair
ANY_RANK = {("train_checkpoints", "x")}  # the model decides
