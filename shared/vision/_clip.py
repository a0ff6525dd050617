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

from shared._checks import check_array, check_choice, check_range
from shared.stats import unit_norm

PATCH_FEATURES = ("value", "block", "residual", "head")


def encode_image(model: nn.Module, images: Tensor, *, unit: bool = True, batch_size: int | None = None) -> Tensor:
    """Image embeddings in the space shared with text.

    Parameters
    ----------
    model : transformers' CLIPModel or its kin
    images : Tensor, shape (B, C, H, W)
        As the model wants them. Sides other than its own, multiples of the patch, stretch its position embeddings.
    unit : bool
        Make each embedding of length one.
    batch_size : int, optional
        Images per forward pass; all at once by default.

    Returns
    -------
    Tensor, shape (B, d)
    """
    _check_clip(model)
    check_array("images", images, ("B", model.config.vision_config.num_channels, "H", "W"))
    parts = images.split(batch_size or len(images))
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
    """Text embeddings of length one; of several templates the mean of unit embeddings, made unit again.

    Parameters
    ----------
    model : transformers' CLIPModel or its kin
    tokenizer : the model's
    texts : sequence of str
    templates : str or sequence of str
        Each has one `{}` for the text: `"a photo of a {}"`.
    subtract_empty : bool
        Take away the embedding of the templates around nothing, so that a product with an image's is the score beyond
        that of the empty prompt (raw cosines share a large offset); the result is then not of length one.

    Returns
    -------
    Tensor, shape (N, d)

    Raises
    ------
    ValueError
        For no texts or templates, a template without exactly one `{}`, and a text that is longer than the model reads.
    TypeError
        For what isn't a list of strings.
    """
    _check_clip(model)
    texts = _check_texts("texts", texts)
    templates = _check_templates(templates)
    told = [*texts, ""] if subtract_empty else texts
    prompts = [template.replace("{}", text) for template in templates for text in told]
    tokens = tokenizer(prompts, padding=True, return_tensors="pt")
    longest = int(tokens["attention_mask"].sum(1).max())
    limit = model.config.text_config.max_position_embeddings
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
    Errors as `encode_text`.

    Parameters
    ----------
    model : transformers' CLIPModel or its kin
    tokenizer : the model's
    names : sequence of str
        Of the classes.
    templates : str or sequence of str
        Each has one `{}` for the name.
    subtract_empty : bool
        As `encode_text`.
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
        """Logits of image or patch embeddings.

        Parameters
        ----------
        features : Tensor, shape (…, d)

        Returns
        -------
        Tensor, shape (…, classes)
        """
        if features.shape[-1] != self.weight.shape[1]:
            raise ValueError(f"features has shape {tuple(features.shape)}; expected (…, {self.weight.shape[1]})")
        return self.scale * normalize(features, dim=-1) @ self.weight.T

    @torch.no_grad()
    def predict(self, images: Tensor, *, batch_size: int = 256) -> Tensor:
        """Classes of images, without gradient.

        Parameters
        ----------
        images : Tensor, shape (B, C, H, W)
        batch_size : int

        Returns
        -------
        Tensor of int64, shape (B,)
        """
        return self.from_features(encode_image(self.model, images, batch_size=batch_size)).argmax(-1)


