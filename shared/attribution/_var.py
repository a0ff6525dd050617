"""VAR: compare the attributions of several classes at every location, and keep what the target owns.

Walter, Vreeken and Fischer 2025, "Now you see me! Attribution Distributions Reveal What is Truly Important for a
Prediction" (arXiv 2503.07346). Class maps are stacked on a leading axis, `(K, B, ...)`, as `attribute` returns them for
a list of targets; any base method will do that gives all classes on one scale.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite, check_range, check_shape
from shared.hooks import refuse_training
from shared.lrp.engine import frozen, output_tensor

SCALES = ("none", "max", "p99")


def class_softmax(
    maps: Tensor, *, temperature: float = 10.0, use_abs: bool = True, scale: str = "none", channels: str = "each"
) -> Tensor:
    """Distribution over the K classes at every location: softmax of `temperature` times the maps' magnitudes.

    Parameters
    ----------
    maps : signed attributions `(K, B, C, H, W)` (or `(K, B, ...)`), K >= 2.
    temperature : factor on the magnitudes, >= 0; the authors' code has 10.
    use_abs : compare magnitudes (the authors' default) or signed values.
    scale : "none" takes maps as they are (authors); "max" or "p99" first divide each row by its largest magnitude or
        its 99th percentile, over all classes, so that the result doesn't depend on the unit of the attributions.
    channels : "each" compares channel by channel (authors); "sum" compares the maps summed over the channel axis.

    Returns
    -------
    Probabilities in the shape of `maps`, summing to 1 over the first axis.

    Raises
    ------
    ValueError
        Fewer than two maps, an option or target out of range, values that aren't finite.
    """
    check_choice("scale", scale, SCALES)
    check_choice("channels", channels, ("each", "sum"))
    check_range("temperature", temperature, 0)
    _check_maps(maps)
    compared = maps.detach()
    if channels == "sum":
        if maps.ndim < 4:
            raise ValueError(f"maps has shape {tuple(maps.shape)}; channels='sum' needs (K, B, C, ...)")
        compared = compared.sum(2, keepdim=True)
    compared = compared.abs() if use_abs else compared
    if scale != "none":
        compared = compared / _unit(compared, scale)
    return torch.softmax(temperature * compared, dim=0).expand_as(maps)


def var_map(
    maps: Tensor,
    target: int | Tensor,
    *,
    tau: float = 0.01,
    temperature: float = 10.0,
    use_abs: bool = True,
    scale: str = "none",
    channels: str = "each",
) -> Tensor:
    """The target's attribution where the target owns the location: `A_t p_t [p_t - 1/K > tau]`, `(B, ...)`.

    Parameters
    ----------
    maps : signed attributions `(K, B, ...)` of K >= 2 classes.
    target : which of the K maps is the target's: an int or a LongTensor `(B,)`. An index into `maps`, not a class.
    tau : how far above 1/K the target's share must be (authors: 0.01 with chosen classes).
    temperature : as in `class_softmax`.
    use_abs : as in `class_softmax`.
    scale : as in `class_softmax`.
    channels : as in `class_softmax`.

    Returns
    -------
    `(B, ...)`, 0 where another class owns the location.

    Raises
    ------
    ValueError
        Fewer than two maps, an option or target out of range, values that aren't finite.
    """
    shares = class_softmax(maps, temperature=temperature, use_abs=use_abs, scale=scale, channels=channels)
    index = _check_target("target", target, maps)
    own, share = _pick(maps.detach(), index), _pick(shares, index)
    return own * share * (share - 1 / len(maps) > tau)


def shared_map(
    maps: Tensor, first: int, second: int, *, tau: float = 0.1, temperature: float = 10.0, scale: str = "none"
) -> Tensor:
    """What two classes have in common: the smaller of their magnitudes where neither owns the location.

    The softmax is over the two alone. The paper speaks of shared features; this formula is ours.

    Parameters
    ----------
    maps : signed attributions `(K, B, ...)` of K >= 2 classes.
    first : index of the one class's map.
    second : index of the other's.
    tau : a location is shared where the first one's share is this near to 1/2.
    temperature : as in `class_softmax`.
    scale : as in `class_softmax`.

    Returns
    -------
    `(B, ...)`, never negative.

    Raises
    ------
    ValueError
        Fewer than two maps, an option or target out of range, values that aren't finite.
    """
    _check_maps(maps)
    pair = torch.stack([_pick(maps.detach(), _check_target(n, i, maps)) for n, i in _named(first, second)])
    if first == second:
        raise ValueError(f"first and second are both {first}; two different maps are needed")
    share = class_softmax(pair, temperature=temperature, scale=scale)[0]
    return pair.abs().amin(0) * ((share - 0.5).abs() <= tau)


def choose_classes(logits: Tensor, target: int | Tensor | None = None, *, k: int = 2) -> Tensor:
    """Classes to compare: each row's k most probable and, last, its least probable one.

    Parameters
    ----------
    logits : `(B, C)`.
    target : int or LongTensor `(B,)`; one that isn't among them takes the place of the k-th.
    k : from 1 to C - 1.

    Returns
    -------
    LongTensor `(B, k + 1)`; no class comes twice.

    Raises
    ------
    ValueError
        Fewer than two classes, k or a target out of range.
    """
    check_shape("logits", logits, ("B", "C"))
    check_finite("logits", logits)
    n = logits.shape[1]
    if n < 2:
        raise ValueError(f"logits has {n} class; VAR compares at least 2")
    check_range("k", k, 1, n - 1)
    order = logits.detach().argsort(dim=1, descending=True, stable=True)
    chosen = torch.cat([order[:, :k], order[:, -1:]], dim=1)
    if target is None:
        return chosen
    index = _check_class(target, len(logits), n).to(chosen.device)
    missing = (chosen != index[:, None]).all(1)
    chosen[:, k - 1] = torch.where(missing, index, chosen[:, k - 1])
    return chosen


def class_gradients(
    model: nn.Module,
    x: Tensor,
    classes: Tensor,
    *,
    steps: int | None = None,
    baseline: float | Tensor = 0.0,
    output: str | Callable[[object], Tensor] | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Gradient of several classes' logits over one forward pass.

    The backward passes run in one batch, on a CPU only where no convolution is grouped (vmap is slow at those).

    Parameters
    ----------
    model : any module in eval mode; parameters get no gradient.
    x : float `(B, ...)`.
    classes : LongTensor `(B, K)`, K >= 2 different classes per row.
    steps : with a number, the mean gradient at that many midpoints of the line from `baseline` to x (one forward each).
        Times `x - baseline` these are integrated gradients (captum's "riemann_middle").
    baseline : where the line starts, a number or a tensor that broadcasts to x.
    output : which field of the model's output holds the logits, as in `attribute`.
    batch_size : rows in one pass, all by default; the numbers are the same for any.

    Returns
    -------
    `(K, B, ...)`.

    Raises
    ------
    ValueError
        Fewer than two classes, a class out of range or twice in a row.
    """
    if not x.is_floating_point():
        raise ValueError(f"x has dtype {x.dtype}; accepted: floating point")
    check_finite("x", x)
    refuse_training(model)
    if steps is not None:
        check_range("steps", steps, 1)
    if batch_size is not None:
        check_range("batch_size", batch_size, 1)
        check_shape("classes", classes, (len(x), "K"))
        whole = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand(x.shape)
        parts = zip(*(t.split(batch_size) for t in (x, classes, whole)))
        options = {"steps": steps, "output": output}
        return torch.cat([class_gradients(model, a, b, baseline=c, **options) for a, b, c in parts], 1)
    positions = [1.0] if steps is None else [(i + 0.5) / steps for i in range(steps)]
    total: Tensor | None = None
    in_one = x.device.type != "cpu" or not any(getattr(m, "groups", 1) > 1 for m in model.modules())
    with frozen(model), torch.enable_grad():
        for position in positions:
            leaf = (baseline + position * (x.detach() - baseline)).requires_grad_()
            gradient = _gradients(output_tensor(model(leaf), output), leaf, classes, in_one)
            total = gradient if total is None else total + gradient
    return total / len(positions)


def _gradients(logits: Tensor, leaf: Tensor, classes: Tensor, in_one: bool) -> Tensor:
    """Of each class, `(K, B, ...)`: passes in one batch, or one by one (vmap unrolls grouped convolutions)."""
    check_shape("logits", logits, (len(leaf), "C"))
    seeds = _seeds(classes, logits)
    if in_one:
        return torch.autograd.grad(logits, leaf, seeds, is_grads_batched=True)[0]
    return torch.stack([torch.autograd.grad(logits, leaf, seed, retain_graph=True)[0] for seed in seeds])


def _seeds(classes: Tensor, logits: Tensor) -> Tensor:
    """One-hot weights of the logits, `(K, B, C)`."""
    batch, n = logits.shape
    check_shape("classes", classes, (batch, "K"))
    if classes.is_floating_point() or classes.dtype == torch.bool:
        raise ValueError(f"classes has dtype {classes.dtype}; accepted: integers")
    if classes.shape[1] < 2:
        raise ValueError(f"classes has {classes.shape[1]} class per row; VAR compares at least 2")
    if int(classes.min()) < 0 or int(classes.max()) >= n:
        raise ValueError(
            f"classes holds {int(classes.min())} to {int(classes.max())}; the model has classes 0 to {n - 1}"
        )
    if bool((classes.sort(1).values.diff(dim=1) == 0).any()):
        raise ValueError("classes holds a class twice in a row; all of a row's must differ")
    return torch.nn.functional.one_hot(classes.to(logits.device).T, n).to(logits.dtype)


def _check_maps(maps: Tensor) -> None:
    if maps.ndim < 3:
        raise ValueError(f"maps has shape {tuple(maps.shape)}; expected (K, B, ...), one map per class")
    if len(maps) < 2:
        raise ValueError(f"maps holds {len(maps)} class; VAR compares at least 2")
    check_finite("maps", maps)


def _unit(compared: Tensor, scale: str) -> Tensor:
    """What each row's maps are divided by, `(1, B, 1, ...)`; 1 where all are zero."""
    rows = compared.abs().transpose(0, 1).flatten(1)
    unit = rows.amax(1) if scale == "max" else rows.sort(1).values[:, round(0.99 * (rows.shape[1] - 1))]
    return torch.where(unit > 0, unit, 1.0).view(1, -1, *[1] * (compared.ndim - 2))


def _named(first: int, second: int) -> tuple[tuple[str, int], ...]:
    return ("first", first), ("second", second)


def _check_target(name: str, target: int | Tensor, maps: Tensor) -> Tensor:
    try:
        return _check_class(target, maps.shape[1], len(maps), name).to(maps.device)
    except ValueError as error:
        raise ValueError(f"{error}; it is the place of the target's map among the {len(maps)} maps") from None


def _check_class(target: int | Tensor, batch: int, n: int, name: str = "target") -> Tensor:
    index = torch.as_tensor(target)
    if index.is_floating_point() or index.dtype == torch.bool or index.ndim > 1:
        raise ValueError(f"{name} must be an int or a LongTensor (B,); got {index.dtype} of shape {tuple(index.shape)}")
    if index.ndim == 1 and len(index) != batch:
        raise ValueError(f"{name} has {len(index)} entries for a batch of {batch}")
    if int(index.min()) < 0 or int(index.max()) >= n:
        raise ValueError(f"{name}={target!r} is out of range; accepted: 0 to {n - 1}")
    return index.expand(batch)


def _pick(maps: Tensor, index: Tensor) -> Tensor:
    """Row b of map `index[b]`, `(B, ...)`."""
    return maps[index, torch.arange(maps.shape[1], device=maps.device)]
