"""CLIP by one set of calls, whether it's the zoo's small one or a hub's: embeddings, zero-shot classes, patch features.

For transformers' `CLIPModel` and its kin (`get_image_features`, `get_text_features`, `logit_scale`). Gradients flow;
wrap calls in `torch.no_grad()` where none are needed. Images come ready for the model (`info.prepare` of a loaded one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from shared._checks import check_array, check_choice

PATCH_FEATURES = ("value", "residual")


def encode_image(model: nn.Module, images: Tensor, *, unit: bool = True, batch: int | None = None) -> Tensor:
    """Image embeddings (B, d) in the space shared with text, of length one if `unit`.

    images : (B, C, H, W), finite, normalised as the model wants. Sides other than the model's own stretch its position
    embeddings (each side a multiple of the patch). batch : images per forward pass, default all at once.
    """
    _check_clip(model)
    check_array("images", images, ("B", model.config.vision_config.num_channels, "H", "W"))
    parts = images.split(batch or len(images))
    found = torch.cat([_pooled(model.get_image_features(**_pixels(model, part))) for part in parts])
    return normalize(found, dim=-1) if unit else found


def encode_text(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    templates: str | Sequence[str] = "{}",
    subtract_empty: bool = False,
) -> Tensor:
    """Text embeddings (N, d) of length one; of several templates the mean of unit embeddings, made unit again.

    templates : each has one `{}` for the text: `"a photo of a {}"`. subtract_empty : take away the embedding of the
    templates around nothing, so that a product with an image's is the score beyond that of the empty prompt (raw
    cosines share a large offset); the result is then not of length one.

    Raises `ValueError` for an empty list of texts or templates, a template without exactly one `{}`, and a text that is
    longer than the model reads; `TypeError` for what isn't a list of strings.
    """
    _check_clip(model)
    texts, templates = _check_texts("texts", texts), _check_templates(templates)
    told = [*texts, ""] if subtract_empty else texts
    prompts = [template.replace("{}", text) for template in templates for text in told]
    tokens = tokenizer(prompts, padding=True, return_tensors="pt")
    longest, limit = int(tokens["attention_mask"].sum(1).max()), model.config.text_config.max_position_embeddings
    if longest > limit:
        worst = prompts[int(tokens["attention_mask"].sum(1).argmax())]
        raise ValueError(f"texts: {worst!r} has {longest} tokens; the model reads at most {limit}")
    given = {key: tokens[key].to(model.device) for key in ("input_ids", "attention_mask")}
    each = normalize(_pooled(model.get_text_features(**given)), dim=-1)
    found = normalize(each.view(len(templates), len(told), -1).mean(0), dim=-1)
    return found[:-1] - found[-1] if subtract_empty else found


class ZeroShotHead(nn.Module):
    """Classes by their names: logits are the model's scale times the cosines of image and prompts (Radford 2021).

    `weight` (classes, d) holds the classes' text embeddings, made once; `names` their names. `head(images)` gives
    logits (B, classes); `head.from_features(embeddings)` starts from image embeddings, which it makes unit first.
    Parameters and errors as `encode_text`.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        names: Sequence[str],
        *,
        templates: str | Sequence[str] = "a photo of a {}",
        subtract_empty: bool = False,
    ) -> None:
        super().__init__()
        self.names = tuple(_check_texts("names", names))
        with torch.no_grad():
            weight = encode_text(model, tokenizer, self.names, templates=templates, subtract_empty=subtract_empty)
            scale = model.logit_scale.detach().exp()
        self.model = model
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, images: Tensor) -> Tensor:
        return self.from_features(encode_image(self.model, images))

    def from_features(self, features: Tensor) -> Tensor:
        """Logits (…, classes) of image or patch embeddings (…, d)."""
        if features.shape[-1] != self.weight.shape[1]:
            raise ValueError(f"features has shape {tuple(features.shape)}; expected (…, {self.weight.shape[1]})")
        return self.scale * normalize(features, dim=-1) @ self.weight.T

    @torch.no_grad()
    def predict(self, images: Tensor, *, batch: int = 256) -> Tensor:
        """Class numbers (B,), without gradient."""
        return self.from_features(encode_image(self.model, images, batch=batch)).argmax(-1)


def patch_features(model: nn.Module, images: Tensor, *, kind: str = "value") -> Tensor:
    """Each patch in the space shared with text, (B, H / patch, W / patch, d), not normalised.

    kind : "value" leaves out the last block's attention and MLP: projection of LN(W_O W_V LN₁(h)) of each patch's input
    h to that block (MaskCLIP, Zhou et al. 2022); "residual" projects the tower's last hidden states, which training
    shapes for the class token alone.
    """
    _check_clip(model)
    check_choice("kind", kind, PATCH_FEATURES)
    check_array("images", images, ("B", model.config.vision_config.num_channels, "H", "W"))
    tower, patch = model.vision_model, model.config.vision_config.patch_size
    out = tower(**_pixels(model, images), output_hidden_states=True)
    if kind == "value":
        block = tower.encoder.layers[-1]
        states = block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(out.hidden_states[-2])))
    else:
        states = out.last_hidden_state
    found = model.visual_projection(tower.post_layernorm(states[:, 1:]))
    return found.unflatten(1, (images.shape[2] // patch, images.shape[3] // patch))


def _pixels(model: nn.Module, images: Tensor) -> dict[str, Any]:
    """The call's arguments; position embeddings are stretched only where the size asks for it."""
    own, patch = model.config.vision_config.image_size, model.config.vision_config.patch_size
    sides = tuple(images.shape[2:])
    if any(side < patch or side % patch for side in sides):
        raise ValueError(f"images has sides {sides}; expected multiples of the patch, {patch}")
    return {"pixel_values": images} | ({} if sides == (own, own) else {"interpolate_pos_encoding": True})


def _pooled(out: Any) -> Tensor:
    """The embeddings: transformers 4 returns them, 5 an object that holds them."""
    return out if isinstance(out, Tensor) else out.pooler_output


def _check_clip(model: nn.Module) -> None:
    lacking = [n for n in ("get_image_features", "get_text_features", "logit_scale") if not hasattr(model, n)]
    if lacking:
        raise TypeError(f"model is a {type(model).__name__} without {', '.join(lacking)}; a CLIPModel is needed")


def _check_texts(argument: str, texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{argument}={texts!r} must be a list of strings")
    if len(texts) == 0:
        raise ValueError(f"{argument} is empty; at least one text is needed")
    return list(texts)


def _check_templates(templates: str | Sequence[str]) -> list[str]:
    given = _check_texts("templates", [templates] if isinstance(templates, str) else templates)
    for template in given:
        if template.count("{}") != 1:
            raise ValueError(f"templates: {template!r} must have exactly one {{}} for the text")
    return given
