"""Attribution-guided decoding (AGD; Komorowski et al., arXiv 2509.26307): a likely token that relies most on a region.

The relevance of a region R for the logit of a token c, `S(c) = sum over R of x dz_c/dx` under LRP's rules, is the
derivative of z_c along one direction: the region's own values. So it needs no backward pass for each candidate. One
forward pass that carries tangents (forward-mode differentiation) gives S for the whole vocabulary, and since tangents
of keys and values are kept beside them in the cache, each further token costs one step of cached decoding twice over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from shared._checks import check_array, check_choice, check_finite, check_range, check_shape
from shared.hooks import padded_positions, refuse_compiled, wrap_attention
from shared.lm._region import Roi
from shared.lrp import CPLRP, AttnLRP, attribute
from shared.lrp.engine import check_ready

_AGREED: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()  # models checked once, with which rules
METHODS = {"attnlrp": AttnLRP, "cp": CPLRP, "gradient": None}  # gradient x input: the model as it is


@dataclass(frozen=True)
class GuidedStep:
    """One decoded position of every row.

    Attributes
    ----------
    token : Tensor of int64, shape (B,)
        What is emitted.
    candidates : Tensor of int64, shape (B, k)
        The likeliest tokens, likeliest first.
    allowed : Tensor of bool, shape (B, k)
        Those that count as candidates; the likeliest always does.
    probability, relevance : Tensor, shape (B, k)
        Of these tokens: the model's probability, the region's relevance for their logits.
    entropy : Tensor, shape (B,)
        Of the next token's distribution, in nats.
    guided : Tensor of bool, shape (B,)
        Whether there was a choice and the model unsure enough for it.
    """

    token: Tensor
    candidates: Tensor
    allowed: Tensor
    probability: Tensor
    relevance: Tensor
    entropy: Tensor
    guided: Tensor


def guided_choice(
    logits: Tensor,
    relevance: Tensor,
    *,
    k: int = 5,
    pi_min: float = 0.05,
    tau: float = 0.0,
    normalize: str | None = None,
    eos: int | None = None,
) -> GuidedStep:
    """The token to emit: among the likely ones that with the largest relevance.

    Candidates are the k likeliest tokens with a probability of at least `pi_min`, and always the likeliest; ties go to
    the likelier one. Where the entropy is at most `tau` the likeliest is emitted (adaptive AGD).

    Parameters
    ----------
    logits : Tensor, shape (B, V)
        Minus infinity for tokens that another logits processor has excluded.
    relevance : Tensor, shape (B, V)
        Scores of all tokens, such as `roi_relevance` gives.
    k : int
    pi_min : float
        From 0 to 1.
    tau : float
        In nats, >= 0; infinity is greedy decoding.
    normalize : str, optional
        "logit" divides each score by the size of the token's logit.
    eos : int, optional
        A token that is emitted only where it is the likeliest, so that guidance never ends a text.

    Returns
    -------
    GuidedStep

    Raises
    ------
    ValueError
        For tensors of other shapes or that aren't finite, or options out of range.
    """
    check_shape("logits", logits, ("B", "V"))
    check_finite("logits", logits.masked_fill(logits == -torch.inf, 0.0))
    check_array("relevance", relevance, tuple(logits.shape))
    _check_options(k, pi_min, tau, normalize)
    probabilities = logits.float().softmax(-1)
    top, candidates = probabilities.topk(min(k, logits.shape[-1]), -1)
    allowed = (top >= pi_min) & (top > 0)
    if eos is not None:
        allowed = allowed & (candidates != eos)
    allowed[:, 0] = True
    scores = relevance.gather(-1, candidates).float()
    ranked = scores / logits.gather(-1, candidates).float().abs().clamp(min=1e-9) if normalize else scores
    ranked = ranked.masked_fill(~allowed, -torch.inf)
    rank = torch.arange(ranked.shape[-1], device=ranked.device)
    best = rank.where(ranked == ranked.amax(-1, keepdim=True), len(rank)).amin(-1)
    entropy = torch.special.entr(probabilities).sum(-1)
    guided = (entropy > tau) & (allowed.sum(-1) > 1)
    token = candidates.gather(-1, (best * guided)[:, None])[:, 0]
    return GuidedStep(token, candidates, allowed, top, scores, entropy, guided)


def _check_options(k: int, pi_min: float, tau: float, normalize: str | None) -> None:
    check_range("k", k, 1)
    check_range("pi_min", pi_min, 0.0, 1.0)
    check_range("tau", tau, 0.0)
    check_choice("normalize", normalize, (None, "logit"))


@dataclass
class Guidance:
    """A logits processor of transformers' `generate` that leaves only the guided token; made by `guide`.

    Parameters
    ----------
    options : dict
        Arguments of `guided_choice`.
    steps : list of GuidedStep
        One for each token decoded so far.
    """

    options: dict[str, Any]
    steps: list[GuidedStep] = field(default_factory=list)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores with all but the chosen token at minus infinity."""
        logits, relevance = forward_ad.unpack_dual(scores)
        if relevance is None:
            raise RuntimeError("the logits carry no relevance: call the model inside `with guide(...)`")
        step = guided_choice(logits, relevance, **self.options)
        self.steps.append(step)
        return torch.full_like(logits, -torch.inf).scatter(-1, step.token[:, None], 0.0)


