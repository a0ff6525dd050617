"""AttnLRP and CP-LRP inside transformers: norms, gated MLPs and attention, patched per instance and reversibly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice
from shared.lrp._errors import unsupported
from shared.lrp._graph import cover
from shared.lrp.rules._functions import UniformProduct, scale_gradient

MODES = ("attnlrp", "cp")
RMS_NORMS = (
    "LlamaRMSNorm",
    "MistralRMSNorm",
    "Qwen2RMSNorm",
    "Qwen3RMSNorm",
    "MixtralRMSNorm",
    "Phi3RMSNorm",
    "RMSNorm",
)
MEAN_NORMS = (nn.LayerNorm, nn.GroupNorm)
GATED_MLPS = ("LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "GemmaMLP")
SUPPORTED_NORMS = (*RMS_NORMS, "LayerNorm", "GroupNorm", "BatchNorm")


# --- normalisation: std or rms is a constant (AttnLRP, Prop. 3.4)


def norm_forward(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """The forward of a norm module with its statistics detached; None if the module is no such norm."""
    if type(module).__name__ in RMS_NORMS:
        return lambda x: _rms_norm(module, x)
    if isinstance(module, nn.LayerNorm) and getattr(module, "data_format", None) == "channels_first":
        return lambda x: _layer_norm(module, x.movedim(1, -1)).movedim(-1, 1)  # ConvNeXt
    if isinstance(module, nn.LayerNorm):
        return lambda x: _layer_norm(module, x)
    if isinstance(module, nn.GroupNorm):
        return lambda x: _group_norm(module, x)
    return None


def check_norm(module: nn.Module, name: str) -> None:
    """Raise `UnsupportedModule` for a norm layer we have no rule for."""
    class_name = type(module).__name__
    statistical = class_name.endswith("Norm") and not any(True for _ in module.children())
    known = class_name in RMS_NORMS or isinstance(module, (*MEAN_NORMS, nn.modules.batchnorm._BatchNorm))
    own_forward = isinstance(module, MEAN_NORMS) and not hasattr(module, "data_format") and _overrides_forward(module)
    if (statistical and not known) or own_forward:
        raise unsupported("the normalisation", module, name, SUPPORTED_NORMS)


def _overrides_forward(module: nn.Module) -> bool:
    return type(module).forward not in {base.forward for base in MEAN_NORMS}


def _wide(x: Tensor) -> Tensor:
    """float32 at least, as the original norms compute inside."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _rms_norm(module: Any, x: Tensor) -> Tensor:
    hugging_face = hasattr(module, "variance_epsilon")  # these compute in float32 whatever comes in
    eps = module.variance_epsilon if hugging_face else module.eps
    wide = x.float() if hugging_face else _wide(x)
    eps = torch.finfo(wide.dtype).eps if eps is None else eps
    with torch.no_grad():
        inverse = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    y = (wide * inverse).to(x.dtype)
    return y if module.weight is None else module.weight * y


def _layer_norm(module: nn.LayerNorm, x: Tensor) -> Tensor:
    axes = tuple(range(-len(module.normalized_shape), 0))
    return _affine(_standardize(_wide(x), axes, module.eps), module.weight, module.bias).to(x.dtype)


def _group_norm(module: nn.GroupNorm, x: Tensor) -> Tensor:
    groups = _wide(x).reshape(x.shape[0], module.num_groups, -1)
    y = _standardize(groups, (-1,), module.eps).reshape(x.shape)
    shape = (1, -1, *([1] * (x.ndim - 2)))
    weight = None if module.weight is None else module.weight.view(shape)
    return _affine(y, weight, None if module.bias is None else module.bias.view(shape)).to(x.dtype)


def _standardize(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    with torch.no_grad():
        inverse = torch.rsqrt(centred.pow(2).mean(axes, keepdim=True) + eps)
    return centred * inverse


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


# --- products


def gated_forward(module: Any, mode: str) -> Callable[[Tensor], Tensor] | None:
    """SwiGLU `down(act(gate(x)) * up(x))`: half of the relevance to each factor, or (CP-LRP) the gate constant."""
    check_choice("mode", mode, MODES)
    if type(module).__name__ not in GATED_MLPS:
        return None

    def forward(x: Tensor) -> Tensor:
        gate, up = module.act_fn(module.gate_proj(x)), module.up_proj(x)
        return module.down_proj(gate.detach() * up if mode == "cp" else UniformProduct.apply(gate, up))

    return forward


def clip_forward(module: Any) -> Callable[..., Any] | None:
    """`CLIPModel` with the lengths of both embeddings constant (normalisation rule); the towers are patched as usual.

    One tower is explained at a time, so the other one's embedding is a constant in the similarity.
    """
    if type(module).__name__ != "CLIPModel":
        return None

    def forward(
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        from transformers.models.clip.modeling_clip import CLIPOutput

        image = _unit(module.get_image_features(pixel_values, **kwargs).pooler_output)
        text = _unit(module.get_text_features(input_ids, attention_mask, position_ids).pooler_output)
        logits = image @ text.t() * module.logit_scale.exp()
        return CLIPOutput(logits_per_image=logits, logits_per_text=logits.t(), text_embeds=text, image_embeds=image)

    return forward


def _unit(x: Tensor) -> Tensor:
    return x / x.detach().norm(dim=-1, keepdim=True)


def attention_wrapper(mode: str, covered: set[Any]) -> Callable[..., Any]:
    """Wrapper for `hooks.wrap_attention`: scales what flows back to q, k and v and leaves the fused kernel alone.

    AttnLRP: two products with half each, so 1/4 at q and k (softmax in between is its own rule) and 1/2 at v.
    CP-LRP: the pattern is a constant, v gets everything. The kernel's graph nodes are added to `covered`.
    """
    check_choice("mode", mode, MODES)

    def wrapper(
        call: Callable[..., Any], module: nn.Module, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kw: Any
    ) -> Any:
        if mode == "cp":
            q, k = q.detach(), k.detach()
        else:
            q, k, v = scale_gradient(q, 0.25), scale_gradient(k, 0.25), scale_gradient(v, 0.5)
        result = call(module, q, k, v, *args, **kw)
        cover(covered, result[0], q, k, v)
        return result

    return wrapper
