"""The state of a training run, written and read whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from shared.sae._model import SparseDict
from shared.sae.files._whole import read_tensors, whole
from shared.sae.training._settings import Settings


@dataclass
class SAEHistory:
    """What `fit` logged.

    Parameters
    ----------
    step : list of int
        Steps done when each entry was made.
    loss, reconstruction, penalty : list of float
        The loss and its parts.
    l0 : list of float
        Mean number of active latents per row of the batch.
    dead : list of float
        Share of dead latents.
    threshold : list of float
        Mean threshold; NaN for architectures without one.
    """

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    reconstruction: list[float] = field(default_factory=list)
    penalty: list[float] = field(default_factory=list)
    l0: list[float] = field(default_factory=list)
    dead: list[float] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)


@dataclass
class Run:
    """What changes from step to step.

    `silent` `(d_sae,)` counts the samples since each latent last fired; `stream` is resumed where it has a state.
    """

    sae: SparseDict
    settings: Settings
    optimizer: Any
    stream: Any
    generator: torch.Generator
    silent: Tensor
    step: int = 0
    history: SAEHistory = field(default_factory=SAEHistory)

    def save(self, path: Path) -> None:
        """All that a resumed run needs, in one safetensors file."""
        tensors = {f"sae.{name}": value for name, value in self.sae.state_dict().items()}
        for name, parameter in self.sae.named_parameters():
            tensors |= {f"adam.{name}.{key}": value for key, value in self.optimizer.state[parameter].items()}
        tensors |= {"run.since": self.silent, "run.rng": self.generator.get_state()}
        notes = {"step": self.step, "settings": _plain(self.settings), "cfg": _plain(self.sae.cfg)}
        notes |= {"history": asdict(self.history), "stream": None}
        if hasattr(self.stream, "state_dict"):
            state = self.stream.state_dict()
            tensors |= {f"stream.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
            notes["stream"] = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
        flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with whole(path) as part:
            save_file(flat, part, metadata={"notes": json.dumps(notes)})

    def resume(self, path: Path) -> None:
        """Go on from `save`; a checkpoint of another configuration or other settings is refused."""
        tensors, header = read_tensors(path)
        if "notes" not in header:
            raise ValueError(f"checkpoint={str(path)!r} holds tensors but no notes: it is no checkpoint of fit")
        notes = json.loads(header["notes"])
        for name, ours in (("cfg", self.sae.cfg), ("settings", self.settings)):
            _check_same(path, name, _plain(ours), notes[name])
        self.sae.load_state_dict(_under("sae.", tensors))
        for name, parameter in self.sae.named_parameters():
            self.optimizer.state[parameter] = _adam_state(parameter, _under(f"adam.{name}.", tensors))
        self.silent = tensors["run.since"].to(self.sae.device)
        self.generator.set_state(tensors["run.rng"])
        self.step = int(notes["step"])
        self.history = SAEHistory(**notes["history"])
        if notes["stream"] is not None and hasattr(self.stream, "load_state_dict"):
            self.stream.load_state_dict({**notes["stream"], **_under("stream.", tensors)})


def _check_same(path: Path, name: str, mine: dict[str, Any], stored: dict[str, Any]) -> None:
    if differ := [key for key in mine if mine[key] != stored.get(key)]:
        shown = ", ".join(f"{key}: {stored.get(key)!r} there, {mine[key]!r} here" for key in differ)
        raise ValueError(f"checkpoint={str(path)!r} is of another run ({name}: {shown})")


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _adam_state(parameter: Tensor, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adam's state with the parameter's strides (`W_enc` lies transposed)."""
    moments = {key: torch.empty_like(parameter.detach()).copy_(value) for key, value in stored.items() if key != "step"}
    return {**moments, "step": stored["step"].to(parameter.device)}


def _plain(config: Any) -> dict[str, Any]:
    """A dataclass as JSON would give it back."""
    return json.loads(json.dumps(asdict(config), default=str))
