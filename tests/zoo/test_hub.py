"""Hub ids and local folders through one loader: a tiny local hub, no network, no pickle, no remote code."""

import json
import time

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from shared import zoo
from shared.lrp import head_relevance

LLAMA = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 12,
    "num_key_value_heads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub folder with a language model, a vision transformer, a CLIP, and data sets."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).save_pretrained(root / "org/lm")
    words = {word: i for i, word in enumerate(["<unk>", "a", "b", "c"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(root / "org/lm")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(root / "org/vit")
    processor = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.5, 0.25], "size": {"height": 16, "width": 16}}
    (root / "org/vit/preprocessor_config.json").write_text(json.dumps(processor))
    (root / "org/pickled").mkdir()
    (root / "org/pickled/config.json").write_text((root / "org/lm/config.json").read_text())
    torch.save({}, root / "org/pickled/pytorch_model.bin")
    texts = root / "datasets/org/texts/data"
    texts.mkdir(parents=True)
    pd.DataFrame({"text": ["one", "two"]}).to_json(texts / "train-0.jsonl", orient="records", lines=True)
    pd.DataFrame({"text": ["three"]}).to_json(texts / "test-0.jsonl", orient="records", lines=True)
    arrays = root / "datasets/org/arrays"
    arrays.mkdir()
    np.savez(arrays / "all.npz", x=np.arange(6.0).reshape(3, 2), y=np.arange(3))
    (root / "datasets/org/odd").mkdir()
    np.savez(root / "datasets/org/odd/a.npz", z=np.zeros(2))
    (root / "datasets/org/empty").mkdir()
    return root


@pytest.fixture(autouse=True)
def _local_hub(hub, monkeypatch):
    monkeypatch.setenv("REPRISE_HUB", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_language_model_with_tokenizer(hub):
    lm = zoo.load_model("org/lm", attn_implementation="eager")
    assert type(lm.model) is transformers.LlamaForCausalLM
    assert lm.model.config._attn_implementation == "eager"
    assert not lm.model.training
    assert lm.info.name == "org/lm"
    assert lm.info.classes is None
    ids = lm.tokenizer("a b c", return_tensors="pt").input_ids
    assert ids.tolist() == [[1, 2, 3]]
    direct = transformers.LlamaForCausalLM.from_pretrained(hub / "org/lm", dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(lm.model(ids).logits, direct(ids, use_cache=False).logits) or torch.allclose(
            lm.model(ids).logits, direct(ids).logits, atol=1e-6
        )


def test_optional_model_of_another_family_by_its_id(tmp_path, monkeypatch):
    """The hub's own google/gemma-3-270m, which the zoo has as an optional asset: its family loads by the hub's id."""
    given = {**LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8}
    model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**given))
    model.save_pretrained(tmp_path / "google/gemma-3-270m")
    monkeypatch.setenv("REPRISE_HUB", str(tmp_path))
    loaded = zoo.load_model("google/gemma-3-270m")
    assert type(loaded.model) is transformers.Gemma3ForCausalLM
    ids = torch.tensor([[1, 2, 3]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    relevance = head_relevance(loaded.model, inputs, torch.tensor([4]), positive=True)
    assert relevance.shape == (1, 2, 2)
    assert relevance.isfinite().all()
    assert (relevance > 0).any()


def test_image_model_knows_its_input(hub):
    vit = zoo.load_model("org/vit", dtype=torch.float64)
    assert type(vit.model) is transformers.ViTForImageClassification
    assert vit.tokenizer is None
    assert vit.model.dtype == torch.float64
    assert vit.info.classes == ["cat", "dog"]
    assert vit.info.input_size == (3, 16, 16)
    prepared = vit.preprocess(torch.full((1, 3, 16, 16), 0.8, dtype=torch.float64))
    assert torch.allclose(prepared[0, :, 0, 0], torch.tensor([0.6, 0.8, 2.0], dtype=torch.float64))
    assert vit.model(prepared).logits.shape == (1, 2)


def test_local_folder_and_other_class(hub, monkeypatch):
    monkeypatch.delenv("REPRISE_HUB")
    base = zoo.load_model(str(hub / "org/lm"), auto="AutoModel")
    assert type(base.model) is transformers.LlamaModel
    with pytest.raises(ValueError, match="auto='AutoModelForCausal' is unknown; did you mean 'AutoModelForCausalLM'"):
        zoo.load_model(str(hub / "org/lm"), auto="AutoModelForCausal")


def test_data_sets():
    texts = zoo.load_data("org/texts")
    assert texts.texts == ["one", "two"]
    assert zoo.load_data("org/texts", split="test").texts == ["three"]
    arrays = zoo.load_data("org/arrays")
    assert arrays.x.shape == (3, 2)
    assert arrays.y.tolist() == [0, 1, 2]
    assert type(arrays) is zoo.TableData
    assert arrays.card is None
    with pytest.raises(ValueError, match="split='dev' is unknown; known: test, train"):
        zoo.load_data("org/texts", split="dev")


def test_first_rows_only():
    assert zoo.load_data("org/texts", rows=1).texts == ["one"]
    assert zoo.load_data("org/arrays", rows=2).y.tolist() == [0, 1]
    with pytest.raises(ValueError, match="rows=0"):
        zoo.load_data("org/texts", rows=0)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            lambda: zoo.load_model("org/none"),
            r"org/none isn't on this machine and the hub can't be reached; .*org/none$",
        ),
        (lambda: zoo.load_data("org/none"), r"set REPRISE_HUB to a folder that holds datasets/org/none$"),
        (lambda: zoo.load_model("./nowhere"), r"\./nowhere is no folder on this machine"),
        (lambda: zoo.load_model("org/pickled"), "org/pickled has no safetensors weights"),
        (lambda: zoo.load_data("org/odd"), r"org/odd: a.npz has no array x \(it has z\)"),
        (lambda: zoo.load_data("org/empty"), r"org/empty has no .parquet, .jsonl, .tar, .npz file"),
    ],
)
def test_what_is_missing_is_one_line(load, message):
    start = time.perf_counter()
    with pytest.raises(zoo.AssetError, match=message) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert time.perf_counter() - start < 5


def test_remote_code_is_never_run(hub, tmp_path):
    """A folder whose config asks for its own code is refused before any of it is imported."""
    folder = tmp_path / "sly"
    zoo.load_model("org/lm").model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "sly", "auto_map": {"AutoConfig": "sly.C", "AutoModelForCausalLM": "sly.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "sly.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ValueError, match=r"trust_remote_code|custom code|does not recognize"):
        zoo.load_model(str(folder))
    assert not (tmp_path / "ran").exists()


def test_without_offline_flag_it_still_fails_at_once(monkeypatch):
    """The hub is asked once; any error of the network ends in the same line."""
    import huggingface_hub

    asked = []

    def refuse(*arguments, **options):
        asked.append(options)
        raise ConnectionError("no route")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", refuse)
    with pytest.raises(zoo.AssetError, match="the hub can't be reached"):
        zoo.load_model("org/none", revision="abc")
    assert len(asked) == 1
    assert asked[0]["revision"] == "abc"


def test_a_repository_that_is_not_here_says_how_to_clone_it(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_HUB", str(tmp_path))
    with pytest.raises(zoo.AssetError, match=r"git clone https://github.com/owner/tables \"\$REPRISE_HUB/datasets/ow"):
        zoo.clone_folder("owner/tables")
    (tmp_path / "datasets/owner/tables").mkdir(parents=True)
    assert zoo.clone_folder("owner/tables") == tmp_path / "datasets/owner/tables"
    assert zoo.clone_folder(str(tmp_path)) == tmp_path
