"""Small language models of known grammar: one architecture, one way to train, texts from `worlds`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from shared.nets import small_decoder
from shared.zoo.recipes._ship import ship, write_json, write_weights
from shared.zoo.recipes._train import keep, one_thread, resume

Texts = Callable[[int, np.random.Generator], Sequence[str]]
Weights = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Grammar:
    """What tells one small language model from another: its words and texts, and what is measured of it.

    `texts(n, generator)` writes them; `weights(ids)` (B, S) says how much each token counts as a target;
    `measure(folder)` gives the numbers that the card states; `drawn` names the function of `worlds` behind `texts`.
    """

    title: str
    words: Sequence[str]
    texts: Texts
    weights: Weights
    measure: Callable[[Path], dict[str, float]]
    drawn: str
    notes: str
    steps: int
    batch: int = 64


def ship_decoder(folder: Path, grammar: Grammar) -> None:
    """The recipe of every grammar: train, round to half precision, measure, write the checkpoint and its card."""
    steps, batch = grammar.steps, grammar.batch
    ship(
        folder,
        train=lambda kept: train_decoder(kept, grammar.words, grammar.texts, grammar.weights, steps=steps, batch=batch),
        write=lambda model, folder: write_decoder(model, grammar.words, folder),
        measure=grammar.measure,
        title=grammar.title,
        task="causal-lm",
        source=f"Trained by Reprise on fresh texts of {grammar.drawn}, {steps:,} steps of {batch}",
        notes=grammar.notes,
    )


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that splits at blanks and knows these words only; the first is the start token, id 0."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=words[0], eos_token=words[0], pad_token=words[0]
    )


def train_decoder(
    kept: Path,
    words: Sequence[str],
    texts: Texts,
    weights: Weights,
    *,
    steps: int,
    batch: int = 64,
    lr: float = 4e-3,
    seed: int = 0,
    **sizes: int,
) -> LlamaForCausalLM:
    """Train on fresh texts for every step; goes on from what a killed run left in `kept`."""
    tokenizer = word_tokenizer(words)
    with one_thread():
        model = small_decoder(len(words), generator=torch.Generator().manual_seed(seed), **sizes).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
        start = resume(kept / "decoder.safetensors", {"model": model}, optimizer)
        for step in (bar := tqdm(range(start, steps), initial=start, total=steps, leave=False, mininterval=20)):
            optimizer.param_groups[0]["lr"] = lr * _share(step / steps)
            ids = _padded(tokenizer, texts(batch, np.random.default_rng([seed, step])))
            loss = weighted_loss(model(ids, use_cache=False).logits, ids, weights(ids))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            if step % 100 == 99:
                keep(kept / "decoder.safetensors", {"model": model}, optimizer, step + 1)
    return model.half().eval()


def weighted_loss(logits: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of each next token, averaged with its weight."""
    each = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    w = weights[:, 1:].flatten()
    return (w * each).sum() / w.sum()


def _share(progress: float) -> float:
    """Of the largest learning rate: up over a tenth of the training, then down along a cosine."""
    return min(progress / 0.1, 1.0) * 0.5 * (1 + math.cos(math.pi * max(0.0, (progress - 0.1) / 0.9)))


def _padded(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """With the start token in front; padded behind with it, where a causal model doesn't look."""
    ids = torch.tensor(tokenizer(list(texts), padding=True, padding_side="right").input_ids)
    return torch.nn.functional.pad(ids, (1, 0))


def write_decoder(model: LlamaForCausalLM, words: Sequence[str], folder: Path) -> None:
    """Weights, configuration and tokenizer, as transformers reads them."""
    config = model.config.to_diff_dict() | {"architectures": ["LlamaForCausalLM"]}
    write_json(folder / "config.json", {key: value for key, value in config.items() if key != "dtype"})
    write_weights(folder / "model.safetensors", model, {"format": "pt"})
    word_tokenizer(words).save_pretrained(folder)
