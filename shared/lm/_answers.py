"""A language model's hidden states while it reads answers, and how likely it finds them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from shared._checks import check_range
from shared.hooks import capture
from shared.lm._start import token_ids


@dataclass(frozen=True)
class AnswerStates:
    """What a model holds over the tokens of n answers, the prompt's left out.

    Attributes
    ----------
    mean : dict of str -> Tensor (n, d)
        Each layer's states, averaged over the answer's tokens; a linear probe's mean over the tokens is its value here.
    log_likelihood : Tensor (n,)
        Sum of the answer's tokens' log-probabilities, in nats.
    length : Tensor (n,)
        Tokens of the answer.
    """

    mean: dict[str, Tensor] = field(repr=False)
    log_likelihood: Tensor = field(repr=False)
    length: Tensor


def chat_prompt(tokenizer: Any, said: str) -> str:
    """What stands before a model's answer to a user, without a system message and without a start token.

    Parameters
    ----------
    tokenizer : of transformers
    said : str
        By the user. Without a chat template it stands on a line of its own.

    Returns
    -------
    str
    """
    if not getattr(tokenizer, "chat_template", None):
        return f"{said}\n"
    messages = [{"role": "user", "content": said}]
    whole = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    whole = whole.removeprefix(tokenizer.bos_token or "")  # `token_ids` puts one in front
    return whole[whole.index("<|im_start|>user") :] if "<|im_start|>user" in whole else whole


@torch.no_grad()
def answer_states(
    loaded: Any,
    layers: Sequence[str],
    dialogues: Sequence[tuple[str, Sequence[str]]],
    *,
    start: str | None = "auto",
    batch_size: int = 64,
    progress: bool = False,
) -> AnswerStates:
    """Read answers to prompts. Each prompt is read once: its keys and values serve all of its answers.

    Parameters
    ----------
    loaded : with `.model` and `.tokenizer`, as `zoo.load_model` gives
        A causal language model.
    layers : sequence of str
        Names of modules that give (B, S, d), e.g. "model.layers.14".
    dialogues : sequence of (str, sequence of str)
        A prompt with all marks of a chat (`chat_prompt`), and answers to it.
    start : str, optional
        As for `start_token`.
    batch_size : int
        Answers at a time.
    progress : bool

    Returns
    -------
    AnswerStates
        Of all answers in order, on the CPU, float32.

    Raises
    ------
    ValueError
        For no answers or an empty one, or one whose first token would swallow the prompt's end.
    """
    check_range("batch_size", batch_size, 1)
    parts, lengths = [], []
    for prompt, answers in tqdm(dialogues, disable=not progress, leave=False):
        given, rows = _tokens(loaded.tokenizer, prompt, answers, start)
        ids = torch.tensor([given], device=loaded.model.device)
        read = loaded.model(ids, use_cache=True, logits_to_keep=1)
        parts += [_read(loaded.model, layers, read, rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
        lengths += [len(row) for row in rows]
    if not parts:
        raise ValueError("dialogues is empty; at least one prompt with an answer is needed")
    means, likely = zip(*parts)
    mean = {layer: torch.cat([m[layer] for m in means]) for layer in layers}
    return AnswerStates(mean, torch.cat(likely), torch.tensor(lengths))


def _tokens(
    tokenizer: Any, prompt: str, answers: Sequence[str], start: str | None
) -> tuple[list[int], list[list[int]]]:
    """Ids of the prompt, and of what each answer adds to them."""
    given = token_ids(tokenizer, prompt, start=start)
    whole = [token_ids(tokenizer, prompt + answer, start=start) for answer in answers]
    if not given or not whole or min(map(len, whole)) <= len(given):
        raise ValueError("dialogues: every prompt needs answers, and every prompt and answer needs tokens")
    for answer, ids in zip(answers, whole):
        if ids[: len(given)] != given:
            raise ValueError(f"dialogues: {answer!r} merges with the end of its prompt into one token; move the border")
    return given, [ids[len(given) :] for ids in whole]


def _read(model: Any, layers: Sequence[str], read: Any, rows: list[list[int]]) -> tuple[dict[str, Tensor], Tensor]:
    """Mean states and log-likelihoods of a batch of answers behind the prompt that was read."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [row[-1]] * (longest - len(row)) for row in rows], device=model.device)
    real = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in rows], device=model.device)
    name = "cache" if "cache" in read else "past_key_values"  # the name until transformers 5.23
    past = copy.deepcopy(read[name])  # which the next call would lengthen
    past.batch_repeat_interleave(len(rows))
    with capture(model, list(layers)) as seen:  # padding stands behind, where a causal model doesn't look
        logits = model(ids, **{name: past}, use_cache=True).logits
    first = read.logits[:, -1:].expand(len(rows), -1, -1)
    p = torch.cat([first, logits[:, :-1]], 1).float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    weight = (real / real.sum(1, keepdim=True))[..., None]
    return {layer: (seen[layer].float() * weight).sum(1).cpu() for layer in layers}, (p * real).sum(1).cpu()
