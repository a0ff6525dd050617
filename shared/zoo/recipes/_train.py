"""Training of the zoo's small models: a deterministic loop for classifiers, checkpoints for the long ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from shared.compendium.paths import atomic_path
from shared.nets import logits_of

Batches = Callable[[torch.Generator], Iterator[tuple[Tensor, Tensor]]]


def train_classifier(
    build: Callable[[], nn.Module],
    batches: Batches,
    steps: int,
    lr: float,
    seed: int,
    weight_decay: float = 0.02,
    loss_of: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> nn.Module:
    """Build with `seed` and train by AdamW on a one-cycle schedule; returns the model in eval mode.

    `batches(generator)` yields inputs, ready for the model, and classes (B,). The caller's random state and thread
    count are left as they were.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps, pct_start=0.2)
        stream = batches(torch.Generator().manual_seed(seed))
        for _ in tqdm(range(steps), leave=False):
            x, y = next(stream)
            loss = loss_of(logits_of(model, x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch: int = 500) -> Tensor:
    """Predicted classes (N,) of inputs that are ready for the model."""
    return torch.cat([logits_of(model, part).argmax(1) for part in x.split(batch)])


def epochs(images: Tensor, labels: Tensor, batch: int) -> Batches:
    """Endless shuffled batches of a set of inputs, half of them mirrored."""

    def stream(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for rows in torch.randperm(len(images), generator=generator).split(batch)[: len(images) // batch]:
                x = images[rows]
                mirrored = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
                yield torch.where(mirrored, x.flip(-1), x), labels[rows]

    return stream


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep(path: Path, models: dict[str, nn.Module], optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write weights and Adam's moments as safetensors; `resume` goes on from there."""
    tensors = {f"{name}.{key}": value for name, model in models.items() for key, value in model.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{key}": value for key, value in state.items()}
    with atomic_path(path) as temporary:
        save_file({key: value.contiguous() for key, value in tensors.items()}, temporary, metadata={"step": str(step)})


def resume(path: Path, models: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Load what `keep` wrote; the step to go on with, 0 without a file."""
    if not path.is_file():
        return 0
    tensors = load_file(path)
    for name, model in models.items():
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        model.load_state_dict(own)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, i, name = key.split(".")
            if value.ndim:  # as the weights lie in memory: a fused step pairs them element by element
                value = torch.empty_like(parameters[int(i)]).copy_(value)
            state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])
