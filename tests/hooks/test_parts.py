"""The table of part names against models of each family, built tiny."""

import pytest
import torch

from shared.hooks import capture, find_channel_axis, find_module, transformer_parts

transformers = pytest.importorskip("transformers")
TINY = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
TEXT = {**TINY, **IDS, "vocab_size": 9}
IMAGE = {**TINY, "image_size": 8, "patch_size": 4}
GROUPED = {**TEXT, "num_key_value_heads": 1}
MODELS = {
    "Llama": (GROUPED, "LlamaForCausalLM"),
    "Mistral": (GROUPED, "MistralForCausalLM"),
    "Qwen2": (GROUPED, "Qwen2ForCausalLM"),
    "Qwen3": ({**GROUPED, "head_dim": 4}, "Qwen3ForCausalLM"),
    "Gemma": ({**GROUPED, "head_dim": 4}, "GemmaForCausalLM"),
    "Gemma2": ({**GROUPED, "head_dim": 4}, "Gemma2ForCausalLM"),
    "Gemma3Text": ({**GROUPED, "head_dim": 4}, "Gemma3ForCausalLM"),
    "Phi3": (GROUPED, "Phi3ForCausalLM"),
    "GPT2": ({"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 9, **IDS}, "GPT2LMHeadModel"),
    "GPTNeoX": (TEXT, "GPTNeoXForCausalLM"),
    "OPT": ({**TEXT, "ffn_dim": 16, "word_embed_proj_dim": 8}, "OPTForCausalLM"),
    "Bert": (TEXT, "BertForMaskedLM"),
    "Roberta": (TEXT, "RobertaModel"),
    "ViT": (IMAGE, "ViTForImageClassification"),
    "Dinov2": ({**IMAGE, "mlp_ratio": 2}, "Dinov2Model"),
    "CLIPVision": (IMAGE, "CLIPVisionModel"),
    "SiglipText": (TEXT, "SiglipTextModel"),
}
PARTS = ("query", "key", "value", "output", "down", "attention_norm", "mlp_norm", "attention_write", "mlp_write")


def build(family):
    options, name = MODELS[family]
    torch.manual_seed(0)
    return getattr(transformers, name)(getattr(transformers, f"{family}Config")(**options)).eval()


def run(model):
    images = hasattr(model.config, "image_size")
    with torch.no_grad():
        return model(torch.rand(2, 3, 8, 8) if images else torch.tensor([[3, 4, 5, 6]] * 2))


@pytest.mark.parametrize("family", MODELS)
def test_what_is_written_adds_up_to_the_stream(family):
    model = build(family)
    parts = transformer_parts(model)
    block, attention, mlp = (parts.layer(p, 0) for p in ("block", "attention_write", "mlp_write"))
    with capture(model, [block], at="input") as into, capture(model, [block, attention, mlp]) as out:
        run(model)
    added = out[mlp].view_as(out[block])  # OPT flattens batch and tokens
    if parts.post_norm:
        first = find_module(model, parts.layer("attention_norm", 0))(into[block] + out[attention])
        expected = find_module(model, parts.layer("mlp_norm", 0))(first + added)
    else:
        expected = into[block] + out[attention] + added
    torch.testing.assert_close(out[block], expected)


@pytest.mark.parametrize("family", MODELS)
def test_all_names_are_there_and_run(family):
    model = build(family)
    parts = transformer_parts(model)
    names = [parts.layer(part, number) for part in PARTS for number in range(2)]
    names += [parts.embedding, *([parts.final_norm] if parts.final_norm else [])]
    with capture(model, [*names, parts.layer("block", 1)]) as seen:
        run(model)
    assert seen.keys() == {*names, parts.layer("block", 1)}
    find_module(model, parts.layer("attention", 1))
    block = parts.layer("block", 1)
    assert find_channel_axis(model, block, seen[block]) == 2
    assert len(find_module(model, parts.blocks)) == 2


def test_the_base_model_has_the_same_names_without_the_prefix():
    model = build("GPT2")
    assert transformer_parts(model).layer("down", 1) == "transformer.h.1.mlp.c_proj"
    assert transformer_parts(model.transformer).layer("down", 1) == "h.1.mlp.c_proj"


def test_a_tower_of_clip():
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=IMAGE))
    assert transformer_parts(model, tower="vision_model").layer("block", 0) == "vision_model.encoder.layers.0"
    assert transformer_parts(model, tower="text_model").final_norm == "text_model.final_layer_norm"
    with pytest.raises(ValueError, match="two towers; pass tower="):
        transformer_parts(model)


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="Linear without config"):
        transformer_parts(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="family 't5', which is not in the table: llama"):
        transformer_parts(
            transformers.T5Model(transformers.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
        )
    with pytest.raises(ValueError, match="part='up' is unknown; known: block, attention"):
        transformer_parts(build("Llama")).layer("up", 0)
