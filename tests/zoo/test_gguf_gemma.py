"""GGUF with a Gemma 3 to a transformers folder and back to the same model; its tokenizer by SentencePiece's rule."""

import json

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

from shared.lm import start_token, token_ids
from shared.zoo._gguf_gemma import convert_gemma3

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
DEFINED = ["\n", "\n\n", "  "]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LEARNED = ["he", "ll", "▁h", "hell", "▁hell", "el", *"helo▁x1"]  # the best first: its place is its score
TOKENS = [*SPECIAL, *DEFINED, *BYTES, *LEARNED]
TYPES = [TokenType.CONTROL] * 4 + [TokenType.USER_DEFINED] * 3 + [TokenType.BYTE] * 256
TYPES += [TokenType.NORMAL] * len(LEARNED)
SCORES = [-1000.0] * 7 + [0.0] * 256 + [-float(i) for i in range(len(LEARNED))]
BASES = {"full_attention": 1e6, "sliding_attention": 1e4}
CONFIG = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 7, "num_attention_heads": 4, "head_dim": 16,
    "num_key_value_heads": 2, "query_pre_attn_scalar": 16, "vocab_size": len(TOKENS), "max_position_embeddings": 64,
    "sliding_window": 4, "rms_norm_eps": 1e-6,
    "rope_parameters": {kind: {"rope_type": "default", "rope_theta": base} for kind, base in BASES.items()},
}  # fmt: skip
NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
Q8 = GGMLQuantizationType.Q8_0


def _write(path, model, architecture="gemma3", scaled=False):
    """As llama.cpp's converter does: norms as 1 + weight, nothing of the layers' kinds; `mlp.up_proj` in 8 bits."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(CONFIG["num_hidden_layers"])
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_sliding_window(4)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    if scaled:
        writer.add_rope_scaling_factor(8.0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_types(TYPES)
    writer.add_token_scores(SCORES)
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    for name, value in model.state_dict().items():
        value = value.numpy() + (1 if name.endswith("norm.weight") else 0)
        if name.startswith("model.layers."):
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            packed = {"raw_dtype": Q8} if part == "mlp.up_proj" else {}
            value = quantize(value, Q8) if packed else value
            writer.add_tensor(f"blk.{layer}.{NAMES[part]}.weight", np.ascontiguousarray(value), **packed)
        elif name != "lm_head.weight":
            writer.add_tensor(TOP[name], value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """transformers' own tiny model, with norms of random gain, and the folder that its file became."""
    folder = tmp_path_factory.mktemp("gguf")
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(Gemma3TextConfig(**CONFIG)).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("norm.weight"):
                value.copy_(torch.randint(-64, 64, value.shape) / 256)  # exact beside 1
            elif name.endswith("up_proj.weight"):
                value.copy_(torch.from_numpy(dequantize(quantize(value.numpy(), Q8), Q8)))
    _write(folder / "model.gguf", model)
    (folder / "out").mkdir()
    convert_gemma3(folder / "model.gguf", folder / "out")
    return model, folder / "out"


def test_round_trip_gives_the_same_model(converted):
    model, folder = converted
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    old, new = model.state_dict(), again.state_dict()
    assert set(old) == set(new)
    assert all(torch.equal(old[name], new[name]) for name in old)
    ids = torch.tensor([[2, *range(263, 275), 5, 6]])  # longer than a window; six local layers and a global one
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, again(ids).logits)
    assert again.config.layer_types == ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    assert again.config.layer_types == model.config.layer_types
    assert again.config.rms_norm_eps == 1e-6


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("hell", ["hell"]),  # he, ll, then both
        ("hello", ["hell", "o"]),
        (" hell", ["▁hell"]),
        (" hx", ["▁h", "x"]),
        ("x  hell", ["x", "  ", "hell"]),  # two blanks are cut out before anything merges
        ("x\n\n\nx", ["x", "\n\n", "\n", "x"]),
        ("é1", ["<0xC3>", "<0xA9>", "1"]),
        ("", []),
    ],
)
def test_tokenizer(converted, text, tokens):
    tokenizer = AutoTokenizer.from_pretrained(converted[1])
    assert tokenizer.tokenize(text) == tokens
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id == 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert ids == token_ids(tokenizer, text)


def test_tokenizer_knows_its_special_tokens(converted):
    tokenizer = AutoTokenizer.from_pretrained(converted[1])
    assert start_token(tokenizer) == 2
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id) == (1, 0, 3)
    assert tokenizer("<eos>x", add_special_tokens=False).input_ids == [1, TOKENS.index("x")]
    assert len(tokenizer) == len(TOKENS)
    assert json.loads((converted[1] / "generation_config.json").read_text()) == {"bos_token_id": 2, "eos_token_id": 1}


def test_other_files_are_refused(tmp_path, converted):
    _write(tmp_path / "other.gguf", converted[0], architecture="gemma2")
    with pytest.raises(ValueError, match=r"other.gguf holds architecture 'gemma2' .*accepted: 'gemma3' with 'llama'"):
        convert_gemma3(tmp_path / "other.gguf", tmp_path)
    _write(tmp_path / "large.gguf", converted[0], scaled=True)
    with pytest.raises(ValueError, match=r"large.gguf scales positions .*270M and 1B"):
        convert_gemma3(tmp_path / "large.gguf", tmp_path)


def test_tokenizer_equals_sentencepiece(converted):
    """The peer, given the same pieces. (On the real file's 262,144 pieces it agreed on 1,712 texts: see the card.)"""
    sentencepiece = pytest.importorskip("sentencepiece")
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.byte_fallback = 2, True  # byte-pair encoding
    trainer.pad_id, trainer.eos_id, trainer.bos_id, trainer.unk_id = range(4)
    normalizer.name, normalizer.escape_whitespaces = "identity", True
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = False
    for token, score, kind in zip(TOKENS, SCORES, TYPES):
        piece = proto.pieces.add(piece=token.replace(" ", "▁"), score=score)
        piece.type = 2 if token == "<unk>" else int(kind)
    peer = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    tokenizer = AutoTokenizer.from_pretrained(converted[1])
    rng = np.random.default_rng(0)
    for text in ("".join(rng.choice(list("hhelll ox1\né漢"), 40)) for _ in range(200)):
        assert tokenizer(text, add_special_tokens=False).input_ids == peer.encode(text)
