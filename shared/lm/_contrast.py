"""Contrastive decoding against damaged twins of the model itself, inside transformers' `generate`.

A twin is the model within a context, such as `edit_attention`; each twin has a key-value cache of its own, so that a
token costs one cached step for the model and one for each twin. Li et al. 2023 contrast with a smaller model, and limit
the contrast to plausible tokens; Leng et al. 2024 (VCD) and LayerCake (Zhu et al., withdrawn) with damaged inputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_array, check_choice, check_finite, check_range, check_shape
from shared.hooks import refuse_compiled

FORMS = ("vcd", "one-sided")
Twin = Callable[[Tensor], AbstractContextManager[Any]]


def contrast_logits(
    logits: Tensor, twins: Tensor, *, alpha: float = 1.0, form: str = "vcd", plausible: float = 0.1
) -> Tensor:
    """The model's log-probabilities against those of damaged twins, mean over twins.

    Parameters
    ----------
    logits : Tensor, shape (B, V)
        Minus infinity for tokens that another logits processor has excluded.
    twins : Tensor, shape (N, B, V)
    alpha : float
        At least 0.
    form : str
        "vcd": `(1 + alpha) log p - alpha log q`, which is the model at alpha = 0; "one-sided":
        `(1 + alpha) log p - log q`, as reviewers quote LayerCake's equations.
    plausible : float
        Tokens with less than this share of the largest probability are excluded.

    Returns
    -------
    Tensor, shape (B, V)
        Minus infinity for excluded tokens.

    Raises
    ------
    ValueError
        For tensors of other shapes or that aren't finite, or options out of range.
    """
    check_shape("logits", logits, ("B", "V"))
    check_finite("logits", logits.masked_fill(logits == -torch.inf, 0.0))
    check_array("twins", twins, ("N", *logits.shape))
    _check_options(alpha, form, plausible)
    p, q = logits.float().log_softmax(-1), twins.float().log_softmax(-1).mean(0)
    scores = (1 + alpha) * p - (alpha if form == "vcd" else 1.0) * q
    return scores.masked_fill(_implausible(p, plausible), -torch.inf)


def _check_options(alpha: float, form: str, plausible: float) -> None:
    check_range("alpha", alpha, 0.0)
    check_choice("form", form, FORMS)
    check_range("plausible", plausible, 0.0, 1.0)


def _implausible(p: Tensor, plausible: float) -> Tensor:
    """Tokens below a share of the largest probability, or excluded before; p are log-probabilities (B, V)."""
    return (p.exp() < plausible * p.amax(-1, keepdim=True).exp()) | (p == -torch.inf)


class TwinContrast:
    """Logits processor of contrastive decoding; made by `contrast`.

    Parameters
    ----------
    model : a causal language model of transformers
    twins : sequence of callable
    mask : Tensor, shape (B, S), optional
        The prompts' attention mask.
    options : dict
        Of `contrast_logits`.

    Attributes
    ----------
    skipped : int
        Steps at which every row had one plausible token, so that no twin was asked.
    """

    def __init__(self, model: Any, twins: Sequence[Twin], mask: Tensor | None, options: dict[str, Any]) -> None:
        self.model, self.twins, self.mask, self.options = model, list(twins), mask, options
        self.skipped = 0
        newer = "cache" in inspect.signature(model.forward).parameters  # "past_key_values" until transformers 5.23
        self._cache = "cache" if newer else "past_key_values"
        self._forget()

    def _forget(self) -> None:
        self._seen: Tensor | None = None
        self._caches: list[Any] = [None] * len(self.twins)

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The contrasted logits."""
        p = scores.float().log_softmax(-1)
        implausible = _implausible(p, self.options["plausible"])
        if bool((implausible.sum(-1) == p.shape[-1] - 1).all()):
            self.skipped += 1  # the caches catch up when they are asked
            return p.masked_fill(implausible, -torch.inf)
        return contrast_logits(scores, self.read(input_ids).to(scores.device), **self.options)

    def read(self, input_ids: Tensor) -> Tensor:
        """What the twins expect behind a text.

        Parameters
        ----------
        input_ids : Tensor, shape (B, S)
            What was read before needn't be read again: the caches hold it.

        Returns
        -------
        Tensor, shape (N, B, V)
            Logits.
        """
        seen = self._seen
        known = 0 if seen is None else seen.shape[1]
        grown = input_ids.shape[1] > known and input_ids.shape[0] == (0 if seen is None else seen.shape[0])
        if not (grown and torch.equal(input_ids[:, :known], seen)):  # another prompt, or beams changed places
            self._forget()
            known = 0
        mask = self._grown_mask(input_ids)
        inputs = {"input_ids": input_ids[:, known:], "attention_mask": mask, "use_cache": True, "logits_to_keep": 1}
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, known:]
        read = []
        for number, twin in enumerate(self.twins):
            with twin(input_ids):
                out = self.model(**inputs, **{self._cache: self._caches[number]})
            self._caches[number] = out[self._cache]
            read.append(out.logits[:, -1].float())
        self._seen = input_ids
        return torch.stack(read)

    def _grown_mask(self, input_ids: Tensor) -> Tensor:
        """The prompts' mask with ones for the tokens decoded since, and for each of a prompt's beams."""
        rows, length = input_ids.shape
        longest = getattr(self.model.config, "max_position_embeddings", None)
        if longest is not None and length > longest:
            raise ValueError(f"the text has {length} tokens; the model's context holds {longest}")
        mask = torch.ones_like(input_ids)
        if self.mask is not None:
            if rows % len(self.mask) or self.mask.shape[1] > length:
                raise ValueError(
                    f"attention_mask has shape {tuple(self.mask.shape)}; the prompts are {tuple(input_ids.shape)}"
                )
            given = self.mask.to(mask).repeat_interleave(rows // len(self.mask), 0)
            mask[:, : given.shape[1]] = given
        return mask


@contextmanager
def contrast(
    model: nn.Module,
    twins: Sequence[Twin],
    *,
    attention_mask: Tensor | None = None,
    alpha: float = 1.0,
    form: str = "vcd",
    plausible: float = 0.1,
) -> Iterator[TwinContrast]:
    """Within the context, `model.generate(…, logits_processor=[contrast])` decodes against damaged twins.

    Where every row has one plausible token the twins aren't asked, and the scores are the model's own. Beams work but
    start the twins' caches anew whenever they change places.

    Parameters
    ----------
    model : a causal language model of transformers
    twins : sequence of callable
        Each makes, of all token ids so far (B, S), the context in which the model is damaged:
        `lambda ids: edit_attention(model, layers, marked[ids])`.
    attention_mask : Tensor, shape (B, S), optional
        That of the prompts, padded on the left; without it they have no padding.
    alpha, form, plausible
        As for `contrast_logits`.

    Yields
    ------
    TwinContrast

    Raises
    ------
    ValueError
        For no twins, prompts padded on the right or longer than the model's context, or options out of range.
    """
    refuse_compiled(model)
    _check_options(alpha, form, plausible)
    if not twins:
        raise ValueError("twins is empty; accepted: at least one function of token ids that gives a context")
    if attention_mask is not None and not bool((attention_mask[:, -1] == 1).all()):
        raise ValueError("attention_mask ends in zeros: the prompts are padded on the right; pad them on the left")
    yield TwinContrast(model, twins, attention_mask, {"alpha": alpha, "form": form, "plausible": plausible})
