"""Model states as dictionaries of tensors, one per client or stacked along a leading client axis."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from shared._checks import check_array
from shared.stats import wide_dtype

Params = dict[str, Tensor]


def derive_rng(seed: int, purpose: str, *path: int) -> np.random.Generator:
    """A numpy generator that depends on `seed`, `purpose` and `path` (round, client, …) only, never on call order."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *path])


def state_of(model: nn.Module) -> Params:
    """A detached copy of a model's state.

    Parameters
    ----------
    model : any module.

    Returns
    -------
    Parameters and buffers, in the order of its state dict; of tied weights the first name only.
    """
    return {key: value.detach().clone() for key, value in untied(model.state_dict(), tied_names(model)).items()}


def tied_names(model: nn.Module) -> dict[str, str]:
    """Parameters and buffers that are the same tensor as an earlier one: name -> the first name."""
    first: dict[int, str] = {}
    named = chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    names = {name: first.setdefault(id(value), name) for name, value in named}
    return {name: whose for name, whose in names.items() if name != whose}


def untied(state: Mapping[str, Tensor], tied: Collection[str]) -> Params:
    """A state without the further names of tied weights."""
    return {key: value for key, value in state.items() if key not in tied}


def check_state(argument: str, state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    """Check that a state fits a model.

    Parameters
    ----------
    argument : names the state in errors.
    state : what is checked.
    like : whose keys, shapes and kinds of numbers it must have.

    Raises
    ------
    ValueError
        naming the key that doesn't fit.
    """
    for key in like:
        if key not in state:
            raise ValueError(f"{argument} lacks the key {key!r}; expected keys: {', '.join(like)}")
    for key, value in state.items():
        if key not in like:
            raise ValueError(f"{argument} has the unknown key {key!r}; expected keys: {', '.join(like)}")
        if value.shape != like[key].shape:
            raise ValueError(f"{argument}[{key!r}] has shape {tuple(value.shape)}; expected {tuple(like[key].shape)}")
        if value.is_floating_point() != like[key].is_floating_point():
            raise ValueError(f"{argument}[{key!r}] has dtype {value.dtype}; expected {like[key].dtype}")


def stack_states(states: Sequence[Mapping[str, Tensor]]) -> Params:
    """Stack states along a new leading axis.

    Parameters
    ----------
    states : n of them, at least one.

    Returns
    -------
    One state whose tensors have shape (n, …).

    Raises
    ------
    ValueError
        naming the key that doesn't match.
    """
    if not states:
        raise ValueError("states is empty; at least one state is needed")
    for index, state in enumerate(states[1:], start=1):
        check_state(f"states[{index}]", state, states[0])
    return {key: torch.stack([state[key] for state in states]) for key in states[0]}


def take_states(stacked: Params, index: int | Sequence[int] | np.ndarray | Tensor) -> Params:
    """Rows of a stacked state.

    Parameters
    ----------
    stacked : n states.
    index : a position, or several.

    Returns
    -------
    One state for an integer, a smaller stack for several.
    """
    if not isinstance(index, int):
        index = torch.as_tensor(np.asarray(index), dtype=torch.long)
    return {key: value[index] for key, value in stacked.items()}


def repeat(state: Params, count: int) -> Params:
    """The same state `count` times along a new leading axis, without copying."""
    return {key: value.expand(count, *value.shape) for key, value in state.items()}


def rowwise(value: Tensor) -> Tensor:
    """A tensor (n, …) as a matrix (n, d), d = 1 for numbers."""
    return value.reshape(value.shape[0], math.prod(value.shape[1:]))


def flatten(stacked: Params) -> Tensor:
    """The floating entries of stacked states as vectors.

    Parameters
    ----------
    stacked : n states.

    Returns
    -------
    (n, D), float64, or float32 on devices without it.
    """
    parts = [rowwise(v).to(wide_dtype(v.device)) for v in stacked.values() if v.is_floating_point()]
    return torch.cat(parts, 1)


def unflatten(vector: Tensor, like: Params) -> Params:
    """The inverse of `flatten` for one vector.

    Parameters
    ----------
    vector : (D,).
    like : a state with the shapes; its non-floating entries are kept.

    Returns
    -------
    A state.
    """
    check_array("vector", vector, (sum(value.numel() for value in like.values() if value.is_floating_point()),))
    out, start = {}, 0
    for key, value in like.items():
        if value.is_floating_point():
            out[key] = vector[start : start + value.numel()].reshape(value.shape).to(value.dtype)
            start += value.numel()
        else:
            out[key] = value
    return out


def payload_bytes(state: Params) -> int:
    """Bytes of one state's tensors as they are sent, without any message header.

    Parameters
    ----------
    state : a state.

    Returns
    -------
    The number of bytes; a tensor that has two names counts once.
    """
    once = {id(value): value for value in state.values()}
    return sum(value.numel() * value.element_size() for value in once.values())


@dataclass
class Updates:
    """What the clients that answered sent back, stacked along the client axis.

    Parameters
    ----------
    clients : n client ids.
    params : states (n, …).
    num_examples : (n,) float64.
    loss : (n,) mean training loss, NaN where unknown.
    control : for SCAFFOLD, the change of each client's control variate (n, …).
    population : how many clients there are in all.
    trained : the keys that gradients changed; None for all floating ones. Running statistics and frozen weights are
        not among them: they are no updates, so aggregators only average them.
    """

    clients: list[int]
    params: Params
    num_examples: Tensor
    loss: Tensor
    control: Params = field(default_factory=dict)
    population: int = 0
    trained: frozenset[str] | None = None

    def __len__(self) -> int:
        return len(self.clients)

    def learns(self, key: str) -> bool:
        """Whether an entry of the state is a trained weight.

        Parameters
        ----------
        key : its name.

        Returns
        -------
        False for counters, running statistics and frozen weights.
        """
        return self.params[key].is_floating_point() and (self.trained is None or key in self.trained)

    def rows(self, keep: Sequence[int] | np.ndarray) -> Updates:
        """Some of the updates.

        Parameters
        ----------
        keep : their positions.

        Returns
        -------
        The updates there.
        """
        keep = np.asarray(keep, dtype=int)
        at = torch.as_tensor(keep)
        return replace(
            self,
            clients=[self.clients[i] for i in keep],
            params=take_states(self.params, keep),
            num_examples=self.num_examples[at],
            loss=self.loss[at],
            control=take_states(self.control, keep),
        )


@dataclass
class Update:
    """One client's answer before it is checked; see `Updates`.

    Parameters
    ----------
    client : its id.
    params : its state.
    num_examples : how many examples it trained on.
    loss : its mean training loss.
    control : the change of its control variate.
    trained : the keys that gradients changed; None for all floating ones.
    """

    client: int
    params: Params
    num_examples: float
    loss: float = float("nan")
    control: Params = field(default_factory=dict)
    trained: frozenset[str] | None = None


def screen_updates(updates: Updates) -> tuple[Updates, dict[int, str]]:
    """Drop updates with a NaN or infinite entry or without examples.

    Parameters
    ----------
    updates : what the clients sent.

    Returns
    -------
    The rest, and client -> reason.
    """
    sound = torch.ones(len(updates), dtype=torch.bool)
    rejected: dict[int, str] = {}
    for values in (updates.params, updates.control):
        for key, value in values.items():
            if not value.is_floating_point() or torch.isfinite(value.sum()):  # a sum is finite only if all entries are
                continue
            fine = torch.isfinite(rowwise(value)).all(1).cpu()
            for row in torch.nonzero(~fine & sound).flatten().tolist():
                rejected[updates.clients[row]] = f"{key!r} holds NaN or infinite values"
            sound = sound & fine
    for row in torch.nonzero(sound & ~(updates.num_examples > 0)).flatten().tolist():
        rejected[updates.clients[row]] = f"num_examples={updates.num_examples[row].item()} is not positive"
        sound[row] = False
    if not rejected:
        return updates, rejected
    return updates.rows(torch.nonzero(sound).flatten().numpy()), rejected


def gather_updates(answers: Sequence[Update], like: Params, population: int) -> tuple[Updates, dict[int, str]]:
    """Check single answers against the model's state `like` and stack those that pass.

    An answer with a wrong key, shape, NaN or no examples is left out and named, so one faulty client can't end a
    round.

    Parameters
    ----------
    answers : single answers, in any order.
    like : the model's state.
    population : how many clients there are in all.

    Returns
    -------
    The stacked updates, possibly none, and client -> reason.
    """
    rejected: dict[int, str] = {}
    kept: list[Update] = []
    controls = next((list(answer.control) for answer in answers if answer.control), [])
    for answer in answers:
        try:
            check_state("params", answer.params, like)
            check_state("control", answer.control, {key: like[key] for key in controls if key in like})
        except ValueError as error:
            rejected[answer.client] = str(error)
        else:
            kept.append(answer)
    kept.sort(key=lambda answer: answer.client)  # replies arrive in any order; sums must not depend on it
    if not kept:
        return no_updates(like, population), rejected
    stacked = Updates(
        [answer.client for answer in kept],
        stack_states([answer.params for answer in kept]),
        torch.tensor([float(answer.num_examples) for answer in kept], dtype=torch.float64),
        torch.tensor([float(answer.loss) for answer in kept], dtype=torch.float64),
        stack_states([answer.control for answer in kept]) if controls else {},
        population,
        kept[0].trained,
    )
    sound, bad = screen_updates(stacked)
    return sound, rejected | bad


def no_updates(like: Params, population: int) -> Updates:
    """The updates of a round that nobody answered."""
    nothing = torch.zeros(0, dtype=torch.float64)
    return Updates(
        [], {key: value.new_zeros(0, *value.shape) for key, value in like.items()}, nothing, nothing, {}, population
    )
