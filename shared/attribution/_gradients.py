"""captum's gradient methods in one call form, `f(model, x, target)`; arguments as for `lrp.attribute`.

captum does the work; here stands what it is handed: the explained amount as a function of the input's values.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_finite, check_range
from shared.hooks import refuse_compiled
from shared.lrp.engine import Inputs, Part, check_ready, explained_logits, frozen, parts_of, rows_of_input, weights_of


class Explained(nn.Module):
    """`(values (N, ...), rows (N,)) -> (N,)`: the explained amount, with everything else as in these rows of x."""

    def __init__(self, model: nn.Module, part: Part, output: Any, wrt: str | None) -> None:
        super().__init__()
        self.model, self.part, self.output, self.wrt = model, part, output, wrt
        self.inputs = Inputs(model, part.x, wrt=wrt)
        self.target = part.target
        seen = callable(part.target) or part.target is None
        if seen or self.inputs.tokens:
            logits = explained_logits(self.inputs, output, part.position).detach()
            self.target = weights_of(part.target, logits) if seen else part.target
        value = self.inputs.leaf if self.inputs.tokens else self.inputs.value
        self.values = value.detach().clone().requires_grad_()
        self.rows = torch.arange(len(value), device=value.device)

    def forward(self, values: Tensor, rows: Tensor) -> Tensor:
        inputs = Inputs(self.model, rows_of_input(self.model, self.part.x, self.inputs, rows), wrt=self.wrt)
        inputs.given = values if values.requires_grad else values.detach().requires_grad_()
        position = self.part.position
        logits = explained_logits(inputs, self.output, _of_rows(position, rows))
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        return (weights_of(_of_rows(self.target, rows), logits) * logits).sum(-1)


def _of_rows(value: Any, rows: Tensor) -> Any:
    return value[rows.to(value.device)] if isinstance(value, Tensor) and value.ndim else value


def maps(
    method: Callable[[Explained], Tensor],
    model: nn.Module,
    x: Any,
    target: Any,
    output: Any,
    position: int | Tensor | None,
    wrt: str | None,
    batch_size: int | None,
) -> Tensor:
    """The method's maps for each batch of rows and, with a list of targets, for each of them on a leading axis."""
    if isinstance(target, list | tuple):
        options = (output, position, wrt, batch_size)
        return torch.stack([maps(method, model, x, one, *options) for one in target])
    check_ready(model)

    def logits(part: Part) -> Tensor:
        return explained_logits(Inputs(model, part.x, wrt=wrt), output, part.position).detach()

    with frozen(model):
        options = {"batch_size": batch_size, "position": position, "wrt": wrt, "logits": logits}
        parts = [method(Explained(model, p, output, wrt)) for p in parts_of(model, x, target, **options)]
    return torch.cat(parts).detach()


def gradient(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    output: str | Callable[[Any], Tensor] | None = None,
    position: int | Tensor | None = None,
    wrt: str | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Gradient of the explained logit (Simonyan et al. 2014), signed.

    Parameters
    ----------
    model : any torch module in eval mode; it comes back as it was.
    x : as for `lrp.attribute`: floats, token ids (explained at their embeddings), or a mapping.
    target : as for `lrp.attribute`; a list gives a leading axis.
    output : as for `lrp.attribute`.
    position : as for `lrp.attribute`.
    wrt : as for `lrp.attribute`.
    batch_size : rows in one pass; the numbers are the same for any.

    Returns
    -------
    In the shape of x; of token ids `(B, S, D)`.
    """
    from captum.attr import Saliency

    def method(f: Explained) -> Tensor:
        return Saliency(f).attribute(f.values, additional_forward_args=f.rows, abs=False)

    return maps(method, model, x, target, output, position, wrt, batch_size)


def input_x_gradient(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    output: str | Callable[[Any], Tensor] | None = None,
    position: int | Tensor | None = None,
    wrt: str | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Gradient of the explained logit times the input (Shrikumar et al. 2017).

    Parameters
    ----------
    model : as for `gradient`.
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
    from captum.attr import InputXGradient

    def method(f: Explained) -> Tensor:
        return InputXGradient(f).attribute(f.values, additional_forward_args=f.rows)

    return maps(method, model, x, target, output, position, wrt, batch_size)


def integrated_gradients(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    steps: int = 50,
    baseline: float | Tensor = 0.0,
    rule: str = "gausslegendre",
    output: str | Callable[[Any], Tensor] | None = None,
    position: int | Tensor | None = None,
    wrt: str | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017) along the line from a baseline to x.

    Parameters
    ----------
    model : as for `gradient`.
    x : as for `gradient`.
    target : as for `gradient`.
    steps : points on the line, >= 1; each costs one forward and one backward pass.
    baseline : where the line starts; a number, or a tensor that broadcasts to x (of token ids, to the embeddings).
    rule : captum's quadrature: "gausslegendre", "riemann_middle", "riemann_trapezoid", …
    output : as for `gradient`.
    position : as for `gradient`.
    wrt : as for `gradient`.
    batch_size : as for `gradient`.

    Returns
    -------
    As of `gradient`; sums to the difference of the explained logit at x and at the baseline, up to the quadrature.

    Raises
    ------
    ValueError
        `steps` below 1, a baseline that doesn't broadcast.
    """
    from captum.attr import IntegratedGradients

    check_range("steps", steps, 1)
    if isinstance(baseline, Tensor):
        check_finite("baseline", baseline)

    def method(f: Explained) -> Tensor:
        start = baseline if isinstance(baseline, float | int) else _start(baseline, f)
        return IntegratedGradients(f).attribute(
            f.values,
            start,
            additional_forward_args=f.rows,
            n_steps=steps,
            method=rule,
            internal_batch_size=len(f.rows),
        )

    return maps(method, model, x, target, output, position, wrt, batch_size)


def _start(baseline: Tensor, f: Explained) -> Tensor:
    """The baseline in the shape of the part's values."""
    try:
        whole = baseline.to(f.values).expand(f.part.total or len(f.values), *f.values.shape[1:])
    except RuntimeError:
        shape = tuple(f.values.shape)
        raise ValueError(f"baseline of shape {tuple(baseline.shape)} doesn't broadcast to x {shape}") from None
    return whole[f.part.rows].contiguous()


def guided_backprop(
    model: nn.Module,
    x: Any,
    target: Any = None,
    *,
    output: str | Callable[[Any], Tensor] | None = None,
    position: int | Tensor | None = None,
    wrt: str | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Guided backpropagation (Springenberg et al. 2015): negative gradients are cut at every ReLU.

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
    from captum.attr import GuidedBackprop

    refuse_compiled(model)

    def method(f: Explained) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting .* hooks")  # they are what was asked for
            return GuidedBackprop(f).attribute(f.values, additional_forward_args=f.rows)

    return maps(method, model, x, target, output, position, wrt, batch_size)
