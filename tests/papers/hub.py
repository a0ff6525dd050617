"""Tiny stand-ins for hub models and data: real architectures and file layouts, random weights, a few rows.

A stand-in of a paper (`stand_ins/<slug>.py`) writes them under the hub ids that its paper.yml names:

    from tests.papers.hub import data_folder, tiny_llama, tiny_text_dataset

    def build(hub):
        tiny_llama(hub / "meta-llama" / "Llama-2-7b-hf")
        tiny_text_dataset(data_folder(hub, "stanfordnlp/imdb"), {"text": ["good film", "bad film"], "label": [1, 0]})

    PARAMETERS = {"n_rows": 2}  # overrides of paper.yml that only shrink loops
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import torch
import transformers
from PIL import Image
from pyarrow import parquet
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

WORDS = (
    "the of and a to in is was for on as with by at from that which he she it they are were be has have this not or "
    "one two three first new year time people city world war state film music work king river house water school "
    "key keys cabinet author authors near behind book books table door garden red blue green cat dog bird good bad "
    "great small old long high known called made born between during after before over under where who what when how"
).split()
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")


@dataclass(frozen=True)
class Layout:
    """How a data set of the hub lies there: the folder of its files, its column of images, whether they are photos."""

    folder: str = "data"
    image: str = "image"
    photos: bool = True


LAYOUTS = {
    "uoft-cs/cifar10": Layout("plain_text", "img", photos=False),
    "ylecun/mnist": Layout("mnist", photos=False),
    "zalando-datasets/fashion_mnist": Layout("fashion_mnist", photos=False),
}


def data_folder(hub: Path, name: str) -> Path:
    """Where a data set of the hub lies in a local hub."""
    return hub / "datasets" / name


def tiny_tokenizer(
    folder: Path, words: Sequence[str] = WORDS, *, start: bool = True
) -> transformers.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a token of its own for each of `words`, saved to `folder`.

    With `start` it adds `<s>`, as Llama's does; without it knows that token but adds none, as GPT-2's and SmolLM's.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join([word, word]) for word in words for _ in range(2)], trainer)
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    return _save_tokenizer(tokenizer, folder)


def tiny_wordpiece_tokenizer(folder: Path, words: Sequence[str] = WORDS) -> transformers.PreTrainedTokenizerFast:
    """A lower-casing word-piece tokenizer with BERT's special tokens, saved to `folder`."""
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    special["mask_token"] = "[MASK]"
    letters = [c for letter in "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-" for c in (letter, f"##{letter}")]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*special.values(), *letters, *words]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return _save_tokenizer(tokenizer, folder, **special)


def tiny_llama(folder: Path, *, start: bool = True, **config: Any) -> None:
    """`LlamaForCausalLM` with grouped-query attention, and a tokenizer with or without a start token."""
    tokenizer = tiny_tokenizer(folder, start=start)
    given = {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 512, **_ids(tokenizer), **config}
    _save(transformers.LlamaForCausalLM, transformers.LlamaConfig(**given), folder)


def tiny_mixtral(folder: Path, **config: Any) -> None:
    """`MixtralForCausalLM` with four experts, and a tokenizer."""
    tokenizer = tiny_tokenizer(folder)
    given = {**SMALL, "num_key_value_heads": 2, "num_local_experts": 4, "max_position_embeddings": 512}
    _save(transformers.MixtralForCausalLM, transformers.MixtralConfig(**{**given, **_ids(tokenizer), **config}), folder)


def tiny_qwen3(folder: Path, **config: Any) -> None:
    """`Qwen3ForCausalLM`, whose heads' size is not width / heads, and a tokenizer with a chat template and no start."""
    tokenizer = tiny_tokenizer(folder, start=False)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    given = {**SMALL, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512}
    _save(transformers.Qwen3ForCausalLM, transformers.Qwen3Config(**{**given, **_ids(tokenizer), **config}), folder)


def tiny_gpt2(folder: Path, **config: Any) -> None:
    """`GPT2LMHeadModel` and a tokenizer that adds no start token."""
    tokenizer = tiny_tokenizer(folder, start=False)
    given = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, **_ids(tokenizer), **config}
    _save(transformers.GPT2LMHeadModel, transformers.GPT2Config(**given), folder)


