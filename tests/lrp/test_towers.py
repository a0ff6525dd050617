"""CLIP, torch's own attention, and other contexts around an attribution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.attribution import raw_attention
from shared.hooks import edit, wrap_attention
from shared.lrp import CPLRP, AttnLRP, Composite, UnsupportedModule, attribute, head_relevance

transformer = pytest.mark.parametrize(
    "composite", [AttnLRP(), CPLRP(), AttnLRP(gamma_linear=0.1, gamma_conv=0.25)], ids=["attnlrp", "cp", "gamma"]
)


@pytest.fixture
def clip():
    from transformers import CLIPConfig, CLIPModel

    tower = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    text = dict(vocab_size=50, eos_token_id=49, bos_token_id=1, pad_token_id=0, **tower)
    vision = dict(image_size=16, patch_size=4, **tower)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).double().eval()


@pytest.fixture
def captions(token_ids):
    ids = torch.cat([token_ids, token_ids[:2].flip(1)])
    ids[:, -1] = 49
    return ids.clamp(max=48).index_fill(1, torch.tensor([6]), 49)


@transformer
def test_clip_similarity(composite, clip, captions):
    x = {"pixel_values": torch.randn(2, 3, 16, 16, dtype=torch.float64), "input_ids": captions}
    image = attribute(clip, x, torch.tensor([1, 4]), composite=composite)
    assert torch.allclose(image.output, clip(**x).logits_per_image, atol=1e-10)
    assert image.relevance.shape == (2, 3, 16, 16)
    text = attribute(clip, x, 0, composite=composite, wrt="input_ids", output="logits_per_text")
    assert text.tokens.shape == captions.shape
    with pytest.raises(ValueError, match="has 2 rows for 5 of x; choose another output="):
        attribute(clip, x, 0, composite=composite, wrt="input_ids")
    assert "forward" not in clip.__dict__


def test_clip_similarity_with_constant_lengths(clip, captions):
    """The logit is the similarity with `1 / |embedding|` constant: relevance of the embedding `e * c` sums to it."""
    x = {"pixel_values": torch.randn(2, 3, 16, 16, dtype=torch.float64), "input_ids": captions}
    result = attribute(clip, x, 1, composite=CPLRP(), record=["visual_projection"])
    assert torch.allclose(result.latent["visual_projection"].sum(-1), result.output[:, 1])


@transformer
def test_clip_towers_alone(composite, clip, captions):
    pixels = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    direction = torch.randn(32, dtype=torch.float64)
    vision = attribute(clip.vision_model, pixels, lambda z: direction.expand_as(z), composite=composite)
    assert torch.allclose(vision.output, clip.vision_model(pixels).pooler_output)
    text = attribute(clip.text_model, captions, lambda z: direction.expand_as(z), composite=composite)
    assert text.tokens.shape == captions.shape
    assert head_relevance(clip.vision_model, pixels, None, composite=composite).shape == (2, 2, 4)
    attention = raw_attention(clip.text_model, captions)
    assert (attention.triu(1) == 0).all()  # the text tower is causal, told by an argument and not by a mask
    with pytest.raises(ValueError, match="two towers"):
        head_relevance(clip, {"pixel_values": pixels, "input_ids": captions[:2]}, 0, composite=composite)


class TorchTransformer(nn.Module):
    def __init__(self, batch_first, activation):
        super().__init__()
        self.embed = nn.Linear(5, 16)
        options = dict(dim_feedforward=24, batch_first=batch_first, activation=activation, norm_first=True)
        layer = nn.TransformerEncoderLayer(16, 4, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head, self.batch_first = nn.Linear(16, 3), batch_first

    def forward(self, x, padding=None):
        h = self.embed(x)
        h = h if self.batch_first else h.transpose(0, 1)
        h = self.encoder(h, src_key_padding_mask=padding)
        return self.head(h.mean(1 if self.batch_first else 0))


@transformer
@pytest.mark.parametrize("activation", ["relu", "gelu", nn.GELU()], ids=str)
def test_torch_transformer_encoder(composite, activation):
    torch.manual_seed(1)
    first = TorchTransformer(True, activation).double().eval()
    second = TorchTransformer(False, activation).double().eval()
    second.load_state_dict(first.state_dict())
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    one, two = attribute(first, x, 1, composite=composite), attribute(second, x, 1, composite=composite)
    assert torch.allclose(one.output, first(x), atol=1e-10)
    assert torch.allclose(one.relevance, two.relevance, atol=1e-12)
    assert first.encoder.layers[0].activation is not None
    assert torch.allclose(first(x), one.output, atol=1e-10)
    with pytest.raises(UnsupportedModule, match="no LRP rule for the operation"):
        attribute(first, x, 1, composite=Composite([]))


def test_torch_attention_equals_the_same_attention_of_a_vit(make_vit):
    """One ViT layer against nn.MultiheadAttention with its weights."""
    vit = make_vit(num_hidden_layers=1, initializer_range=0.3).double().vit.layers[0].attention
    mha = nn.MultiheadAttention(32, 4, batch_first=True).double().eval()
    with torch.no_grad():
        mha.in_proj_weight.copy_(torch.cat([vit.q_proj.weight, vit.k_proj.weight, vit.v_proj.weight]))
        mha.in_proj_bias.copy_(torch.cat([vit.q_proj.bias, vit.k_proj.bias, vit.v_proj.bias]))
        mha.out_proj.load_state_dict(vit.o_proj.state_dict())

    class Ours(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            arguments = (x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else (x,)
            return self.layer(*arguments)[0].mean(1)

    x = torch.randn(2, 6, 32, dtype=torch.float64)
    for composite in (AttnLRP(), CPLRP(), AttnLRP(gamma_linear=0.2)):
        a, b = (attribute(Ours(layer), x, 3, composite=composite).relevance for layer in (vit, mha))
        assert torch.allclose(a, b, atol=1e-10)


def test_masks_of_torch_attention():
    model = TorchTransformer(True, "gelu").double().eval()
    x, padding = torch.randn(2, 6, 5, dtype=torch.float64), torch.zeros(2, 6, dtype=torch.bool)
    padding[1, 4:] = True

    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x, padding)

    result = attribute(Padded(), x, 0, composite=AttnLRP())
    assert torch.allclose(result.output, model(x, padding), atol=1e-10)


def double_values(call, module, q, k, v, *args, **kwargs):
    return call(module, q, k, 2 * v, *args, **kwargs)


def test_attention_edits_nest_with_lrp_in_any_order(make_llama, token_ids):
    """An edit of the values outside and inside the LRP context explains the same edited model."""
    model = make_llama().double()
    with wrap_attention(model, double_values):
        edited = model(token_ids).logits[:, -1]
        outside = attribute(model, token_ids, 3, composite=AttnLRP())
    assert torch.allclose(outside.output, edited, atol=1e-10)
    embeds = model.get_input_embeddings()(token_ids).detach().requires_grad_()
    with AttnLRP().context(model), wrap_attention(model, double_values):
        logits = model(inputs_embeds=embeds, use_cache=False).logits[:, -1]
        (c,) = torch.autograd.grad(logits[:, 3].sum(), embeds)
    assert torch.allclose(embeds * c, outside.relevance, atol=1e-12)
    assert not torch.allclose(outside.relevance, attribute(model, token_ids, 3, composite=AttnLRP()).relevance)


def test_module_edits_nest_with_lrp(residual_net, images):
    with edit(residual_net, {"bn2": lambda z: z * 0}):
        result = attribute(residual_net, images, 1, composite=Composite([]), record=["conv2"])
        assert torch.allclose(result.output, residual_net(images))
    assert (result.latent["conv2"] == 0).all()
