"""Sentence vectors and sampled answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def embed_texts(encoder: Any, texts: Sequence[str], *, batch_size: int = 64, truncate: bool = True) -> Tensor:
    """Sentence vectors of a text encoder: the mean of the last hidden states over real tokens, length 1.

    Parameters
    ----------
    encoder : a `LoadedModel`, such as `load_model("minilm-l6")`.
    texts : N of them.
    batch_size : texts at a time, of like length, so that little is padded.
    truncate : a text longer than the encoder reads loses its end; False refuses it.

    Returns
    -------
    Vectors (N, d), float32, on the CPU.
    """
    texts = list(texts)
    if not truncate:
        _refuse_long(encoder.tokenizer, texts)
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


def _refuse_long(tokenizer: Any, texts: Sequence[str]) -> None:
    lengths = [len(ids) for ids in tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]]
    over = [i for i, n in enumerate(lengths) if n > tokenizer.model_max_length]
    if over:
        first = f"texts[{over[0]}] has {lengths[over[0]]} tokens"
        raise ValueError(f"{first}; the encoder reads {tokenizer.model_max_length} ({len(over)} of them are longer)")


@torch.no_grad()
def generate_texts(
    loaded: Any,
    prompt: str,
    n: int,
    *,
    generator: torch.Generator,
    max_new_tokens: int,
    system: str | None = "You are a helpful assistant.",
    batch_size: int = 50,
    temperature: float = 0.7,
    top_p: float = 0.9,
    top_k: int = 10,
) -> list[str]:
    """Sample answers of a chat model to one prompt.

    Parameters
    ----------
    loaded : a `LoadedModel`, such as `load_model("smollm2-135m")`; its tokenizer's chat template is used if it has one.
    prompt : what the user says.
    n : how many answers.
    generator : on the CPU; moves on, so that a further call samples others. torch's own stream stays as it was.
    max_new_tokens : length of an answer, at most.
    system : what the chat's system message says; None leaves it out.
    batch_size : answers at a time.
    temperature, top_p, top_k : as in transformers' `generate`.

    Returns
    -------
    The answers, without special tokens and blanks around them.
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
    with _stream(generator, model.device):
        while len(texts) < n:
            size = min(batch_size, n - len(texts))
            rows = {k: given[k].repeat(size, 1).to(model.device) for k in ("input_ids", "attention_mask")}
            out = model.generate(**rows, max_new_tokens=max_new_tokens, pad_token_id=end, **options)
            texts += tokenizer.batch_decode(out[:, start:], skip_special_tokens=True)
    return [t.strip() for t in texts]


@contextmanager
def _stream(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """torch's own random stream, which `generate` draws from, is the generator's in here."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cuda":
            torch.cuda.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.get_rng_state())
