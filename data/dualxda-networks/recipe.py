"""What DualDA sees of DualXDA's MNIST network trained on Fashion-MNIST: features and heads, and halves retrained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from shared.influence import random_subsets, train_checkpoints
from shared.nets import SmallConv
from shared.worlds import FLAWS, plant_flaw
from shared.zoo import ImageData, load_data
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

SEEDS = (0, 1, 2, 4)  # 3 was never trained; nothing was left out for its result
N_TRAIN, N_TEST, K, HALVES = 1000, 200, 10, 6
TRAINING = {"epochs": 30, "lr": 1e-3, "batch_size": 64, "weight_decay": 1e-4, "n_checkpoints": 3}


def images(seed: int) -> tuple[ImageData, ImageData, Tensor, Tensor]:
    """Fashion-MNIST's shipped splits and the rows of one seed's training and test images."""
    train, test = (load_data("fashion-mnist", split=split) for split in ("train", "test"))
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(len(d.x), generator=generator)[:n] for d, n in ((train, N_TRAIN), (test, N_TEST))]
    return train, test, *rows


def network(seed: int, flaw: str) -> dict[str, np.ndarray]:
    """Train one network; labels, truth, and per checkpoint its features (8 bits each), their scale and its head."""
    train, test, rows, test_rows = images(seed)
    generator = torch.Generator().manual_seed(1000 * FLAWS.index(flaw) + seed)
    flawed = plant_flaw(train.x[rows], train.y[rows], test.x[test_rows], flaw, n_classes=K, generator=generator)
    middle, spread = train.x[rows].mean(), train.x[rows].std()
    x, tests = (flawed.x - middle) / spread, (flawed.tests - middle) / spread
    net, checkpoints = _trained(x, flawed.y, flawed.n_classes, generator)
    found = {"labels": flawed.y.to(torch.uint8).numpy(), "rates": np.float32([c.lr for c in checkpoints])}
    if flawed.truth is not None:
        found["truth"] = flawed.truth.numpy()
    stages = [_seen(net, c.state, torch.cat([x, tests])) for c in checkpoints]
    found |= {key: np.stack([stage[key] for stage in stages]) for key in stages[0]}
    if flaw == "standard":
        subsets = random_subsets(N_TRAIN, HALVES, 0.5, generator)
        logits = [_trained(x[s], flawed.y[s], K, generator)[0](tests).detach() for s in subsets]
        found |= {"subsets": subsets.numpy(), "half_logits": torch.stack(logits).half().numpy()}
        found |= {"train_rows": rows.numpy().astype(np.int16), "test_rows": test_rows.numpy().astype(np.int16)}
    return found


def _trained(x: Tensor, y: Tensor, k: int, generator: torch.Generator) -> tuple[nn.Module, list]:
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        net = SmallConv(1, k, (28, 28))
        return net, train_checkpoints(net, x, y, generator=generator, **TRAINING)


@torch.no_grad()
def _seen(net: SmallConv, state: dict[str, Tensor], x: Tensor) -> dict[str, np.ndarray]:
    net.load_state_dict(state)
    features = net.features(x)
    scale = features.max() / 255
    return {
        "features": (features / scale).round().to(torch.uint8).numpy(),
        "scale": np.float32(scale),
        "weight": net.classifier.weight.numpy().copy(),
        "bias": net.classifier.bias.numpy().copy(),
    }


def write(folder: Path, found: dict[tuple[int, str], dict[str, np.ndarray]]) -> None:
    """Stack what `network` gave over seeds, `<flaw> <what>` by name."""
    arrays = {
        f"{flaw} {key}": np.stack([found[seed, flaw][key] for seed in SEEDS])
        for flaw in FLAWS
        for key in found[SEEDS[0], flaw]
    }
    write_arrays(folder / "dualxda-networks.npz", arrays)


@recipe("dualxda-networks")
def make(folder: Path) -> None:
    """Train all of them: about six minutes on one core. Another machine's sums may differ in their last digits."""
    write(folder, {(seed, flaw): network(seed, flaw) for seed in SEEDS for flaw in FLAWS})
