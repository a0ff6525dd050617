"""AttnLRP and CP-LRP inside transformers: norms, gated MLPs and attention, patched per instance and reversibly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shared._checks import check_choice
from shared.lrp._errors import unsupported
from shared.lrp._graph import cover
from shared.lrp.rules._functions import IdentityActivation, UniformProduct, scale_gradient

MODES = ("attnlrp", "cp")
OFFSET_NORMS = ("GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm")  # they scale by 1 + weight
RMS_NORMS = (
    *("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "Qwen3MoeRMSNorm", "MixtralRMSNorm"),
    *("Phi3RMSNorm", "T5LayerNorm", "RMSNorm"),
    *OFFSET_NORMS,
)
MEAN_NORMS = (nn.LayerNorm, nn.GroupNorm)
SUPPORTED_NORMS = (*RMS_NORMS, "LayerNorm", "GroupNorm", "BatchNorm")
# class -> activation, gate (the activated factor), up, down; up is None where one layer gives gate and up side by side
_LLAMA_LIKE = ("act_fn", "gate_proj", "up_proj", "down_proj")
GATED_MLPS: dict[str, tuple[str, str, str | None, str]] = {
    **dict.fromkeys("LlamaMLP MistralMLP Qwen2MLP Qwen3MLP Qwen3MoeMLP".split(), _LLAMA_LIKE),
    **dict.fromkeys("GemmaMLP Gemma2MLP Gemma3MLP".split(), _LLAMA_LIKE),
    "Phi3MLP": ("activation_fn", "gate_up_proj", None, "down_proj"),
    "ModernBertMLP": ("act", "Wi", None, "Wo"),
    "T5DenseGatedActDense": ("act", "wi_0", "wi_1", "wo"),
}


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


def norm_gain(module: Any) -> Tensor:
    """What a norm multiplies by after dividing by its statistics.

    Parameters
    ----------
    module : a norm layer with a weight.

    Returns
    -------
    Its weight, or 1 + weight (float32) for those of Gemma.
    """
    return 1.0 + module.weight.float() if type(module).__name__ in OFFSET_NORMS else module.weight


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
    name = type(module).__name__
    eps = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    wide = _wide(x) if name == "RMSNorm" else x.float()  # those of transformers compute in float32 whatever comes in
    eps = torch.finfo(wide.dtype).eps if eps is None else eps
    inverse = torch.rsqrt(wide.detach().pow(2).mean(-1, keepdim=True) + eps)
    if name in OFFSET_NORMS:
        return (wide * inverse * norm_gain(module)).to(x.dtype)
    y = (x * inverse if name == "T5LayerNorm" else wide * inverse).to(x.dtype)
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
    inverse = torch.rsqrt(centred.detach().pow(2).mean(axes, keepdim=True) + eps)
    return centred * inverse


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


# --- products


def gated_forward(module: Any, mode: str) -> Callable[[Tensor], Tensor] | None:
    """SwiGLU `down(act(gate(x)) * up(x))`: half of the relevance to each factor, or (CP-LRP) the gate constant."""
    check_choice("mode", mode, MODES)
    names = GATED_MLPS.get(type(module).__name__)
    if names is None:
        return None
    act, gate, up, down = (None if name is None else getattr(module, name) for name in names)

    def forward(x: Tensor) -> Tensor:
        first, second = gate(x).chunk(2, dim=-1) if up is None else (gate(x), up(x))
        return down(gated(act(first), second, mode))

    return forward


def gated(factor: Tensor, x: Tensor, mode: str) -> Tensor:
    """`factor * x`: half of the relevance to each, or (CP-LRP) the factor constant."""
    return factor.detach() * x if mode == "cp" else UniformProduct.apply(factor, x)


def capped_logits(module: Any) -> Callable[..., Any] | None:
    """A causal LM whose logits are `cap tanh(z / cap)` (Gemma 2): an elementwise activation, so the identity rule."""
    cap = getattr(getattr(module, "config", None), "final_logit_softcapping", None)
    if cap is None or not hasattr(module, "lm_head"):
        return None
    own = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        module.config.final_logit_softcapping = None
        try:
            output = own(*args, **kwargs)
        finally:
            module.config.final_logit_softcapping = cap
        output.logits = soft_cap(output.logits, cap)
        return output

    return forward


def soft_cap(x: Tensor, cap: float) -> Tensor:
    """`cap tanh(x / cap)` under the identity rule."""
    return IdentityActivation.apply(x, lambda z: torch.tanh(z / cap) * cap, 1.0)


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
        capped = kw.get("softcap") is not None
        result = _capped_attention(q, k, v, *args, **kw) if capped else call(module, q, k, v, *args, **kw)
        cover(covered, result[0], q, k, v)
        return result

    return wrapper


def _capped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, scaling: float, softcap: float, **_kw: Any
) -> tuple[Tensor, Tensor]:
    """Attention whose scores are `cap tanh(score / cap)` before the softmax; the identity rule for that step."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = soft_cap(q @ k.transpose(-1, -2) * scaling, softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype)
    return (weights @ v).transpose(1, 2).contiguous(), weights
