"""A small post-norm policy of four chess endings, taught by exact tables, and puzzles that they never saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.nets import PostNormPolicy
from shared.worlds import Ending, best_moves, position_arrays, puzzle_arrays, solve_ending
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._train import one_thread

NAME = "chess-endings"
ENDINGS = (("Q", ""), ("R", ""), ("BB", ""), ("Q", "R"))
SEEDS = (0,)
LAYERS, WIDTH, HEADS = 8, 64, 4
BATCH, PER_CHUNK, CHUNKS, WARM_UP, LR = 128, 50, 30, 100, 2e-3  # a batch per ending and step
N_PUZZLES, EVERY = 160, 5  # of each ending and number of moves, at most; each fifth is a pilot
POSITIONS = {"fit": (1000, 0, False), "test": (150, 2, True)}  # per ending; stream (77, 1 was a pilot); held out


def tables() -> list[Ending]:
    """The solved endings."""
    return [solve_ending(white, black=black) for white, black in ENDINGS]


def loss_of(logits: Tensor, values: Tensor) -> Tensor:
    """Cross-entropy with the best moves, equally likely, over legal moves."""
    best = torch.from_numpy(best_moves(values.numpy())).flatten(1)
    logp = logits.flatten(1).masked_fill(values.flatten(1) < 0, -torch.inf).log_softmax(-1)
    return -torch.where(best, logp, 0.0).sum(1).div(best.sum(1)).mean()


def train(
    seed: int, *, chunks: int = CHUNKS, resume: Any = None, keep: Callable[[Any], None] | None = None
) -> PostNormPolicy:
    """One network; every chunk draws new positions from its own stream, so that a kept state goes on exactly."""
    net = PostNormPolicy(layers=LAYERS, width=WIDTH, heads=HEADS, generator=torch.Generator().manual_seed(seed))
    optimiser = torch.optim.Adam(net.parameters(), lr=LR)
    endings, first, total = tables(), 0, chunks * PER_CHUNK
    if resume is not None:
        first = resume["chunk"]
        net.load_state_dict(resume["net"])
        optimiser.load_state_dict(resume["optimiser"])
    with one_thread():
        for chunk in range(first, chunks):
            rng = np.random.default_rng([seed, chunk])
            data = position_arrays(endings, BATCH * PER_CHUNK, generator=rng, held_out=False)
            order = rng.permutation(len(data["tokens"]))
            for step, rows in enumerate(np.split(order, PER_CHUNK)):
                done = chunk * PER_CHUNK + step
                rate = min(1.0, (done + 1) / WARM_UP) * 0.5 * (1 + np.cos(np.pi * done / total))
                optimiser.param_groups[0]["lr"] = LR * rate
                tokens, values = (torch.from_numpy(data[key][rows]) for key in ("tokens", "values"))
                loss = loss_of(net(tokens), values)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            if keep is not None:
                state = {"chunk": chunk + 1, "net": net.state_dict(), "optimiser": optimiser.state_dict()}
                keep(state | {"loss": float(loss.detach())})
    return net.eval()


def small(array: np.ndarray) -> np.ndarray:
    """In as few bytes as hold it."""
    return array.astype(np.int8 if array.max() < 128 else np.int16)


def write(folder: Path, networks: list[PostNormPolicy]) -> None:
    """Networks in half precision, and what they are tried on."""
    flat = [torch.cat([value.flatten() for value in net.state_dict().values()]).half().numpy() for net in networks]
    arrays, endings = {"weights": np.stack(flat)}, tables()
    found = puzzle_arrays(endings, N_PUZZLES, generator=np.random.default_rng([99, 2]))
    is_pilot = np.arange(len(found["moves"])) % EVERY == 0
    for name, rows in (("puzzles", ~is_pilot), ("pilot puzzles", is_pilot)):
        arrays |= {f"{name} {key}": small(value[rows]) for key, value in found.items()}
    for name, (n, stream, held_out) in POSITIONS.items():
        rng = np.random.default_rng([77, stream])
        found = position_arrays(endings, n, generator=rng, held_out=held_out)
        kept = [key for key in found if held_out or key not in ("check", "safe")]
        arrays |= {f"{name} {key}": small(found[key]) for key in kept}
    write_arrays(folder / f"{NAME}.npz", arrays)


@recipe(NAME)
def make(folder: Path) -> None:
    """Solve, train and draw: about five minutes on one core. Another machine's sums may differ a little."""
    write(folder, [train(seed) for seed in SEEDS])
