"""Text sets as tables, and sentence vectors."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor


def read_texts(path: Path) -> pd.DataFrame:
    """A text set as a table, one row per line of a gzipped JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return pd.DataFrame([json.loads(line) for line in lines])


@torch.no_grad()
def embed_texts(encoder: Any, texts: Sequence[str], batch_size: int = 64) -> Tensor:
    """Sentence vectors (N, d) of a text encoder: the mean of the last hidden states over real tokens, length 1.

    encoder : `LoadedModel`, e.g. `load_model("minilm-l6")`. Batches are of like length, so little is padded.
    """
    texts = list(texts)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = torch.empty(len(texts), encoder.model.config.hidden_size)
    for low in range(0, len(order), batch_size):
        rows = order[low : low + batch_size]
        batch = encoder.tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
        batch = batch.to(encoder.model.device)
        mask = batch["attention_mask"].unsqueeze(-1)
        hidden = encoder.model(**batch).last_hidden_state
        out[rows] = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).float().cpu()
    return out


@torch.no_grad()
def generate_texts(
    loaded: Any,
    prompt: str,
    n: int,
    *,
    seed: int,
    max_new_tokens: int,
    system: str | None = "You are a helpful assistant.",
    batch_size: int = 50,
    temperature: float = 0.7,
    top_p: float = 0.9,
    top_k: int = 10,
) -> list[str]:
    """Sample `n` answers of a chat model to one prompt; every call has a random stream of its own, given by `seed`.

    loaded : `LoadedModel`, e.g. `load_model("smollm2-135m")`; its tokenizer's chat template is used if it has one.
    """
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    model, tokenizer = loaded.model, loaded.tokenizer
    if getattr(tokenizer, "chat_template", None):
        given = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        given = tokenizer(prompt, return_tensors="pt")
    start = given["input_ids"].shape[1]
    options = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    end = tokenizer.eos_token_id
    texts: list[str] = []
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        while len(texts) < n:
            size = min(batch_size, n - len(texts))
            rows = {k: given[k].repeat(size, 1).to(model.device) for k in ("input_ids", "attention_mask")}
            out = model.generate(**rows, max_new_tokens=max_new_tokens, pad_token_id=end, **options)
            texts += tokenizer.batch_decode(out[:, start:], skip_special_tokens=True)
    return [t.strip() for t in texts]
