"""CLIP helpers on a tiny random `CLIPModel`, loaded as from the hub."""

import json

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, ViTConfig, ViTModel

from shared import vision, zoo

SMALL = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 8,
    "initializer_factor": 5.0,
}  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """`org/clip` with weights, tokenizer and image processor in the hub's layout."""
    folder = tmp_path_factory.mktemp("hub") / "org/clip"
    tokens = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[]).save_pretrained(folder)
    text = SMALL | {"vocab_size": 54, "max_position_embeddings": 12, "bos_token_id": 52, "eos_token_id": 53}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image = SMALL | {"image_size": 16, "patch_size": 4}
        CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=8)).save_pretrained(folder)
    said = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"shortest_edge": 16}}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder.parents[1]


@pytest.fixture
def clip(hub, monkeypatch):
    monkeypatch.setenv("REPRISE_HUB", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return zoo.load_model("org/clip")


@pytest.fixture
def images(clip):
    return clip.preprocess(torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)))


def test_embeddings_and_logits_are_the_models_own(clip, images):
    texts = ["a cat", "dog", "b"]
    tokens = clip.tokenizer(texts, padding=True, return_tensors="pt")
    direct = clip.model(pixel_values=images, **tokens)
    assert torch.allclose(vision.encode_image(clip.model, images), direct.image_embeds, atol=1e-6)
    assert torch.allclose(vision.encode_text(clip.model, clip.tokenizer, texts), direct.text_embeds, atol=1e-6)
    head = vision.ZeroShotHead(clip.model, clip.tokenizer, texts, templates="{}")
    assert torch.allclose(head(images), direct.logits_per_image, atol=1e-4)
    assert torch.equal(head.predict(images), direct.logits_per_image.argmax(1))
    assert torch.allclose(head.from_features(7 * direct.image_embeds), direct.logits_per_image, atol=1e-4)


def test_batches_and_length(clip, images):
    whole = vision.encode_image(clip.model, images, unit=False)
    assert torch.allclose(vision.encode_image(clip.model, images, unit=False, batch_size=2), whole, atol=1e-6)
    assert (whole.norm(dim=1) - 1).abs().min() > 0.01
    assert torch.allclose(vision.encode_image(clip.model, images).norm(dim=1), torch.ones(3))


def test_templates_are_averaged_as_unit_vectors(clip):
    one, two = (
        vision.encode_text(clip.model, clip.tokenizer, [text, other]) for text, other in (("a", "b"), ("a x", "b x"))
    )
    both = vision.encode_text(clip.model, clip.tokenizer, ["a", "b"], templates=["{}", "{} x"])
    assert torch.allclose(both, normalize(one + two, dim=1), atol=1e-6)
    assert cosine_similarity(one, two).max() < 0.999


def test_score_beyond_the_empty_prompt(clip, images):
    features = vision.encode_image(clip.model, images)
    plain, empty = (vision.encode_text(clip.model, clip.tokenizer, [text], templates="a {}") for text in ("cat", ""))
    beyond = vision.encode_text(clip.model, clip.tokenizer, ["cat"], templates="a {}", subtract_empty=True)
    assert torch.allclose(features @ beyond.T, features @ plain.T - features @ empty.T, atol=1e-6)


def test_value_features_by_hand(clip, images):
    found = vision.patch_features(clip.model, images)
    assert found.shape == (3, 4, 4, 8)
    tower, seen = clip.model.vision_model, []
    block = tower.encoder.layers[-1]
    handle = block.layer_norm1.register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.no_grad():
        tower(pixel_values=images)
    handle.remove()
    attention, token = block.self_attn, seen[0][1, 1 + 4 * 2 + 3]  # image 1, row 2, column 3
    state = (
        attention.out_proj.weight @ (attention.v_proj.weight @ token + attention.v_proj.bias) + attention.out_proj.bias
    )
    expected = clip.model.visual_projection.weight @ tower.post_layernorm(state)
    assert torch.allclose(found[1, 2, 3], expected, atol=1e-5)


def test_residual_features_are_the_towers_last_states(clip, images):
    found = vision.patch_features(clip.model, images, kind="residual")
    last = clip.model.vision_model(pixel_values=images).last_hidden_state
    expected = clip.model.visual_projection(clip.model.vision_model.post_layernorm(last))
    assert torch.allclose(found.flatten(1, 2), expected[:, 1:], atol=1e-6)
    assert torch.allclose(vision.encode_image(clip.model, images, unit=False), expected[:, 0], atol=1e-6)


def test_block_features_are_the_last_block_with_attention_to_itself_alone(clip, images):
    """Every token's attention is made to look at that token only; the model's own modules do the rest."""
    found = vision.patch_features(clip.model, images, kind="block")
    attention = clip.model.vision_model.encoder.layers[-1].self_attn
    handle = attention.register_forward_hook(
        lambda module, given, options, out: (module.out_proj(module.v_proj(options["hidden_states"])), None),
        with_kwargs=True,
    )
    own = vision.patch_features(clip.model, images, kind="residual")
    handle.remove()
    assert torch.allclose(found, own, atol=1e-5)
    assert not torch.allclose(found, vision.patch_features(clip.model, images, kind="residual"), atol=1e-3)


