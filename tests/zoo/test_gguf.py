"""GGUF to a transformers folder and back to the same model."""

import numpy as np
import pytest
import torch
from gguf import GGUFWriter, TokenType
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from shared.zoo._gguf import convert_llama

TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefghij0123456789", "Ġ", "ab", "Ġa"]
MERGES = ["a b", "Ġ a"]
CONFIG = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8,
    "num_key_value_heads": 2, "vocab_size": len(TOKENS), "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "rope_theta": 1e5, "tie_word_embeddings": True,
}  # fmt: skip
NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def _interleave(weight, heads):
    """What llama.cpp's converter does to query and key weights."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def _write(path, model, architecture="llama"):
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(1e5)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    for name, value in model.state_dict().items():
        value = value.numpy()
        if name.startswith("model.layers."):
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            value = _interleave(value, 4 if "q_proj" in part else 2) if part[10:11] in ("q", "k") else value
            writer.add_tensor(f"blk.{layer}.{NAMES[part]}.weight", np.ascontiguousarray(value))
        elif name != "lm_head.weight":
            writer.add_tensor({"model.embed_tokens.weight": "token_embd.weight"}.get(name, "output_norm.weight"), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG)).eval()
    _write(folder / "model.gguf", model)
    (folder / "out").mkdir()
    convert_llama(folder / "model.gguf", folder / "out")
    return model, folder / "out"


def test_round_trip_gives_the_same_model(converted):
    model, folder = converted
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    old, new = model.state_dict(), again.state_dict()
    assert set(old) == set(new)
    assert all(torch.equal(old[name], new[name]) for name in old)
    ids = torch.tensor([[1, 5, 9, 12, 3, 3, 17, 20]])
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, again(ids).logits)  # rotary base, eps and head layout too
    assert again.config.rms_norm_eps == 1e-5


def test_tokenizer(converted):
    tokenizer = AutoTokenizer.from_pretrained(converted[1])
    assert tokenizer.tokenize("ab a12") == ["ab", "Ġa", "1", "2"]
    assert tokenizer.decode(tokenizer("ab a12").input_ids) == "ab a12"
    assert tokenizer("<|im_start|>a").input_ids == [1, 3]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


def test_other_architecture_is_refused(tmp_path, converted):
    _write(tmp_path / "other.gguf", converted[0], architecture="falcon")
    with pytest.raises(ValueError, match=r"other.gguf holds architecture 'falcon' .*accepted: 'llama' with 'smollm'"):
        convert_llama(tmp_path / "other.gguf", tmp_path)
