"""The answer that a network would give after each of its layers: logit lens and tuned lens over any residual stack.

The logit lens (nostalgebraist 2020) reads layer l's residual stream h_l with the network's own last norm and head,
`head(norm(h_l))`. Where norms act on the stream itself (post-norm blocks) that norm is out of place in the middle;
Sandmann et al. (2025) send h_l through the later blocks with attention and MLP set to zero and their norms kept. The
tuned lens (Belrose et al. 2023, eq. 5 and 6) puts an affine translator per layer in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_range, wide
from shared.hooks import (
    batches,
    find_module,
    first_tensor,
    refuse_compiled,
    refuse_training,
    run_model,
    transformer_parts,
)

Data = Tensor | Mapping[str, Any]
Read = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ResidualStack:
    """Blocks that write to one stream, and how an answer is read off that stream; made by `residual_stack`.

    Parameters
    ----------
    blocks : tuple of str
        Names of the blocks in order; the stream is the first one's input and every one's output.
    read : callable
        From states (B, ..., d) to logits.
    rest : callable, optional
        From a state and the number of blocks it has passed to the state at the end of the stack.
    """

    blocks: tuple[str, ...]
    read: Read
    rest: Callable[[Tensor, int], Tensor] | None = None

    def decode(self, states: Tensor) -> Tensor:
        """Logits (L + 1, n, ...) of states (L + 1, n, ..., d), one entry per number of blocks passed.

        Parameters
        ----------
        states : Tensor, shape (L + 1, n, ..., d)

        Returns
        -------
        Tensor, shape (L + 1, n, ...)
        """
        if self.rest is not None:
            states = torch.stack([self.rest(state, passed) for passed, state in enumerate(states)])
        return self.read(states.flatten(0, 1)).unflatten(0, states.shape[:2])


def residual_stack(
    model: nn.Module,
    *,
    blocks: str | None = None,
    norm: Read | None = None,
    head: Read | None = None,
    rest: Callable[[Tensor, int], Tensor] | None = None,
) -> ResidualStack:
    """Find a model's blocks, last norm and head.

    Parameters
    ----------
    model : nn.Module
        A causal language model of a family that `hooks.transformer_parts` knows; any other with the rest given.
    blocks : str, optional
        Name of the `ModuleList` or `Sequential` of blocks.
    norm : callable, optional
        What stands between the stream and the head; `torch.nn.Identity()` for nothing.
    head : callable, optional
        From states to logits.
    rest : callable, optional
        `rest(state, passed)`: what carries a state from behind block `passed` to the end of the stack, for post-norm
        blocks; by default nothing does, and the state is read as it is.

    Returns
    -------
    ResidualStack

    Raises
    ------
    ValueError
        For an architecture whose parts can't be found (what was looked for is named).
    """
    parts = None
    if None in (blocks, norm, head):
        looked = "config.model_type in hooks.transformer_parts' table, its final norm, get_output_embeddings()"
        given = "pass blocks=, norm= and head="
        try:
            parts = transformer_parts(model)
        except ValueError as error:
            raise ValueError(f"model {type(model).__name__}: looked for {looked}; {given} ({error})") from error
        if norm is None and parts.final_norm is None:
            raise ValueError(f"model {type(model).__name__} has no final norm (post-norm family); {given}")
        if head is None and getattr(model, "get_output_embeddings", lambda: None)() is None:
            raise ValueError(f"model {type(model).__name__} has no head: looked for get_output_embeddings(); {given}")
    name = blocks if blocks is not None else parts.blocks
    stack = find_module(model, name)
    if not isinstance(stack, nn.ModuleList | nn.Sequential) or not len(stack):
        raise ValueError(f"blocks={name!r} is a {type(stack).__name__}; accepted: a ModuleList or Sequential of blocks")
    last = norm if norm is not None else find_module(model, parts.final_norm)
    out = head if head is not None else _capped(model)
    return ResidualStack(tuple(f"{name}.{i}" for i in range(len(stack))), lambda state: out(last(state)), rest)


def _capped(model: nn.Module) -> Read:
    """The output embedding, and behind it Gemma's soft cap on logits."""
    head, cap = model.get_output_embeddings(), getattr(model.config, "final_logit_softcapping", None)
    return head if cap is None else lambda state: cap * torch.tanh(head(state) / cap)


