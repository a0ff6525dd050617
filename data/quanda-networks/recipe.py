"""Small networks on Fashion-MNIST with planted flaws, their checkpoints, and logits of networks retrained on halves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from shared.influence import Checkpoint, random_subsets, train_checkpoints
from shared.nets import SmallConv
from shared.worlds import add_foreign, group_labels, plant_flaw
from shared.zoo import load_data
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

SETTINGS = ("standard", "groups", "wrong labels", "mark", "foreign")
SEEDS, PILOTS = (0, 1, 2, 3, 4, 5), (6, 7)  # the pilots' networks are for gates and sizes only
N_TRAIN, N_TEST, N_FOREIGN, K, HALVES = 500, 150, 50, 10, 32
TRAINING = {"epochs": 60, "lr": 3e-3, "batch_size": 32, "weight_decay": 0.0, "n_checkpoints": 3}
FOREIGN_LABEL = MARKED = 2


def rows_of(seed: int) -> tuple[Tensor, Tensor]:
    """Rows of Fashion-MNIST's shipped splits; no two seeds share an image."""
    order = torch.Generator().manual_seed(0)
    train, test = torch.randperm(6000, generator=order), torch.randperm(2000, generator=order)
    return train[seed * N_TRAIN :][:N_TRAIN], test[seed * N_TEST :][:N_TEST]


def digit_rows(seed: int) -> Tensor:
    """Rows of the digits' training split: foreign training images, then foreign test images; other ones per seed."""
    order = torch.randperm(1437, generator=torch.Generator().manual_seed(0))
    return order[2 * N_FOREIGN * seed :][: 2 * N_FOREIGN]


def digits(seed: int) -> tuple[Tensor, Tensor]:
    """Handwritten digits as large as Fashion-MNIST's images: training and test ones."""
    images = load_data("digits", split="train").x.reshape(-1, 1, 8, 8)
    images = nn.functional.interpolate(images / images.max(), (20, 20), mode="bilinear")
    images = nn.functional.pad(images, (4, 4, 4, 4))
    return images[digit_rows(seed)].split(N_FOREIGN)


def setting(seed: int, name: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int, Tensor | None]:
    """Training images, labels, test images, number of classes, and which training images are flawed."""
    train, test = (load_data("fashion-mnist", split=split) for split in ("train", "test"))
    rows, test_rows = rows_of(seed)
    x, y, tests = train.x[rows], train.y[rows], test.x[test_rows]
    if name == "groups":
        return x, group_labels(y, torch.randperm(K, generator=generator).view(2, -1).tolist()), tests, 2, None
    if name == "foreign":
        foreign, tests = digits(seed)
        x, y, truth = add_foreign(x, y, foreign, FOREIGN_LABEL)
        return x, y, tests, K, truth
    share = 0.1 if name == "wrong labels" else 0.5
    flawed = plant_flaw(x, y, tests, name, n_classes=K, generator=generator, share=share, marked_class=MARKED)
    return flawed.x, flawed.y, flawed.tests, K, flawed.truth


def network(seed: int, name: str) -> dict[str, np.ndarray]:
    """Train one network; its weights at the checkpoints, labels and truth, and of the standard one the halves."""
    generator = torch.Generator().manual_seed(1000 * SETTINGS.index(name) + seed)
    x, y, tests, k, truth = setting(seed, name, generator)
    x, tests = (nn.functional.avg_pool2d(part, 2) for part in (x, tests))
    middle, spread = x.mean(), x.std()
    x, tests = (x - middle) / spread, (tests - middle) / spread
    found = {"labels": y.to(torch.uint8).numpy()}
    if truth is not None:
        found["truth"] = truth.numpy()
    _, checkpoints = _trained(x, y, k, generator)
    kept = checkpoints if seed in SEEDS else checkpoints[-1:]
    found["weights"] = np.stack([_flat(c) for c in kept])
    if name == "standard" and seed in SEEDS:
        subsets = random_subsets(N_TRAIN, HALVES, 0.5, generator)
        logits = [_trained(x[s], y[s], k, generator)[0](tests).detach() for s in subsets]
        found |= {"halves": subsets.numpy(), "half_logits": torch.stack(logits).half().numpy()}
    return found


def _trained(x: Tensor, y: Tensor, k: int, generator: torch.Generator) -> tuple[nn.Module, list[Checkpoint]]:
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        net = SmallConv(1, k, (14, 14), widths=(6, 4), hidden=(32,))
        return net, train_checkpoints(net, x, y, generator=generator, **TRAINING)


def _flat(checkpoint: Checkpoint) -> np.ndarray:
    return torch.cat([value.flatten() for value in checkpoint.state.values()]).half().numpy()


def write(folder: Path, found: dict[tuple[int, str], dict[str, np.ndarray]]) -> None:
    """Stack what `network` gave over seeds, `<setting> <what>` by name, the pilots' under `pilot <setting> <what>`."""
    arrays = {}
    for seeds, prefix in ((SEEDS, ""), (PILOTS, "pilot ")):
        for name in SETTINGS:
            for key in found[seeds[0], name]:
                arrays[f"{prefix}{name} {key}"] = np.stack([found[seed, name][key] for seed in seeds])
        for key, number in (("train_rows", 0), ("test_rows", 1)):
            arrays[prefix + key] = np.stack([rows_of(seed)[number].numpy().astype(np.int16) for seed in seeds])
        arrays[prefix + "foreign_rows"] = np.stack([digit_rows(seed).numpy().astype(np.int16) for seed in seeds])
    write_arrays(folder / "quanda-networks.npz", arrays)


@recipe("quanda-networks")
def make(folder: Path) -> None:
    """Train all of them: about seven minutes on one core. Another machine's sums may differ in their last digits."""
    write(folder, {(seed, name): network(seed, name) for seed in SEEDS + PILOTS for name in SETTINGS})
