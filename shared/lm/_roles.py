"""Role embeddings: every token is told to the model as instruction or as data (ASIDE, and segment embeddings).

A role is a bit per token, 0 for instructions and 1 for data. What it does to the embeddings is a module called with
embeddings and roles; the table itself is never touched, since the output head may share it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite
from shared.lm._start import start_token

ROLES = ("instruction", "data")
ROLE_MODES = ("rotation", "segment", "none")


def turn_pairs(x: Tensor, angle: float) -> Tensor:
    """The isoclinic rotation: every pair of dimensions (0, 1), (2, 3), … turned by the same angle.

    A row vector times blocks [[cos, -sin], [sin, cos]], as ASIDE does it (Zverev et al. 2025, section 4). Multiples
    of a quarter turn are exact in every precision, where the cosine of a rounded angle isn't zero.

    Parameters
    ----------
    x : Tensor (..., d)
        With an even number of dimensions.
    angle : float
        In radians.

    Returns
    -------
    Tensor (..., d)
        As long as x; a quarter turn is orthogonal to x.

    Raises
    ------
    ValueError
        For NaN, an odd number of dimensions, or an angle that is no number.
    """
    check_finite("x", x)
    if x.ndim == 0 or x.shape[-1] % 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; accepted: an even last dimension, to be turned in pairs")
    if not math.isfinite(angle):
        raise ValueError(f"angle={angle}; accepted: a finite number of radians")
    return _turned(x, angle)


def _turned(x: Tensor, angle: float) -> Tensor:
    quarters = angle / (math.pi / 2)
    whole = abs(quarters - round(quarters)) < 1e-9
    c, s = ((1, 0), (0, 1), (-1, 0), (0, -1))[round(quarters) % 4] if whole else (math.cos(angle), math.sin(angle))
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([c * even + s * odd, c * odd - s * even], dim=-1).flatten(-2)


class RoleEmbedding(nn.Module):
    """What a token's role does to its embedding.

    Parameters
    ----------
    width : int
        Of the embeddings; even for the rotation.
    mode : str
        "rotation" turns data (ASIDE; no parameters); "segment" adds a learnt row per role (ISE, instructional segment
        embeddings: `table`, zero at first); "none" leaves all as it is.
    angle : float
        Of the rotation, in radians.

    Raises
    ------
    ValueError
        For an unknown mode, a width below one, or an odd one to be turned.
    """

    def __init__(self, width: int, *, mode: str = "rotation", angle: float = math.pi / 2) -> None:
        super().__init__()
        self.mode, self.angle = check_choice("mode", mode, ROLE_MODES), angle
        if width < 1 or (mode == "rotation" and width % 2):
            raise ValueError(f"width={width}; accepted: a positive number, even if pairs are to be turned")
        self.width = width
        self.table = nn.Parameter(torch.zeros(2, width)) if mode == "segment" else None

    def forward(self, embeds: Tensor, roles: Tensor) -> Tensor:
        """Embeddings with their roles.

        Parameters
        ----------
        embeds : Tensor (B, S, width)
        roles : Tensor (B, S)
            0 for instructions, 1 for data.

        Returns
        -------
        Tensor (B, S, width)

        Raises
        ------
        ValueError
            For roles of another shape than the tokens, or another width.
        """
        if embeds.shape[-1] != self.width:
            raise ValueError(f"embeds has width {embeds.shape[-1]}; accepted: {self.width}")
        _check_shape(roles, embeds.shape[:-1])
        data = roles.bool()[..., None]
        if self.mode == "rotation":
            return torch.where(data, _turned(embeds, self.angle), embeds)
        if self.mode == "segment":
            return embeds + torch.where(data, self.table[1], self.table[0]).to(embeds.dtype)
        return embeds


def _check_shape(roles: Any, shape: Sequence[int]) -> None:
    if not isinstance(roles, Tensor) or tuple(roles.shape) != tuple(shape):
        came = f"has shape {tuple(roles.shape)}" if isinstance(roles, Tensor) else f"is a {type(roles).__name__}"
        raise ValueError(f"roles {came}; accepted: a tensor of one bit per token, {tuple(shape)}")


def _check_bits(roles: Tensor) -> None:
    if not bool(((roles == 0) | (roles == 1)).all()):
        raise ValueError("roles has other values than 0 (instruction) and 1 (data)")


def role_embeds(model: Any, ids: Tensor, roles: Tensor, embedding: nn.Module) -> Tensor:
    """A model's input embeddings with roles, to be called by `model(inputs_embeds=…)`.

    Parameters
    ----------
    model : causal language model of transformers
    ids : Tensor (B, S)
    roles : Tensor (B, S)
        0 for instructions (and padding), 1 for data.
    embedding : module
        Called with embeddings and roles, as `RoleEmbedding`.

    Returns
    -------
    Tensor (B, S, d)

    Raises
    ------
    ValueError
        For roles of another shape than the ids, or other values.
    """
    _check_shape(roles, ids.shape)
    _check_bits(roles)
    return embedding(model.get_input_embeddings()(ids), roles)


@contextmanager
def assign_roles(model: Any, roles: Tensor, embedding: nn.Module) -> Iterator[None]:
    """Within it the model sees its tokens with these roles, in `forward` and in `generate`, with or without a cache.

    Generated tokens get the role of their prompt's last token. Prompts are padded on the left. Beams, or several
    returned sequences, are as many copies of each row as transformers makes.

    Parameters
    ----------
    model : causal language model of transformers
    roles : Tensor (B, S)
        Of the prompts' tokens: 0 for instructions (and padding), 1 for data.
    embedding : module
        Called with embeddings and roles, as `RoleEmbedding`.

    Yields
    ------
    None

    Raises
    ------
    ValueError
        For roles of other values, or when the model is called first with ids of another shape.
    """
    asked = False

    def turned(module: nn.Module, args: tuple, embeds: Tensor) -> Tensor:
        nonlocal asked
        copies, rest = divmod(embeds.shape[0], max(roles.shape[0], 1))
        length = embeds.shape[1]
        if rest or not copies or (not asked and length != roles.shape[1]):
            raise ValueError(f"roles has shape {tuple(roles.shape)}; accepted: {tuple(embeds.shape[:2])}, as the ids")
        asked = True
        here = roles.to(embeds.device).repeat_interleave(copies, 0)
        if length < roles.shape[1]:  # generated with a cache: only what is new comes
            return embedding(embeds, here[:, -1:].expand(-1, length))
        return embedding(embeds, torch.cat([here, here[:, -1:].expand(-1, length - roles.shape[1])], dim=1))

    if not isinstance(roles, Tensor) or roles.ndim != 2:
        raise ValueError("roles must be a tensor (B, S) of 0 and 1, one for each of the prompts' tokens")
    _check_bits(roles)
    handle = model.get_input_embeddings().register_forward_hook(turned)
    try:
        yield
    finally:
        handle.remove()


def role_tokens(
    tokenizer: Any, prompts: Sequence[Sequence[tuple[str, str]]], *, start: str | None = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """Prompts in parts of known role as one batch, padded on the left.

    Parameters
    ----------
    tokenizer : of transformers
    prompts : sequence of sequences of (text, role)
        The parts of each prompt; roles are "instruction" and "data". Parts are tokenised apart, and only the first
        gets a start token.
    start : str, optional
        As for `start_token`; it takes the first part's role.

    Returns
    -------
    ids, roles, mask : Tensor (B, S), int64
        Padding has the role 0 and is masked.

    Raises
    ------
    ValueError
        For no prompts, an empty one, or an unknown role.
    """
    first = start_token(tokenizer, start=start)
    rows = []
    for parts in prompts:
        row = []
        for text, role in parts:
            bit = ROLES.index(check_choice("prompts", role, ROLES))
            if first is not None and not row:
                row.append((first, bit))
            row += [(token, bit) for token in tokenizer(text, add_special_tokens=False).input_ids]
        rows.append(row)
    if not rows or not all(rows):
        raise ValueError("prompts must be at least one, each of at least one token")
    fill = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    longest = max(map(len, rows))
    padded = [[(fill or 0, 0)] * (longest - len(row)) + row for row in rows]
    ids, roles = torch.tensor(padded).unbind(-1)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, roles, mask
