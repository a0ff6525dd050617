"""One transformer as a residual stream: what its parts read from the stream and write into it, run one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared._checks import UnknownNameError, check_finite
from shared.hooks import attention_modules, capture, find_module, refuse_compiled, refuse_training, transformer_parts

FAMILIES = {"vit": 0, "clip_vision_model": 0, "llama": -1}  # model_type -> the position the head reads
PLAIN = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")  # all the same equation
Head = Callable[[Tensor], Tensor]


class Stream:
    """Parts of a pre-norm transformer with attention before the MLP, whose sum is the residual stream.

    Each part takes a sum of the stream and gives what it adds; biases of the attention's output are left out, since
    they are the same in every run.
    """

    def __init__(self, model: nn.Module, *, tower: str, head: Head | None) -> None:
        refuse_compiled(model)
        self.model, self.part = model, find_module(model, tower)
        self.names = transformer_parts(model, tower=tower)
        config = self.part.config
        if config.model_type not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise UnknownNameError(f"model is of family {config.model_type!r}, which has no edge graph; known: {known}")
        self.family, self.read = config.model_type, FAMILIES[config.model_type]
        self.n_layers, self.n_heads = config.num_hidden_layers, config.num_attention_heads
        self.head = head or self._own_head()
        self._check_attention()

    def _own_head(self) -> Head:
        found = getattr(self.model, "classifier", None) or getattr(self.model, "lm_head", None)
        if found is None:
            kind = type(self.model).__name__
            raise ValueError(f"head is needed: {kind} has no classifier; give a function of the normed read-out (B, D)")
        return found

    def _check_attention(self) -> None:
        for name, module in attention_modules(self.part).items():
            if (kind := module.config._attn_implementation) not in PLAIN:
                raise ValueError(f"model's attention at {name!r} is {kind!r}, which may be anything; load with 'eager'")

    def module(self, part: str, layer: int) -> nn.Module:
        return self.model.get_submodule(self.names.layer(part, layer))

    @property
    def like(self) -> Tensor:
        """A weight with the model's type and device."""
        return self.module("output", 0).weight

    def rows(self, layer: int) -> slice:
        """Positions whose sums matter behind a layer's attention: of the last layer, the one that the head reads."""
        if layer < self.n_layers - 1:
            return slice(None)
        return slice(0, 1) if self.read == 0 else slice(-1, None)

    def check(self, argument: str, x: Any) -> Tensor:
        """The data, in the model's type and on its device."""
        ids = self.family == "llama"
        want = "integers (B, T)" if ids else "images (B, C, H, W)"
        if not isinstance(x, Tensor) or x.ndim != (2 if ids else 4) or x.is_floating_point() == ids:
            got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{argument} must be {want}; got {got}")
        check_finite(argument, x)
        return x.detach().to(self.like.device, x.dtype if ids else self.like.dtype)

    def embed(self, x: Tensor) -> Tensor:
        """What enters the first block, `(B, T, D)`."""
        z = self.model.get_submodule(self.names.embedding)(x)
        return self.part_of("pre_layrnorm")(z) if self.family == "clip_vision_model" else z

    def part_of(self, name: str) -> nn.Module:
        """A module beside the stack of blocks."""
        prefix = self.names.embedding.rpartition(".")[0]
        return self.model.get_submodule(f"{prefix}.{name}" if prefix else name)

    def heads(self, layer: int, x: Tensor) -> Tensor:
        """What each head adds, `(H, B, rows, D)`, of `(R, B, T, D)` with one input for all heads, for each, or 3 H."""
        normed = self.module("attention_norm", layer)(x)
        q, k, v = normed.chunk(3) if len(x) == 3 * self.n_heads else (normed,) * 3
        rows = self.rows(layer)
        q, k = self._rotate(self._project("query", layer, q[..., rows, :]), self._project("key", layer, k), x, rows)
        v = self._project("value", layer, v)
        scale = getattr(self.module("attention", layer), "scaling", None)
        mask = self._causal(x.shape[-2], rows) if self.family == "llama" else None
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        output = self.module("output", layer).weight.unflatten(1, (self.n_heads, -1)).permute(1, 2, 0)
        return mixed @ output[:, None]

    def _project(self, part: str, layer: int, x: Tensor) -> Tensor:
        """`(H, B, T, d)`; where heads share keys, each gets its group's."""
        linear = self.module(part, layer)
        width = self.module("output", layer).weight.shape[1] // self.n_heads
        weight = linear.weight.unflatten(0, (-1, width))
        groups = self.n_heads // len(weight)
        if len(x) == 1:  # one matrix product for all heads
            heads = F.linear(x[0], linear.weight, linear.bias).unflatten(-1, (-1, width)).movedim(-2, 0)
            return heads.repeat_interleave(groups, 0) if groups > 1 else heads
        heads = x @ weight.repeat_interleave(groups, 0).transpose(1, 2)[:, None]
        if linear.bias is None:
            return heads
        return heads + linear.bias.unflatten(0, (-1, width)).repeat_interleave(groups, 0)[:, None, None]

    def _rotate(self, q: Tensor, k: Tensor, x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        if self.family != "llama":
            return q, k
        places = torch.arange(x.shape[-2], device=x.device)[None]
        cos, sin = self.part_of("rotary_emb")(x[0], places)
        return _turned(q, cos[:, rows], sin[:, rows]), _turned(k, cos, sin)

    def _causal(self, length: int, rows: slice) -> Tensor:
        places = torch.arange(length, device=self.like.device)
        return places[rows, None] >= places

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        """What the MLP adds."""
        module = self.model.get_submodule(self.names.layer("down", layer).rpartition(".")[0])
        return module(self.module("mlp_norm", layer)(x))

    def logits(self, x: Tensor) -> Tensor:
        """`(B, C)` of the last sum at the position that is read, `(B, 1, D)`."""
        return self.head(self.model.get_submodule(self.names.final_norm)(x)[:, 0])

    def check_model(self, x: Tensor, last: Tensor) -> None:
        """The model itself must come to the same last sum as its parts, on a first row: `last` is `(1, 1, D)`."""
        refuse_training(self.part)
        self._check_attention()
        with torch.no_grad(), capture(self.model, self.names.final_norm, at="input") as seen:
            self.part(x)
        own = seen[self.names.final_norm]
        own = own[:, self.read] if own.ndim == 3 else own
        off, size = float((own - last[:, 0]).abs().max()), float(own.abs().max())
        if not off <= size * (1e-3 if own.dtype in (torch.float32, torch.float64) else 0.1):
            raise ValueError(f"model differs by {off:.2g} from its parts run one by one: is something hooked into it?")


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021), halves of a head's width against each other."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin
