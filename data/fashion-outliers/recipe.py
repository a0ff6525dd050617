"""ResNets on Fashion-MNIST that have never seen one of the ten classes, and of the others know some only in pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from shared.nets import SmallResNet
from shared.zoo import load_data
from shared.zoo.recipes import recipe
from shared.zoo.recipes._classifiers import FASHION
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import epochs, predict, train_classifier

LEFT_OUT = (*range(10), 1, 3, 5, 8)  # of the ten networks, then of four pilots
CLASSES, PAIRS, STEPS, LR = 10, 3, 500, 4e-3


def labels_of(number: int) -> torch.Tensor:
    """Label of each of the ten classes: three pairs share one, three classes have their own, the one left out −1."""
    rest = torch.tensor([c for c in range(CLASSES) if c != LEFT_OUT[number]])
    order = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(number))]
    labels = torch.full((CLASSES,), -1)
    labels[order] = torch.cat([torch.arange(PAIRS).repeat_interleave(2), torch.arange(PAIRS, CLASSES - 1 - PAIRS)])
    return labels


def prepare(images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] as the networks take them."""
    return (images - FASHION["mean"][0]) / FASHION["std"][0]


def network(number: int) -> dict[str, np.ndarray]:
    """Train one network: its weights, labels, and accuracy on the test images of the classes it knows."""
    (x, y), (tests, truth) = (
        (d.x, d.y) for d in (load_data("fashion-mnist", split=s, full=True) for s in ("train", "test"))
    )
    labels = labels_of(number)
    known, test_known = labels[y] >= 0, labels[truth] >= 0
    stream = epochs(prepare(x[known]), labels[y[known]], 128)
    n = int(labels.max()) + 1
    net = train_classifier(lambda: SmallResNet(1, n, stem_stride=2), stream, STEPS, LR, number)
    right = predict(net, prepare(tests[test_known])) == labels[truth[test_known]]
    state = [value.flatten() for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")]
    found = {"weights": torch.cat(state).half().numpy(), "labels": labels.numpy().astype(np.int8)}
    return found | {"accuracy": np.float32(right.float().mean())}


def write(folder: Path, found: list[dict[str, np.ndarray]]) -> None:
    """Stack what `network` gave, and the classes left out."""
    arrays = {key: np.stack([one[key] for one in found]) for key in found[0]}
    write_arrays(folder / "fashion-outliers.npz", arrays | {"left_out": np.array(LEFT_OUT, dtype=np.int8)})


@recipe("fashion-outliers")
def make(folder: Path) -> None:
    """Train all of them: about seven minutes on one core. Another machine's sums may differ in their last digits."""
    write(folder, [network(number) for number in range(len(LEFT_OUT))])
