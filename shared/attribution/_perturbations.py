"""Explanations from changed inputs or a changed backward pass: SmoothGrad, occlusion, deconvolution."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_range
from shared.attribution._gradients import Explained, maps
from shared.hooks import refuse_compiled


def smooth_grad(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    noise: float = 0.15,
    samples: int = 25,
    generator: torch.Generator | None = None,
    output: str | Callable[[Any], Tensor] | None = None,
    position: int | Tensor | None = None,
    wrt: str | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """SmoothGrad (Smilkov et al. 2017): the gradient averaged over noisy copies of the input.

    Parameters
    ----------
    model : as for `gradient`.
    x : as for `gradient`.
    target : as for `gradient`.
    noise : standard deviation of the noise as a share of the row's own range, largest minus smallest value; >= 0.
    samples : noisy copies, >= 1; each costs one forward and one backward pass.
    generator : chance; every row has noise of its own, whatever the batch size.
    output : as for `gradient`.
    position : as for `gradient`.
    wrt : as for `gradient`.
    batch_size : as for `gradient`.

    Returns
    -------
    As of `gradient`.

    Raises
    ------
    ValueError
        `noise` below 0, `samples` below 1.
    """
    check_range("noise", noise, 0.0)
    check_range("samples", samples, 1)
    start = int(torch.randint(2**62, (), generator=generator))

    def method(f: Explained) -> Tensor:
        first = f.part.rows.start or 0
        clean = f.values.detach()
        clean = clean.float() if clean.dtype in (torch.float16, torch.bfloat16) else clean  # noise and sum in full
        flat = clean.flatten(1)
        spread = (flat.amax(1) - flat.amin(1)).view(-1, *([1] * (clean.ndim - 1))) * noise
        total = torch.zeros_like(clean)
        for sample in range(samples):
            seeds = (start + (first + row) * samples + sample for row in range(len(f.values)))
            shift = torch.stack([_normal(f.values.shape[1:], seed) for seed in seeds]).to(clean)
            values = (clean + spread * shift).to(f.values.dtype).requires_grad_()
            total += torch.autograd.grad(f(values, f.rows).sum(), values)[0]
        return (total / samples).to(f.values.dtype)

    return maps(method, model, x, target, output, position, wrt, batch_size)


def _normal(shape: torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def occlusion(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    window: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    baseline: float = 0.0,
    output: str | Callable[[Any], Tensor] | None = None,
    position: int | Tensor | None = None,
    wrt: str | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Occlusion (Zeiler & Fergus 2014): how much the logit falls when a window of the input is covered.

    Parameters
    ----------
    model : as for `gradient`.
    x : as for `gradient`.
    target : as for `gradient`.
    window : size of the window along each axis of a row: `(C, h, w)` of an image, `(1, D)` of a token's embedding.
    stride : its steps along each axis; by default windows lie side by side.
    baseline : value of what is covered.
    output : as for `gradient`.
    position : as for `gradient`.
    wrt : as for `gradient`.
    batch_size : as for `gradient`.

    Returns
    -------
    As of `gradient`: the mean fall of the logit over the windows that cover an entry.

    Raises
    ------
    ValueError
        A window or stride that doesn't fit a row.
    """
    from captum.attr import Occlusion

    def method(f: Explained) -> Tensor:
        shape = tuple(f.values.shape[1:])
        sizes = _per_axis("window", window, shape)
        steps = sizes if stride is None else _per_axis("stride", stride, shape)
        with torch.no_grad():
            falls = Occlusion(f).attribute(
                f.values.detach(), sizes, strides=steps, baselines=baseline, additional_forward_args=f.rows
            )
        return falls.to(f.values)  # captum counts in float32

    return maps(method, model, x, target, output, position, wrt, batch_size)


def _per_axis(argument: str, sizes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    fits = len(sizes) == len(shape) and all(1 <= size <= most for size, most in zip(sizes, shape))
    if not fits:
        raise ValueError(f"{argument}={sizes!r} must have one entry for each axis of a row of x {shape}, 1 to its size")
    return tuple(int(size) for size in sizes)


def deconvnet(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    output: str | Callable[[Any], Tensor] | None = None,
    position: int | Tensor | None = None,
    wrt: str | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Deconvolution (Zeiler & Fergus 2014): at every ReLU the gradient's positive part passes, wherever the unit is.

    Parameters
    ----------
    model : as for `gradient`; its ReLUs must be modules, each used once.
    x : as for `gradient`.
    target : as for `gradient`.
    output : as for `gradient`.
    position : as for `gradient`.
    wrt : as for `gradient`.
    batch_size : as for `gradient`.

    Returns
    -------
    As of `gradient`.
    """
    from captum.attr import Deconvolution

    refuse_compiled(model)

    def method(f: Explained) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting .* hooks")  # they are what was asked for
            return Deconvolution(f).attribute(f.values, additional_forward_args=f.rows)

    return maps(method, model, x, target, output, position, wrt, batch_size)