def patch_features(
    model: nn.Module,
    images: Tensor,
    *,
    kind: str = "value",
    head: nn.Module | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Each patch in the space shared with text, not normalised.

    The kinds: "value" leaves out the last block's attention and MLP: projection of LN(W_O W_V LN₁(h)) of each patch's
    input h to that block (MaskCLIP, Zhou et al. 2022); "block" leaves out what its attention mixes but keeps the
    residual stream and the MLP: v = h + W_O W_V LN₁(h), then v + MLP(LN₂(v)) (as CLIP-DINOiser, Wysoczańska et al.
    2024); "residual" projects the tower's last hidden states, which training shapes for the class token alone; "head"
    gives those to `head`.

    Parameters
    ----------
    model : transformers' CLIPModel or its kin
    images : Tensor, shape (B, C, H, W)
        As `encode_image`.
    kind : one of `PATCH_FEATURES`
    head : nn.Module, optional
        (B, H, W, D) -> (B, H, W, d), trained to align patches with text; goes with kind="head".
    batch_size : int, optional
        Images per forward pass; all at once by default.

    Returns
    -------
    Tensor, shape (B, H / patch, W / patch, d)
    """
    _check_clip(model)
    check_choice("kind", kind, PATCH_FEATURES)
    if (kind == "head") != (head is not None):
        raise ValueError(f"kind={kind!r} with head={type(head).__name__}: a head goes with kind='head', and only there")
    check_array("images", images, ("B", model.config.vision_config.num_channels, "H", "W"))
    parts = images.split(batch_size or len(images))
    return torch.cat([_patches(model, _states(model, part), part, kind, head) for part in parts])


def hidden_patches(model: nn.Module, images: Tensor, *, layer: int = -1, batch_size: int | None = None) -> Tensor:
    """Hidden states of the patches.

    Parameters
    ----------
    model : transformers' CLIPModel or its kin
    images : Tensor, shape (B, C, H, W)
        As `encode_image`.
    layer : int
        0 is the first block's input, -1 the last output.
    batch_size : int, optional
        Images per forward pass; all at once by default.

    Returns
    -------
    Tensor, shape (B, H / patch, W / patch, D)

    Raises
    ------
    ValueError
        For a layer that the tower hasn't.
    """
    _check_clip(model)
    depth = model.config.vision_config.num_hidden_layers
    check_range("layer", layer, -depth - 1, depth)
    check_array("images", images, ("B", model.config.vision_config.num_channels, "H", "W"))
    parts = images.split(batch_size or len(images))
    return torch.cat([_as_map(model, _states(model, part)[layer], part) for part in parts])


def correlation_pool(values: Tensor, guide: Tensor, *, gamma: float = 0.2) -> Tensor:
    """Patches averaged over those that look alike: x_p = Σ_q a_pq v_q / (Σ_q a_pq + 1e-6).

    a_pq is the cosine of the guide's patches p and q of the same image, or zero where it is below `gamma`
    (Wysoczańska et al. 2024, CLIP-DINOiser, with 0.2).

    Parameters
    ----------
    values : Tensor, shape (B, H, W, d)
    guide : Tensor, shape (B, H, W, D)
        Features in which what belongs together is alike.
    gamma : float in [0, 1)

    Returns
    -------
    Tensor, shape (B, H, W, d)
    """
    check_array("values", values, ("B", "H", "W", "d"))
    check_array("guide", guide, (*values.shape[:3], "D"))
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma={gamma!r} is out of range; accepted: [0, 1)")
    unit = unit_norm(guide.flatten(1, 2), dim=-1)
    alike = unit @ unit.transpose(1, 2)
    alike = torch.where(alike < gamma, 0.0, alike)
    pooled = alike @ values.flatten(1, 2) / (alike.sum(-1, keepdim=True) + 1e-6)
    return pooled.view_as(values)


def _states(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """All hidden states of the vision tower, (B, 1 + P, D) each."""
    out = model.vision_model(**_pixels(model, images), output_hidden_states=True)
    return (*out.hidden_states[:-1], out.last_hidden_state)


def _patches(model: nn.Module, states: tuple[Tensor, ...], images: Tensor, kind: str, head: nn.Module | None) -> Tensor:
    if head is not None:
        return head(_as_map(model, states[-1], images))
    tower = model.vision_model
    found = states[-1]
    if kind != "residual":
        block = tower.encoder.layers[-1]
        found = block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(states[-2])))
    if kind == "block":
        found = found + states[-2]
        found = found + block.mlp(block.layer_norm2(found))
    return _as_map(model, model.visual_projection(tower.post_layernorm(found)), images)


def _as_map(model: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
    """(B, 1 + P, D) to (B, H, W, D), without the class token."""
    patch = model.config.vision_config.patch_size
    return tokens[:, 1:].unflatten(1, (images.shape[2] // patch, images.shape[3] // patch))


def _pixels(model: nn.Module, images: Tensor) -> dict[str, Any]:
    """The call's arguments; position embeddings are stretched only where the size asks for it."""
    own = model.config.vision_config.image_size
    patch = model.config.vision_config.patch_size
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