@contextmanager
def _recorded(model: nn.Module, blocks: tuple[str, ...], position: int | None) -> Iterator[list[Tensor]]:
    """The stream in front of the first block and behind each, at one position only: no copy of the rest."""
    refuse_compiled(model)
    seen: list[Tensor] = []

    def keep(value: Any) -> None:
        state = first_tensor(value).detach()
        seen.append(state.clone() if position is None else state[:, position].clone())

    def before(_module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        keep(args if args else kwargs)

    with ExitStack() as stack:
        first = find_module(model, blocks[0]).register_forward_pre_hook(before, with_kwargs=True)
        stack.callback(first.remove)
        for name in blocks:
            handle = find_module(model, name).register_forward_hook(lambda _m, _a, output: keep(output))
            stack.callback(handle.remove)
        yield seen


@torch.no_grad()
def residual_states(
    model: nn.Module,
    data: Data,
    *,
    stack: ResidualStack | None = None,
    position: int | None = -1,
    batch_size: int = 32,
) -> Tensor:
    """The residual stream after 0, 1, ..., L blocks.

    Parameters
    ----------
    model : nn.Module
        In eval mode.
    data : Tensor or mapping of tensors by argument name
        Token ids (B, S), say.
    stack : ResidualStack, optional
        By default `residual_stack(model)`.
    position : int or None
        The one position (the second axis of the stream) that is kept; None keeps all.
    batch_size : int

    Returns
    -------
    Tensor, shape (L + 1, B, d), or (L + 1, B, S, d) for all positions

    Raises
    ------
    ValueError
        For a position that is padding, or a stack that doesn't give the model's own output at its end.
    """
    refuse_training(model)
    stack = stack or residual_stack(model)
    parts = []
    for batch in batches(data, batch_size, argument="data"):
        _refuse_padding(batch, position)
        with _recorded(model, stack.blocks, position) as seen:
            output = run_model(model, batch)
        if len(seen) != len(stack.blocks) + 1:
            raise ValueError(f"model ran {len(seen) - 1} blocks of {len(stack.blocks)}; each must run once a pass")
        states = torch.stack(seen)
        if not parts:
            _compare(stack.read(states[-1]), output, position)
        parts.append(states)
    return torch.cat(parts, 1)


def _refuse_padding(batch: Data, position: int | None) -> None:
    mask = None if isinstance(batch, Tensor) or position is None else batch.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2 and not bool(mask[:, position].all()):
        raise ValueError(f"data has padding at position={position}; pad on the left, or choose a position of text")


def _compare(read: Tensor, output: Any, position: int | None) -> None:
    """The last readout is the model's own output, or the stack isn't the model's."""
    own = getattr(output, "logits", output)
    if not isinstance(own, Tensor):
        return
    own = own[:, position] if position is not None and own.ndim == read.ndim + 1 else own
    if own.shape != read.shape:
        return
    known = torch.isfinite(own) & torch.isfinite(read)  # masked moves are minus infinity in one of the two
    off, size = (own - read)[known].abs().max(), own[known].abs().max()
    if off > (1e-3 if own.dtype in (torch.float32, torch.float64) else 5e-2) * size:
        raise ValueError(f"model gives other logits than its stack's last readout (off by {float(off):.3g})")


@torch.no_grad()
def logit_lens(
    model: nn.Module,
    data: Data,
    *,
    stack: ResidualStack | None = None,
    position: int | None = -1,
    batch_size: int = 32,
) -> Tensor:
    """What the network would answer after 0, 1, ..., L of its blocks, in one forward pass.

    Parameters
    ----------
    model : nn.Module
        In eval mode.
    data : Tensor or mapping of tensors by argument name
    stack : ResidualStack, optional
        By default `residual_stack(model)`, which knows causal language models.
    position : int or None
        The one position that is read; None reads all, which costs L heads over all positions.
    batch_size : int

    Returns
    -------
    Tensor, shape (L + 1, B, V), or (L + 1, B, S, V) for all positions
        The last entry is the model's own output.

    Raises
    ------
    ValueError
        As for `residual_states` and `residual_stack`.
    """
    stack = stack or residual_stack(model)
    states = residual_states(model, data, stack=stack, position=position, batch_size=batch_size)
    return torch.cat([stack.decode(part) for part in states.split(batch_size, 1)], 1)


@dataclass(frozen=True)
class Translators:
    """One affine map per number of blocks passed, the last one the identity; made by `tuned_lens`.

    Parameters
    ----------
    weight : Tensor, shape (L + 1, d, d)
        What is added to the identity, applied to rows from the right.
    bias : Tensor, shape (L + 1, d)
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, states: Tensor) -> Tensor:
        """Translated states (L + 1, n, ..., d), to be read by `ResidualStack.decode` or by its `read`."""
        flat = states.flatten(1, -2)
        moved = flat + torch.baddbmm(self.bias[:, None].to(flat), flat, self.weight.to(flat))
        return moved.view_as(states)


@torch.no_grad()
def tuned_lens(
    states: Tensor,
    *,
    read: Read | None = None,
    ridge: float = 1e-3,
    steps: int = 0,
    lr: float = 1e-3,
    batch_size: int = 64,
    generator: torch.Generator | None = None,
) -> Translators:
    """Affine translators from every layer's states to the last one's.

    First in closed form (ridge regression of the last state on the layer's), then, with `steps`, on the tuned lens's
    own objective, the KL divergence of the readout from the last layer's (Belrose et al., eq. 6).

    Parameters
    ----------
    states : Tensor, shape (L + 1, n, ..., d)
        Of other data than the lens will be judged on.
    read : callable, optional
        From states to logits, `ResidualStack.read`; needed for `steps`.
    ridge : float
        Relative to the mean variance of the layer's states.
    steps : int
        Of Adam on the divergence.
    lr : float
    batch_size : int
        Items per step.
    generator : torch.Generator, optional

    Returns
    -------
    Translators

    Raises
    ------
    ValueError
        For fewer than two items, or `steps` without `read`.
    """
    check_array("states", states, (*(None,) * max(states.ndim, 3),))
    if states.shape[0] < 2 or states.shape[1] < 2:
        raise ValueError(f"states has shape {tuple(states.shape)}; at least two layers and two items are needed")
    check_range("ridge", ridge, 0.0)
    check_range("steps", steps, 0)
    check_range("batch_size", batch_size, 1)
    if steps and read is None:
        raise ValueError("read=None; `steps` of the divergence need the read function of the stack")
    flat = wide(states.detach().flatten(1, -2))
    means = flat.mean(1, keepdim=True)
    x, y = (flat - means)[:-1], (flat[-1:] - flat[:-1]) - (flat[-1:] - flat[:-1]).mean(1, keepdim=True)
    gram = x.mT @ x
    scale = gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(gram + ridge * scale[:, None, None] * eye, x.mT @ y)
    bias = (means[-1:] - means[:-1] - means[:-1] @ weight).squeeze(1)
    kept = [torch.cat([part, torch.zeros_like(part[:1])]).to(states.dtype) for part in (weight, bias)]
    return (
        _descend(Translators(*kept), states.detach(), read, steps, lr, batch_size, generator)
        if steps
        else Translators(*kept)
    )


def _descend(
    start: Translators, states: Tensor, read: Any, steps: int, lr: float, size: int, generator: Any
) -> Translators:
    aim = read(states[-1]).log_softmax(-1)
    device = generator.device if generator is not None else "cpu"
    with torch.inference_mode(False), torch.enable_grad():
        weight, bias = start.weight[:-1].clone().requires_grad_(), start.bias[:-1].clone().requires_grad_()
        optimiser = torch.optim.Adam([weight, bias], lr=lr)
        for _ in range(steps):
            rows = torch.randint(states.shape[1], (size,), generator=generator, device=device).to(states.device)
            moved = Translators(weight, bias)(states[:-1, rows].clone())
            logits = read(moved.flatten(0, 1)).unflatten(0, moved.shape[:2]).log_softmax(-1)
            kept = torch.isfinite(aim[rows]) & torch.isfinite(logits)
            gap = torch.where(kept, aim[rows].exp() * (aim[rows] - logits), 0.0)
            loss = gap.flatten(1).sum(1).sum() / size
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    zero = [torch.zeros_like(part[:1]) for part in (weight, bias)]
    return Translators(*(torch.cat([part.detach(), none]) for part, none in zip((weight, bias), zero)))