@contextmanager
def guide(
    model: nn.Module,
    roi: Roi,
    *,
    method: str = "attnlrp",
    k: int = 5,
    pi_min: float = 0.05,
    tau: float = 0.0,
    normalize: str | None = None,
    eos: int | None = None,
) -> Iterator[Guidance]:
    """Within the context, `model.generate(**inputs, logits_processor=[guidance])` decodes guided by a region.

    Parameters
    ----------
    model : a causal language model of transformers in eval mode
        Of a family that `attribute` knows; with SDPA or eager attention.
    roi : Roi
        Its tokens are those of the prompts that are passed to `generate`, padding included.
    method : str
        What gives the relevance: "attnlrp", "cp" or "gradient" (gradient x input).
    k, pi_min, tau, normalize, eos
        As for `guided_choice`.

    Yields
    ------
    Guidance

    Raises
    ------
    ValueError
        For a region that isn't the model's or the batch's, or options out of range.
    RuntimeError
        For a model in which relevance forward and backward don't agree.
    """
    _check_options(k, pi_min, tau, normalize)
    with _tangents(model, roi, method):
        yield Guidance({"k": k, "pi_min": pi_min, "tau": tau, "normalize": normalize, "eos": eos})


@torch.no_grad()
def roi_relevance(
    model: nn.Module,
    x: Mapping[str, Tensor],
    roi: Roi,
    *,
    method: str = "attnlrp",
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The next token's logits and the region's relevance for each of them, from one forward pass.

    Parameters
    ----------
    model : as for `guide`
    x : mapping of Tensor
        "input_ids" and "attention_mask", both (B, S), padded on the left.
    roi : Roi
    method : str
        As for `guide`.
    batch_size : int, optional
        Prompts in one pass; all without.

    Returns
    -------
    logits, relevance : Tensor, shape (B, V)
        float32.

    Raises
    ------
    ValueError
        As `guide`, and for a mask of another shape than the prompts'.
    """
    total = len(x["input_ids"])
    if roi.mask is not None:
        check_shape("roi", roi.mask, tuple(x["input_ids"].shape))
    size = total if batch_size is None else batch_size
    check_range("batch_size", size, 1)
    parts = []
    for low in range(0, total, size):
        rows = slice(low, low + size)
        part = roi if roi.mask is None else Roi.tokens(roi.mask[rows])
        with _tangents(model, part, method):
            inputs = padded_positions(model, {name: value[rows] for name, value in x.items()})
            scores = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1].float()
            logits, relevance = forward_ad.unpack_dual(scores)
            parts.append((logits.clone(), torch.zeros_like(logits) if relevance is None else relevance.clone()))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


@contextmanager
def _tangents(model: nn.Module, roi: Roi, method: str, *, check: bool = True) -> Iterator[None]:
    """Inside, the model's activations carry what the region's own values contribute to them."""
    check_choice("method", method, METHODS)
    check_ready(model)
    refuse_compiled(model)
    weights = roi.head_weights(model)
    rules = METHODS[method]
    if check and rules is not None and method not in _AGREED.setdefault(model, set()):
        _check_agreement(model, method)
        _AGREED[model].add(method)
    with ExitStack() as stack:
        if rules is not None:
            stack.enter_context(rules().context(model))
        stack.enter_context(sdpa_kernel([SDPBackend.MATH]))  # the fused kernels have no forward mode
        stack.enter_context(forward_ad.dual_level())
        _join_products(stack, model)
        if roi.mask is None:
            stack.enter_context(wrap_attention(model, _marking_heads(weights)))
        else:
            _mark_tokens(stack, model, roi.mask)
        yield


def _join_products(stack: ExitStack, model: nn.Module) -> None:
    """Dense layers multiply values and tangents in one product, so that their weights are read once."""

    def joined(module: nn.Linear) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            primal, tangent = forward_ad.unpack_dual(x)
            if tangent is None:
                return F.linear(x, module.weight, module.bias)
            value, moved = F.linear(torch.cat([primal, tangent]), module.weight).chunk(2)
            return forward_ad.make_dual(value if module.bias is None else value + module.bias, moved)

        return forward

    for module in model.modules():
        if type(module) is nn.Linear and "forward" not in vars(module):
            module.forward = joined(module)
            stack.callback(vars(module).pop, "forward")


def _mark_tokens(stack: ExitStack, model: Any, mask: Tensor) -> None:
    """Start tangents at the embeddings of the region's tokens, wherever the cache says the ids stand."""
    place = 0

    def before(_module: nn.Module, _args: Any, kwargs: Mapping[str, Any]) -> None:
        nonlocal place
        cache = kwargs.get("cache") or kwargs.get("past_key_values")  # the name until transformers 5.23
        place = 0 if cache is None else int(cache.get_seq_length())

    def mark(_module: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        rows, length = output.shape[:2]
        if rows % len(mask):
            raise ValueError(f"roi has {len(mask)} rows; the model was given {rows}")
        part = torch.zeros(len(mask), length, dtype=torch.bool)
        here = mask[:, place : place + length]
        part[:, : here.shape[1]] = here
        if not bool(part.any()):
            return None
        part = part.to(output.device).repeat_interleave(rows // len(mask), 0)
        return forward_ad.make_dual(output, output.detach() * part[..., None])

    stack.callback(model.register_forward_pre_hook(before, with_kwargs=True).remove)
    stack.callback(model.get_input_embeddings().register_forward_hook(mark).remove)


def _marking_heads(weights: Mapping[Any, Tensor]) -> Callable[..., Any]:
    """Wrapper for `wrap_attention`: add the region's heads' own outputs to what flows on from them."""

    def wrapper(call: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        output, pattern = call(module, *args, **kwargs)
        if module not in weights:
            return output, pattern
        primal, tangent = forward_ad.unpack_dual(output)  # (B, S, H, d)
        own = primal * weights[module].to(primal)[:, None]
        return forward_ad.make_dual(primal.clone(), own if tangent is None else tangent + own), pattern

    return wrapper


def _check_agreement(model: Any, method: str) -> None:
    """Relevance carried forward must be what `attribute` carries backward, and no operation may lack a rule."""
    ids = torch.arange(3, device=model.get_input_embeddings().weight.device)[None]
    backward = attribute(model, ids, target=0, composite=METHODS[method]())
    with torch.no_grad(), _tangents(model, Roi.tokens(torch.ones_like(ids, dtype=torch.bool)), method, check=False):
        _, carried = forward_ad.unpack_dual(model(ids, use_cache=False).logits[0, -1, 0])
        forward = float("nan") if carried is None else float(carried)
    expected, size = float(backward.relevance.sum()), float(backward.relevance.abs().sum())
    if not abs(forward - expected) <= (0.05 if backward.output.dtype.itemsize < 4 else 1e-3) * size:
        raise RuntimeError(
            f"relevance carried forward through {type(model).__name__} is {forward:.4g}, backward {expected:.4g}: "
            "it has an operation whose forward mode isn't its rule's; accepted: the Llama family, GPT-2 and the like"
        )
