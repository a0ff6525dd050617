"""SmolLM2's answers about each line that Tesseract read, MiniLM's vectors of the lines, and a test of translation."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.zoo import embed_texts, load_data, load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_lines
from shared.zoo.recipes._train import one_thread

QUESTION = "Which language is this line of an old printed book in, English or {}?\n\n"
ANSWER = "The line is in"
LANGUAGES = ("Latin", "Greek")
DIMENSIONS, TRAIN_LINES, WORDS = 64, 3000, 10


@recipe("latin-answers")
def make(folder: Path) -> None:
    """Ask and embed every line. Six minutes of one core, in bfloat16, whose last digits depend on the processor."""
    readings = load_data("latin-readings").table.to_dict("records")
    texts = load_data("latin-texts").table.to_dict("records")
    with one_thread():
        rows = [*translations(texts), *line_rows(readings, texts)]
    write_lines(folder / "latin-answers.jsonl.gz", rows)


def line_rows(readings: Sequence[dict], texts: Sequence[dict]) -> Iterator[dict]:
    """A row for each line: of the training texts its vector and language, of the pages answers as well."""
    train = [
        {"kind": "training", "source": t["source"], "latin": int(t["language"] == "Latin"), "text": line}
        for t in texts if t["language"] in ("Latin", "English") for line in lines_of(t["text"])
    ]  # fmt: skip
    train = [train[i] for i in np.random.default_rng(0).permutation(len(train))[:TRAIN_LINES]]
    lines = [
        {"kind": "line", "page": r["page"], "state": r["state"], "line": i, "text": line}
        for r in readings for i, line in enumerate(r["lines"])
    ]  # fmt: skip
    vectors = embed_texts(load_model("minilm-l6"), [row["text"] for row in train + lines]).double().numpy()
    mean = vectors[: len(train)].mean(0)
    _, axes = np.linalg.eigh(np.cov((vectors[: len(train)] - mean).T))
    projected = (vectors - mean) @ axes[:, ::-1][:, :DIMENSIONS]
    whole = np.rint(projected / np.abs(projected).max() * 127).astype(int).tolist()
    answers = [ask([line["text"] for line in lines], language) for language in LANGUAGES]
    for i, row in enumerate(train):
        yield {key: row[key] for key in ("kind", "source", "latin")} | {"vector": whole[i]}
    for i, row in enumerate(lines):
        asked = {name.lower(): round(scores[i], 3) for name, scores in zip(LANGUAGES, answers)}
        yield {key: row[key] for key in ("kind", "page", "state", "line")} | asked | {"vector": whole[len(train) + i]}


def lines_of(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + WORDS]) for i in range(0, len(words) - WORDS + 1, WORDS)]


@torch.no_grad()
def ask(lines: Sequence[str], language: str, *, batch_size: int = 32) -> list[float]:
    """The logit of `language` less that of English, as the next word of SmolLM2's answer about each line."""
    model, tokenizer = _bfloat16("smollm2-135m")
    turns = [{"role": "user", "content": f"{QUESTION.format(language)}\0"}]
    before, after = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True).split("\0")
    prefix = model(**tokenizer(before, return_tensors="pt", add_special_tokens=False), use_cache=True).past_key_values
    words = [tokenizer(f" {word}", add_special_tokens=False).input_ids[0] for word in (language, "English")]
    ids = [tokenizer(f"{line}{after}{ANSWER}", add_special_tokens=False).input_ids for line in lines]
    scores = np.zeros(len(ids))
    for rows in _by_length(ids, batch_size):
        batch, last = _padded([ids[i] for i in rows])
        past = copy.deepcopy(prefix)
        past.batch_repeat_interleave(len(rows))
        hidden = model.model(input_ids=batch, past_key_values=past).last_hidden_state
        wanted = model.lm_head.weight[words[0]].float() - model.lm_head.weight[words[1]].float()
        scores[rows] = (hidden[torch.arange(len(rows)), last].float() @ wanted).numpy()
    return scores.tolist()


@torch.no_grad()
def translations(texts: Sequence[dict]) -> list[dict]:
    """For each Latin verse: the log-probability of each English verse of its four, with it and without it."""
    by_language = {t["language"]: t["text"].split("\n") for t in texts if t["source"].startswith("Luke")}
    latin, english = by_language["Latin verses"], by_language["English verses"]
    encoder = load_model("minilm-l6")
    near = (embed_texts(encoder, latin) @ embed_texts(encoder, english).T).numpy()
    alone = log_probability([f"English: {e}" for e in english], english)
    rows = []
    for i, verse in enumerate(latin):
        four = list(range(i // 4 * 4, i // 4 * 4 + 4))
        given = log_probability([f"Latin: {verse}\nEnglish: {english[j]}" for j in four], [english[j] for j in four])
        gain = [round(g - alone[j], 3) for g, j in zip(given, four)]
        close = [round(float(near[i, j]), 4) for j in four]
        rows.append({"kind": "verse", "verse": i, "gain": gain, "minilm": close})
    return rows


def log_probability(texts: Sequence[str], ends: Sequence[str]) -> list[float]:
    """Of each text's end, given what stands before it."""
    model, tokenizer = _bfloat16("smollm2-135m")
    start = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    found = []
    for text, end in zip(texts, ends):
        ids = torch.tensor([[start, *tokenizer(text, add_special_tokens=False).input_ids]])
        n = len(tokenizer(f" {end}", add_special_tokens=False).input_ids)
        logits = model(input_ids=ids).logits.float().log_softmax(-1)[0, -n - 1 : -1]
        found.append(float(logits.gather(1, ids[0, -n:, None]).sum()))
    return found


_LOADED: dict[str, Any] = {}


def _bfloat16(name: str) -> tuple[Any, Any]:
    if name not in _LOADED:
        loaded = load_model(name)
        _LOADED[name] = loaded.model.to(torch.bfloat16).eval(), loaded.tokenizer
    return _LOADED[name]


def _by_length(ids: Sequence[list[int]], batch_size: int) -> Iterator[list[int]]:
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    yield from (order[low : low + batch_size] for low in range(0, len(order), batch_size))


def _padded(ids: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, ids))
    return torch.tensor([one + [0] * (longest - len(one)) for one in ids]), torch.tensor([len(one) - 1 for one in ids])