def tiny_t5(folder: Path, **config: Any) -> None:
    """`T5ForConditionalGeneration` with gated feed-forward layers (as flan-t5), and a tokenizer."""
    tokenizer = tiny_tokenizer(folder)
    given = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu"}
    ids = {**_ids(tokenizer), "decoder_start_token_id": tokenizer.pad_token_id}
    _save(transformers.T5ForConditionalGeneration, transformers.T5Config(**{**given, **ids, **config}), folder)


def tiny_bert(folder: Path, architecture: str = "BertForSequenceClassification", **config: Any) -> None:
    """A BERT with the named head, and a word-piece tokenizer."""
    tokenizer = tiny_wordpiece_tokenizer(folder)
    given = {**SMALL, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **config}
    _save(getattr(transformers, architecture), transformers.BertConfig(**given), folder)


def tiny_vit(folder: Path, n_classes: int = 1000, image_size: int = 224, patch_size: int = 16, **config: Any) -> None:
    """`ViTForImageClassification` with the image processor's file (mean and standard deviation 0.5)."""
    given = {**SMALL, "image_size": image_size, "patch_size": patch_size, "num_labels": n_classes, **config}
    _save(transformers.ViTForImageClassification, transformers.ViTConfig(**given), folder)
    _image_processor(folder, "ViTImageProcessor", "size", image_size, [0.5] * 3, [0.5] * 3)