def test_hidden_patches_are_the_towers_states(clip, images):
    out = clip.model.vision_model(pixel_values=images, output_hidden_states=True)
    for layer in (0, 1, 2, -1, -2):
        found = vision.hidden_patches(clip.model, images, layer=layer, batch_size=2)
        assert found.shape == (3, 4, 4, 16)
        assert torch.allclose(found.flatten(1, 2), out.hidden_states[layer][:, 1:], atol=1e-6)


def test_a_head_reads_the_last_states(clip, images):
    head = torch.nn.Linear(16, 5).requires_grad_(False)
    found = vision.patch_features(clip.model, images, kind="head", head=head, batch_size=2)
    assert torch.allclose(found, head(vision.hidden_patches(clip.model, images)), atol=1e-6)
    with pytest.raises(ValueError, match="a head goes with kind='head'"):
        vision.patch_features(clip.model, images, head=head)
    with pytest.raises(ValueError, match="a head goes with kind='head'"):
        vision.patch_features(clip.model, images, kind="head")


def test_pooling_by_its_definition():
    generator = torch.Generator().manual_seed(4)
    values, guide = torch.randn(2, 2, 3, 4, generator=generator), torch.randn(2, 2, 3, 5, generator=generator)
    found = vision.correlation_pool(values, guide, gamma=0.3)
    for b in range(2):
        v, g = values[b].reshape(6, 4), guide[b].reshape(6, 5)
        for p in range(6):
            weight = [float(cosine_similarity(g[p], g[q], dim=0)) for q in range(6)]
            weight = [w if w >= 0.3 else 0.0 for w in weight]
            want = sum(w * v[q] for q, w in enumerate(weight)) / (sum(weight) + 1e-6)
            assert torch.allclose(found[b].reshape(6, 4)[p], want, atol=1e-5)
    alone = vision.correlation_pool(values, guide, gamma=0.9999)
    assert torch.allclose(alone, values, atol=1e-4)
    flat = torch.ones(2, 2, 3, 5)  # all alike: the image's mean
    assert torch.allclose(
        vision.correlation_pool(values, flat, gamma=0.2), values.mean((1, 2), keepdim=True).expand_as(values), atol=1e-5
    )


def test_larger_images_have_more_patches(clip):
    images = torch.rand(2, 3, 24, 16, generator=torch.Generator().manual_seed(2))
    assert vision.patch_features(clip.model, images).shape == (2, 6, 4, 8)
    assert vision.encode_image(clip.model, images).shape == (2, 8)


def test_gradient_reaches_the_pixels(clip, images):
    pixels = images.clone().requires_grad_()
    vision.ZeroShotHead(clip.model, clip.tokenizer, ["a", "b"])(pixels)[:, 0].sum().backward()
    assert pixels.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, t, x: vision.encode_text(m, t, []), ValueError, "texts is empty; at least one text is needed"),
        (lambda m, t, x: vision.ZeroShotHead(m, t, []), ValueError, "names is empty"),
        (lambda m, t, x: vision.encode_text(m, t, ["a"], templates=[]), ValueError, "templates is empty"),
        (lambda m, t, x: vision.encode_text(m, t, "cat"), TypeError, "texts='cat' must be a list of strings"),
        (lambda m, t, x: vision.encode_text(m, t, ["a"], templates="a cat"), ValueError, "'a cat' must have exactly"),
        (lambda m, t, x: vision.encode_text(m, t, ["abcdefghijk"]), ValueError, "has 13 tokens; .* at most 12"),
        (lambda m, t, x: vision.encode_image(m, x[:, :, :, :10]), ValueError, "multiples of the patch, 4"),
        (lambda m, t, x: vision.encode_image(m, x[:0]), ValueError, "images is empty"),
        (lambda m, t, x: vision.encode_image(m, x[:, :1]), ValueError, r"images has shape \(3, 1, 16, 16\)"),
        (lambda m, t, x: vision.encode_image(m, x / 0), ValueError, "images has .* NaN or infinite"),
        (lambda m, t, x: vision.patch_features(m, x, kind="key"), ValueError, "kind='key' is unknown"),
        (lambda m, t, x: vision.hidden_patches(m, x, layer=3), ValueError, "layer=3 is out of range"),
        (lambda m, t, x: vision.correlation_pool(x, x, gamma=1.0), ValueError, r"gamma=1.0 is .* accepted: \[0, 1\)"),
        (lambda m, t, x: vision.correlation_pool(x, x, gamma=-0.1), ValueError, "gamma=-0.1 is out of range"),
        (lambda m, t, x: vision.correlation_pool(x[:, 0], x), ValueError, r"values has shape \(3, 16, 16\)"),
        (lambda m, t, x: vision.correlation_pool(x, x[:, :2]), ValueError, r"guide has shape \(3, 2, 16, 16\)"),
        (lambda m, t, x: vision.ZeroShotHead(m, t, ["a"]).from_features(x), ValueError, "features has shape"),
    ],
)  # fmt: skip
def test_bad_input_is_named(clip, images, call, error, message):
    with pytest.raises(error, match=message):
        call(clip.model, clip.tokenizer, images)


def test_another_model_is_refused():
    other = ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    with pytest.raises(TypeError, match="model is a ViTModel without get_image_features"):
        vision.encode_image(other, torch.zeros(1, 3, 224, 224))


# --- written words ----------------------------------------------------------------------------------------------
