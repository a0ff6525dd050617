"""From what the user passes to the tensor that relevance is computed for, and the model's call around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_finite
from shared.hooks import graph_mode, padded_positions

TOKENS, PIXELS, EMBEDS = "input_ids", "pixel_values", "inputs_embeds"
OUTPUTS = ("logits", "logits_per_image", "image_embeds", "text_embeds", "pooler_output", "last_hidden_state")


class Inputs:
    """One call of the model with a leaf that requires grad: pixels, features or token embeddings.

    After `run()`, `leaf` is the tensor relevance belongs to: a copy of x (or of the embeddings its token ids look up),
    or, where that is set, `given`, with whatever graph it has.

    Parameters
    ----------
    model : any torch module.
    x : as for `attribute`.
    embed : as for `attribute`.
    wrt : as for `attribute`.

    Raises
    ------
    TypeError, ValueError
        x is no tensor or mapping, isn't finite, or isn't for this model.
    """

    def __init__(self, model: nn.Module, x: Any, *, embed: bool = False, wrt: str | None = None) -> None:
        self.model = model
        self.leaf: Tensor | None = None
        self.given: Tensor | None = None
        named = isinstance(x, Mapping)
        self.kwargs: dict[str, Any] = dict(x) if named else {}
        self.key = self._pick(wrt) if named else None
        self.value = self.kwargs[self.key] if named else x
        if not isinstance(self.value, Tensor):
            raise TypeError(f"x must be a tensor or a mapping of tensors; got {type(self.value).__name__}")
        if embed and not named:
            self.key = EMBEDS
        self.tokens = not self.value.is_floating_point()
        self._check()
        accepted = inspect.signature(model.forward).parameters
        self.accepts = set(accepted)
        if "use_cache" in accepted:
            self.kwargs.setdefault("use_cache", False)

    def _pick(self, wrt: str | None) -> str:
        if wrt is not None:
            return check_choice("wrt", wrt, self.kwargs)
        for key in (PIXELS, EMBEDS, TOKENS):
            if self.kwargs.get(key) is not None:
                return key
        raise ValueError(
            f"x has keys {sorted(self.kwargs)}; one of {PIXELS}, {EMBEDS}, {TOKENS} is needed, or say wrt="
        )

    def _check(self) -> None:
        if self.value.is_complex() or self.value.dtype == torch.bool:
            raise ValueError(f"x has dtype {self.value.dtype}; accepted: floating point, or integer token ids")
        check_finite("x", self.value)
        has_embedding = any(isinstance(m, nn.Embedding) for m in self.model.modules())
        if self.tokens and not has_embedding:
            raise ValueError(f"x has dtype {self.value.dtype}, but the model has no token embedding; pass floats")
        if self.tokens or self.key == EMBEDS:
            self._check_length()

    def _check_length(self) -> None:
        """A prompt beyond the model's context fails in an index lookup, or not at all with rotary positions."""
        longest = getattr(getattr(self.model, "config", None), "max_position_embeddings", None)
        if isinstance(longest, int) and self.value.ndim > 1 and self.value.shape[1] > longest:
            raise ValueError(f"x has {self.value.shape[1]} tokens; {type(self.model).__name__} reads at most {longest}")

    @property
    def mask(self) -> Tensor | None:
        """The attention mask `(B, S)` of the explained logits, if one was passed and relevance is for tokens."""
        seq2seq = bool(getattr(getattr(self.model, "config", None), "is_encoder_decoder", False))
        mask = self.kwargs.get("decoder_attention_mask" if seq2seq else "attention_mask")
        return mask if isinstance(mask, Tensor) and mask.ndim == 2 else None

    def run(self, **extra: Any) -> Any:
        """Call the model with the graph on; sets `leaf`.

        Parameters
        ----------
        extra : further arguments of the model's forward.

        Returns
        -------
        Whatever the model gives.
        """
        kwargs = {key: _normal(value) for key, value in {**self.kwargs, **extra}.items()}
        if self.tokens or self.key == EMBEDS:
            kwargs = padded_positions(self.model, kwargs)
        with torch.enable_grad():
            if self.tokens:
                with self._embedding_leaf():
                    return self._call(_normal(self.value), kwargs)
            self.leaf = self._start(self.value)
            return self._call(self.leaf, kwargs)

    def _start(self, value: Tensor) -> Tensor:
        return value.detach().clone().requires_grad_() if self.given is None else self.given

    def _call(self, value: Tensor, kwargs: dict[str, Any]) -> Any:
        if self.key is None:
            return self.model(value, **kwargs)
        return self.model(**{**kwargs, self.key: value})

    @contextmanager
    def _embedding_leaf(self) -> Iterator[None]:
        """Make the output of the embedding that looks up our ids the leaf."""
        self.leaf = None

        def hook(_module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
            ids = args[0]
            if (
                self.leaf is not None
                or ids.numel() != self.value.numel()
                or not torch.equal(ids.flatten(), self._flat())
            ):
                return None
            self.leaf = self._start(output)
            return self.leaf

        handles = [m.register_forward_hook(hook) for m in self.model.modules() if isinstance(m, nn.Embedding)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _flat(self) -> Tensor:
        return self.value.flatten()


def _normal(value: Any) -> Any:
    """A tensor made under `torch.inference_mode` can't enter a graph; a copy of it can."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def output_tensor(outputs: Any, output: str | Callable[[Any], Tensor] | None) -> Tensor:
    """The tensor to explain inside the model's output.

    Parameters
    ----------
    outputs : what the model gave.
    output : None for the logits, a field's name, or a callable that picks the tensor.

    Returns
    -------
    The tensor itself, with its graph.

    Raises
    ------
    ValueError
        There is no such tensor.
    """
    if callable(output):
        return output(outputs)
    if isinstance(outputs, Tensor):
        return outputs
    names = (output,) if output is not None else OUTPUTS
    for name in names:
        value = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(value, Tensor):
            return value
    if output is None and isinstance(outputs, tuple | list) and isinstance(outputs[0], Tensor):
        return outputs[0]
    raise ValueError(f"no tensor {' / '.join(names)} in the model's {type(outputs).__name__}; say output=")


def last_positions(logits: Tensor, mask: Tensor | None, position: int | Tensor | None) -> Tensor:
    """Row-wise index into the sequence axis of the logits.

    Parameters
    ----------
    logits : `(B, S, V)`.
    mask : attention mask `(B, S)`, 1 where a token is.
    position : int or LongTensor `(B,)`; None means each row's last attended token.

    Returns
    -------
    LongTensor `(B,)`.

    Raises
    ------
    ValueError
        A position out of range.
    """
    batch, length = logits.shape[:2]
    if position is not None:
        index = torch.as_tensor(position, device=logits.device)
        if index.is_floating_point() or int(index.min()) < -length or int(index.max()) >= length:
            raise ValueError(f"position={position!r} is out of range for a sequence of {length}")
        return (index % length).expand(batch)
    if mask is None or mask.shape[1] != length:
        return torch.full((batch,), length - 1, device=logits.device)
    steps = torch.arange(length, device=mask.device)
    return (mask.bool() * steps).argmax(-1).to(logits.device)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter requires grad inside: only activations enter the graph, also under a caller's `inference_mode`.

    Parameters
    ----------
    model : any torch module.

    Yields
    ------
    Nothing.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        with graph_mode():
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
