"""A dictionary inside a model: reconstruct, edit or steer an activation through its codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice
from shared.hooks import AxisFinder
from shared.hooks import edit as edit_activation
from shared.sae._model import SparseDict
from shared.sae._normalise import RowStats

ERRORS = ("keep", "detach", "drop")
Edit = Callable[[Tensor], Tensor]


@contextmanager
def splice(
    model: nn.Module,
    layer: str,
    sae: SparseDict,
    *,
    tokens: str | Any = "all",
    channel_axis: int | None = None,
    error: str = "keep",
    edit: Edit | None = None,
    at: str = "output",
) -> Iterator[dict[str, Tensor]]:
    """Pass the activation of a module through `sae` while the context is open.

    Parameters
    ----------
    model : Module
        Any torch module.
    layer : str
        Name of the module.
    sae : SparseDict
        An autoencoder of the activation's channels.
    tokens : str or index
        Of `(B, T, D)`: "all", "cls" (the first), "patches" (all but the first), or an index of axis 1 (slice, list);
        the other tokens pass unchanged.
    channel_axis : int, optional
        Axis that is encoded, where the module doesn't tell it (`hooks.find_channel_axis`).
    error : str
        What becomes of the reconstruction error ε = x - x̂. "keep": x + (f' - f) W_dec, so that without an edit nothing
        changes; "detach": x̂' + ε without gradient through ε (attribution over latents); "drop": x̂'.
    edit : callable, optional
        From codes f `(…, d_sae)` to codes f' of the same shape.
    at : str
        "output" or "input" of the module.

    Yields
    ------
    dict of str to Tensor
        Filled as the model runs: "codes" (f, before the edit) and, unless kept, "error" (ε) of the last call; the
        encoded axis is the last one.

    Raises
    ------
    ValueError
        An unknown module, mode or tokens; a transcoder; a module that doesn't tell its channels; an edit that changes
        the shape or makes NaN.
    """
    _check_mode(sae, error)
    index = _token_index(tokens)
    axis_of = AxisFinder(model, layer, channel_axis=channel_axis)
    seen: dict[str, Tensor] = {}

    def through(activation: Tensor) -> Tensor:
        if index is None:
            axis = axis_of(activation)
            with torch.autocast(activation.device.type, enabled=False):  # codes in the dictionary's own precision
                return _replaced(activation.movedim(axis, -1), sae, error, edit, seen).movedim(-1, axis)
        if activation.ndim != 3:
            raise ValueError(f"tokens={tokens!r} needs activations of shape (B, T, D); got {tuple(activation.shape)}")
        new = activation.clone()
        with torch.autocast(activation.device.type, enabled=False):
            new[:, index] = _replaced(activation[:, index], sae, error, edit, seen)
        return new

    with edit_activation(model, {layer: through}, at=at):
        yield seen


def edit_codes(sae: SparseDict, activation: Tensor, edit: Edit, *, error: str = "keep") -> Tensor:
    """What `splice` makes of an activation with this edit, for hidden states that are already at hand.

    Parameters
    ----------
    sae : SparseDict
        An autoencoder.
    activation : Tensor
        `(…, d_in)`.
    edit : callable
        From codes f `(…, d_sae)` to codes f' of the same shape.
    error : str
        "keep", "detach" or "drop", as in `splice`.

    Returns
    -------
    Tensor
        `(…, d_in)`.
    """
    _check_mode(sae, error)
    return _replaced(activation, sae, error, edit, {})


def _check_mode(sae: SparseDict, error: str) -> None:
    check_choice("error", error, ERRORS)
    if sae.cfg.is_transcoder:
        raise ValueError(f"sae is a transcoder (d_out={sae.cfg.d_out}); an autoencoder is needed")


def _token_index(tokens: Any) -> Any:
    if isinstance(tokens, str):
        return {"all": None, "cls": slice(0, 1), "patches": slice(1, None)}[
            check_choice("tokens", tokens, ("all", "cls", "patches"))
        ]
    return tokens


def _replaced(activation: Tensor, sae: SparseDict, error: str, edit: Edit | None, seen: dict[str, Tensor]) -> Tensor:
    x = sae.prepare(activation, argument="activation")
    stats = sae.stats(x)
    codes = sae.encode(x)
    edited = codes if edit is None else edit(codes)
    if edited.shape != codes.shape:
        raise ValueError(f"edit must return codes of shape {tuple(codes.shape)}; got {tuple(edited.shape)}")
    if not bool(torch.isfinite(edited).all()):
        raise ValueError("edit returned NaN or infinite codes; all must be finite")
    if error == "keep":
        seen["codes"] = codes.detach()
        return activation if edit is None else activation + _moved(sae, codes, edited, stats).to(activation)
    plain = sae.decode(codes, stats=stats)
    seen["codes"], seen["error"] = codes.detach(), (x - plain).detach()
    y = plain if edit is None else sae.decode(edited, stats=stats)
    return (y if error == "drop" else y + seen["error"]).to(activation)


def _moved(sae: SparseDict, codes: Tensor, edited: Tensor, stats: RowStats | None) -> Tensor:
    """`(f' - f) W_dec`, from the latents that changed anywhere."""
    change = (edited - codes).flatten(0, -2)
    columns = (change != 0).any(0).nonzero().squeeze(1)
    move = (change[:, columns] @ sae.W_dec[columns]).reshape(*codes.shape[:-1], -1)
    return move if stats is None else move * stats.scale
