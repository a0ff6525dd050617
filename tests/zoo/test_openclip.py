"""OpenCLIP's checkpoints load as transformers' CLIP: against a forward pass written from the config alone."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import gelu, layer_norm, softmax

from shared import vision, zoo
from shared.zoo.recipes._small_clip import build_tokenizer
from tests.papers.hub import open_clip_weights

TOKENIZER = build_tokenizer()
CONTEXT = 12
MODEL = {
    "embed_dim": 10,
    "vision_cfg": {"image_size": 12, "layers": 2, "width": 24, "head_width": 6, "mlp_ratio": 2.5, "patch_size": 4},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": len(TOKENIZER), "width": 16, "heads": 4, "layers": 3},
}
IMAGES = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}


def write(folder, model=MODEL, weights="open_clip_model.safetensors", prefix="", **more):
    folder.mkdir(parents=True)
    state = open_clip_weights(model) | more
    top = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
    named = {prefix + key if key.startswith(top) else key: value for key, value in state.items()}
    save_file(named, folder / weights)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": IMAGES}))
    TOKENIZER.save_pretrained(folder)
    return {key: value.double() for key, value in state.items()}


def norm(state, name, x):
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def transformer(state, prefix, x, layers, heads, quick, causal):
    """Pre-norm blocks with query, key and value in one matrix."""
    b, n, d = x.shape
    mask = torch.full((n, n), float("-inf"), dtype=x.dtype).triu(1) if causal else 0
    for i in range(layers):
        block = f"{prefix}.resblocks.{i}"
        joint = norm(state, f"{block}.ln_1", x) @ state[f"{block}.attn.in_proj_weight"].T
        q, k, v = (joint + state[f"{block}.attn.in_proj_bias"]).view(b, n, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        mixed = softmax(q @ k.mT / (d // heads) ** 0.5 + mask, dim=-1) @ v
        x = x + linear(state, f"{block}.attn.out_proj", mixed.transpose(1, 2).reshape(b, n, d))
        hidden = linear(state, f"{block}.mlp.c_fc", norm(state, f"{block}.ln_2", x))
        hidden = hidden * torch.sigmoid(1.702 * hidden) if quick else gelu(hidden)
        x = x + linear(state, f"{block}.mlp.c_proj", hidden)
    return x


def encode_image(state, model, images):
    cfg = model["vision_cfg"]
    p = cfg["patch_size"]
    patches = images.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = patches @ state["visual.conv1.weight"].flatten(1).T
    x = torch.cat([state["visual.class_embedding"].expand(len(x), 1, -1), x], 1) + state["visual.positional_embedding"]
    heads = cfg["width"] // cfg.get("head_width", 64)
    x = norm(state, "visual.ln_pre", x)
    x = transformer(state, "visual.transformer", x, cfg["layers"], heads, model.get("quick_gelu"), causal=False)
    return norm(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"]


def encode_text(state, model, ids):
    cfg = model["text_cfg"]
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][: ids.shape[1]]
    x = transformer(state, "transformer", x, cfg["layers"], cfg["heads"], model.get("quick_gelu"), causal=True)
    return norm(state, "ln_final", x)[torch.arange(len(x)), ids.argmax(1)] @ state["text_projection"]


@pytest.mark.parametrize(
    ("change", "prefix", "weights"),
    [
        ({}, "", "open_clip_model.safetensors"),
        ({"quick_gelu": True}, "text.", "open_clip_pytorch_model.safetensors"),
    ],
)
def test_same_embeddings_as_a_forward_from_the_config(tmp_path, monkeypatch, change, prefix, weights):
    model = MODEL | change
    state = write(tmp_path / "laion/tiny", model, weights, prefix)
    monkeypatch.setenv("REPRISE_HUB", str(tmp_path))
    loaded = zoo.load_model("laion/tiny", dtype=torch.float64)
    assert type(loaded.model).__name__ == loaded.info.architecture == "CLIPModel"
    assert not loaded.model.training
    assert loaded.info.input_size == (3, 12, 12)
    assert loaded.info.mean == tuple(IMAGES["mean"])
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tokens = loaded.tokenizer(["a star", "a red cat and a dog", "an orange"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        out = loaded.model(pixel_values=images, **tokens)
        image = loaded.model.get_image_features(pixel_values=images).pooler_output
        text = loaded.model.get_text_features(**tokens).pooler_output
    wanted_image, wanted_text = encode_image(state, model, images), encode_text(state, model, tokens.input_ids)
    assert wanted_image.std() > 0.1
    assert torch.allclose(image, wanted_image, atol=1e-5)
    assert torch.allclose(text, wanted_text, atol=1e-5)
    unit = [torch.nn.functional.normalize(x, dim=-1) for x in (wanted_image, wanted_text)]
    assert torch.allclose(out.logits_per_image, state["logit_scale"].exp() * unit[0] @ unit[1].T, atol=1e-5)
    with torch.inference_mode():  # and in the way that notebooks go
        assert torch.allclose(vision.encode_image(loaded.model, images), unit[0], atol=1e-5)


def test_activations_are_told_apart(tmp_path):
    state = write(tmp_path / "a")
    ids = torch.tensor([[1, 2, len(TOKENIZER) - 1]])
    assert (encode_text(state, MODEL, ids) - encode_text(state, MODEL | {"quick_gelu": True}, ids)).abs().max() > 1e-3


def test_transformers_files_are_preferred(tmp_path):
    write(tmp_path / "both")
    loaded = zoo.load_model(str(tmp_path / "both"))
    loaded.model.logit_scale.data.fill_(7)
    loaded.model.save_pretrained(tmp_path / "both")
    assert zoo.load_model(str(tmp_path / "both")).model.logit_scale.item() == 7
    (tmp_path / "both/config.json").write_text('{"architecture": "vit_of_timm"}')
    assert zoo.load_model(str(tmp_path / "both")).model.logit_scale.item() != 7


@pytest.mark.parametrize(
    ("tower", "change", "message"),
    [
        ("vision_cfg", {"timm_model_name": "vit_b", "timm_pool": ""}, "vision_cfg has timm_model_name='vit_b'"),
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, r"vision_cfg has layers=\[3, 4, 6, 3\]"),
        ("vision_cfg", {"attentional_pool": True}, "has attentional_pool=True"),
        ("vision_cfg", {"pool_type": "avg"}, "has pool_type='avg'"),
        ("vision_cfg", {"image_size": [12, 16]}, "takes squares only"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "text_cfg has hf_model_name='roberta-base'"),
        ("text_cfg", {"no_causal_mask": True}, "has no_causal_mask=True"),
        ("text_cfg", {"proj_type": "none"}, "has proj_type='none'"),
    ],
)
def test_what_has_no_counterpart_is_refused(tmp_path, tower, change, message):
    write(tmp_path / "a")
    said = {"model_cfg": MODEL | {tower: MODEL[tower] | change}}
    (tmp_path / "a/open_clip_config.json").write_text(json.dumps(said))
    with pytest.raises(zoo.AssetError, match=message):
        zoo.load_model(str(tmp_path / "a"))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    write(tmp_path / "more", **{"logit_bias": torch.zeros(())})
    with pytest.raises(zoo.AssetError, match="has weights logit_bias"):
        zoo.load_model(str(tmp_path / "more"))
    write(tmp_path / "scaled", **{"transformer.resblocks.0.ls_1.gamma": torch.zeros(16)})
    with pytest.raises(zoo.AssetError, match=r"has weights transformer\.resblocks\.0\.ls_1\.gamma"):
        zoo.load_model(str(tmp_path / "scaled"))
    write(tmp_path / "deeper")
    deeper = {"model_cfg": MODEL | {"text_cfg": MODEL["text_cfg"] | {"layers": 4}}}
    (tmp_path / "deeper/open_clip_config.json").write_text(json.dumps(deeper))
    with pytest.raises(zoo.AssetError, match=r"doesn't fit its config at text_model\.encoder\.layers\.3"):
        zoo.load_model(str(tmp_path / "deeper"))


def test_pickles_are_never_read(tmp_path):
    write(tmp_path / "a")
    (tmp_path / "a/open_clip_model.safetensors").rename(tmp_path / "a/open_clip_pytorch_model.bin")
    with pytest.raises(zoo.AssetError, match="no safetensors weights"):
        zoo.load_model(str(tmp_path / "a"))
    write(tmp_path / "b")
    with pytest.raises(TypeError, match="leave auto= out"):
        zoo.load_model(str(tmp_path / "b"), auto="AutoModel")
