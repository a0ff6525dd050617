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