def tiny_dinov2(folder: Path, **config: Any) -> None:
    """`Dinov2Model` of 14-pixel patches, without a head, and the image processor's file (crops of 224 pixels)."""
    given = {**SMALL, "image_size": 56, "patch_size": 14, **config}
    _save(transformers.Dinov2Model, transformers.Dinov2Config(**given), folder)
    _image_processor(folder, "BitImageProcessor", "crop_size", 224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def tiny_resnet(folder: Path, **config: Any) -> None:
    """A ResNet of random weights with `config`, and the preprocessing of 64-pixel images."""
    _save(transformers.ResNetForImageClassification, transformers.ResNetConfig(**config), folder)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    _image_processor(folder, "ConvNextImageProcessor", "size", 64, mean, std)


def tiny_open_clip(folder: Path, *, layers: int, patch: int, width: int = 16, side: int = 64) -> None:
    """A CLIP of random weights in OpenCLIP's layout, as LAION's: `layers` vision blocks, one text block.

    It reads with the tokenizer of clip-shapes; the pickle beside the weights must never be opened.
    """
    from shared.zoo.recipes._small_clip import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    vision = {"layers": layers, "width": width, "head_width": width // 2, "mlp_ratio": 2.0}
    text = {"layers": 1, "width": width, "heads": 2, "mlp_ratio": 2.0}
    model = {
        "embed_dim": width,
        "vision_cfg": vision | {"image_size": side, "patch_size": patch},
        "text_cfg": text | {"context_length": 40, "vocab_size": len(tokenizer)},
    }
    save_file(open_clip_weights(model), folder / "open_clip_model.safetensors")
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"a pickle")
    images = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    content = {"model_cfg": model, "preprocess_cfg": images}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")


def open_clip_weights(model: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Random weights in OpenCLIP's layout of its `model_cfg`; none is one or zero, so that each must find its place."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 0.5) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * scale

    state = {"logit_scale": draw() + 2}
    vision_cfg, text_cfg, embed = model["vision_cfg"], model["text_cfg"], model["embed_dim"]
    width, patch = vision_cfg["width"], vision_cfg["patch_size"]
    state |= {
        "visual.class_embedding": draw(width),
        "visual.positional_embedding": draw((vision_cfg["image_size"] // patch) ** 2 + 1, width),
        "visual.conv1.weight": draw(width, 3, patch, patch, scale=0.2),
        "visual.proj": draw(width, embed),
        "token_embedding.weight": draw(text_cfg["vocab_size"], text_cfg["width"]),
        "positional_embedding": draw(text_cfg["context_length"], text_cfg["width"]),
        "text_projection": draw(text_cfg["width"], embed),
    }
    norms = [("visual.ln_pre", width), ("visual.ln_post", width), ("ln_final", text_cfg["width"])]
    for prefix, cfg in (("visual.transformer", vision_cfg), ("transformer", text_cfg)):
        d = cfg["width"]
        hidden = int(d * cfg.get("mlp_ratio", 4))
        for i in range(cfg["layers"]):
            block = f"{prefix}.resblocks.{i}"
            norms += [(f"{block}.ln_1", d), (f"{block}.ln_2", d)]
            state |= {
                f"{block}.attn.in_proj_weight": draw(3 * d, d, scale=0.3),
                f"{block}.attn.in_proj_bias": draw(3 * d),
            }
            for name, rows, columns in (("attn.out_proj", d, d), ("mlp.c_fc", hidden, d), ("mlp.c_proj", d, hidden)):
                state |= {f"{block}.{name}.weight": draw(rows, columns, scale=0.3), f"{block}.{name}.bias": draw(rows)}
    for name, d in norms:
        state |= {f"{name}.weight": 1 + draw(d), f"{name}.bias": draw(d)}
    return state


def tiny_image_dataset(
    folder: Path, n: int = 8, n_classes: int = 2, shape: tuple[int, int, int] = (3, 224, 224), split: str = "train"
) -> None:
    """Random images of about `shape` and labels, in two shards of parquet with the columns of the data set's own.

    Photographs are JPEGs of several sizes, the second of them grey, the third CMYK; other sets have PNGs of one size.
    """
    real = LAYOUTS.get("/".join(folder.parts[-2:]), Layout())
    rng = np.random.default_rng(0)
    channels, height, width = shape
    cells = []
    for i in range(n):
        ragged = (i * 7 % 13, i * 5 % 11) if real.photos else (0, 0)
        pixels = rng.integers(0, 256, (height + ragged[0], width + ragged[1], channels), dtype=np.uint8)
        image = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)
        image = image.convert({1: "L", 2: "CMYK"}.get(i, "RGB")) if real.photos else image
        file = io.BytesIO()
        image.save(file, "JPEG" if real.photos else "PNG")
        cells.append({"bytes": file.getvalue(), "path": f"{i}.jpg"})
    names = {"names": [f"class {c}" for c in range(n_classes)], "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": names}}})}
    table = pyarrow.table({real.image: cells, "label": [i % n_classes for i in range(n)]})
    table = table.replace_schema_metadata(metadata)
    (folder / real.folder).mkdir(parents=True, exist_ok=True)
    for shard, part in enumerate((table.slice(0, n // 2), table.slice(n // 2))):
        parquet.write_table(part, folder / real.folder / f"{split}-{shard:05d}-of-00002.parquet")


def tiny_text_dataset(folder: Path, columns: Mapping[str, Sequence[Any]], split: str = "train") -> None:
    """A table as `<split>.jsonl`, one row per line."""
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(dict(columns)).to_json(folder / f"{split}.jsonl", orient="records", lines=True)


def sentences(n: int, length: int = 20) -> list[str]:
    """`n` sentences of random words of `WORDS`."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, length)).capitalize() + "." for _ in range(n)]


def _save(architecture: type, config: transformers.PretrainedConfig, folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        architecture(config).save_pretrained(folder)


def _save_tokenizer(tokenizer: Tokenizer, folder: Path, **special: str) -> transformers.PreTrainedTokenizerFast:
    names = ("unk_token", "bos_token", "eos_token", "pad_token")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(special or dict(zip(names, SPECIAL))))
    fast.save_pretrained(folder)
    return fast


def _ids(tokenizer: transformers.PreTrainedTokenizerFast) -> dict[str, int]:
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {"vocab_size": len(tokenizer), **ends}


def _image_processor(
    folder: Path, kind: str, size_key: str, side: int, mean: Sequence[float], std: Sequence[float]
) -> None:
    size = {"height": side, "width": side}
    content = {"image_processor_type": kind, size_key: size, "image_mean": mean, "image_std": std}
    (folder / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")
