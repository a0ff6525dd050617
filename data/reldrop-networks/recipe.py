"""RelDrop's networks: small CNNs on 2,000 Fashion-MNIST images, by each way of hiding parts of the input, by seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from shared.correction import InputDropout, RandomErasing, RelDropBlock, RelDropPixel, fit_with_dropout
from shared.correction import training_relevance as maps_of
from shared.nets import ConvNorm
from shared.zoo import load_data
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

SEEDS, PILOTS, N_TUNING, N_TRAIN = range(8), range(500, 504), 2, 2000  # the first two pilots tune
TRAINING = {"epochs": 20, "lr": 0.05, "batch_size": 100, "weight_decay": 5e-4}
GRID = [(p, area) for area in (0.15, 0.4) for p in (0.25, 0.5, 1.0)]  # of random erasing and of RelDrop, tuned alike
TUNED = {"erasing": RandomErasing, "block": RelDropBlock}
Settings = dict[str, dict]


def small_net(generator: torch.Generator) -> nn.Sequential:
    """Two strided convolutions with batch norm and a linear layer on all positions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        return nn.Sequential(
            ConvNorm(1, 12, stride=2), ConvNorm(12, 24, stride=2), nn.Flatten(), nn.Linear(24 * 49, 10)
        )


def flipped(x: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images mirrored."""
    flip = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(flip[:, None, None, None], x.flip(3), x)


def images(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """All images and labels, normalised, and one seed's order of them: training images, then validation."""
    data = load_data("fashion-mnist", split="train")
    x = (data.x - data.x.mean()) / data.x.std()
    return x, data.y, torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))


def network(seed: int, dropout: InputDropout | None, maps: Callable = maps_of, **options: int) -> nn.Sequential:
    """One network; those of a seed share images, first weights, order and mirroring."""
    x, y, rows = images(seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    net, rows = small_net(generator), rows[:N_TRAIN]
    settings = {**TRAINING, **options, "augment": flipped, "generator": generator}
    with one_thread():
        return fit_with_dropout(net, x[rows], y[rows], dropout=dropout, maps=maps, **settings)


def of_another(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Each image gets the map of its neighbour in the batch: the same maps, at the wrong images."""
    return maps_of(model, x, y).roll(1, 0)


def of_an_untrained(seed: int) -> Callable:
    """Maps of a network whose weights stay as they were drawn."""
    random = small_net(torch.Generator().manual_seed(2000 + seed))
    return lambda _model, x, y: maps_of(random, x, y)


def methods(seed: int, settings: Settings) -> dict[str, dict]:
    """Name to what `network` is asked for, with the tuned settings of random erasing and of the block variant."""
    erase, block = (kind(**settings[name]) for name, kind in TUNED.items())
    longer = round(TRAINING["epochs"] * (1 + 2 / 3 * block.p))  # a plain step takes three passes, a map two more
    return {
        "plain": {"dropout": None},
        "erasing": {"dropout": erase},
        "erasing, equal time": {"dropout": erase, "epochs": longer},
        "erasing, equal area": {"dropout": RandomErasing(**settings["block"])},
        "block": {"dropout": block},
        "block, other maps": {"dropout": block, "maps": of_another},
        "block, untrained maps": {"dropout": block, "maps": of_an_untrained(seed)},
        "pixel": {"dropout": RelDropPixel()},
        "pixel, other maps": {"dropout": RelDropPixel(), "maps": of_another},
    }


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of images classified rightly."""
    return float((net(x).argmax(1) == y).double().mean())


def tune(name: str) -> list[float]:
    """Validation accuracy over `GRID`, mean of the pilot seeds that tune."""
    scores = []
    for p, area in GRID:
        nets = [network(seed, TUNED[name](p=p, area=(0.02, area))) for seed in PILOTS[:N_TUNING]]
        held = [(x[rows[N_TRAIN:]], y[rows[N_TRAIN:]]) for x, y, rows in map(images, PILOTS[:N_TUNING])]
        scores.append(float(np.mean([accuracy(net, *part) for net, part in zip(nets, held)])))
    return scores


def best(scores: list[float]) -> dict:
    """The setting of `GRID` with the highest score."""
    p, area = GRID[int(np.argmax(scores))]
    return {"p": p, "area": (0.02, area)}


def packed(nets: list[nn.Sequential]) -> np.ndarray:
    """All numbers of each network in a row, in half precision."""
    return (
        torch.stack([torch.cat([v.flatten().float() for v in net.state_dict().values()]) for net in nets])
        .half()
        .numpy()
    )


@recipe("reldrop-networks")
def make(folder: Path) -> None:
    """Tune, then train all: about nine minutes on one core. Another machine's sums may differ."""
    scores = {name: tune(name) for name in TUNED}
    settings = {name: best(found) for name, found in scores.items()}
    arrays = {f"{name} tuning": np.float32(found) for name, found in scores.items()} | {"grid": np.float32(GRID)}
    for name in methods(0, settings):
        arrays[name] = packed([network(seed, **methods(seed, settings)[name]) for seed in SEEDS])
    arrays["plain pilots"] = packed([network(seed, None) for seed in PILOTS])
    write_arrays(folder / "reldrop-networks.npz", arrays)
