"""DoLa and CAD against their formulas, inside transformers' `generate`."""

from __future__ import annotations

import pytest
import torch

from shared.lm import dola, dola_logits
from tests.lm.test_guided import gpt2, llama, prompts


def generate(model, x, processor, new=5):
    out = model.generate(**x, logits_processor=[processor], max_new_tokens=new, do_sample=False, pad_token_id=0)
    return out[:, x["input_ids"].shape[1] :]


def test_cad_is_transformers_own_guidance():
    """What the docstring of `_dola` says: `guidance_scale` is CAD, token for token, also behind its cache."""
    model = llama()
    x, _ = prompts()
    without = {name: value[:, 5:] for name, value in x.items()}
    negative = {f"negative_prompt_{'ids' if name == 'input_ids' else name}": value for name, value in without.items()}
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    tokens = model.generate(**x, guidance_scale=2.5, **negative, **options)[:, x["input_ids"].shape[1] :]
    for row in range(1, 3):  # rows without padding
        long, short = x["input_ids"][row : row + 1], without["input_ids"][row : row + 1]
        for token in tokens[row]:
            with torch.no_grad():
                z, base = model(long).logits[:, -1], model(short).logits[:, -1]
            assert token == (2.5 * z - 1.5 * base).argmax()
            long, short = (torch.cat([ids, token[None, None]], 1) for ids in (long, short))


@pytest.mark.parametrize("make", [llama, gpt2])
def test_dola_against_its_definition(make):
    model = make()
    x, _ = prompts()
    with dola(model, [0, 1]) as contrast:
        tokens = generate(model, x, contrast, new=1)
        early = contrast.early()
    inputs = {**x, "position_ids": (x["attention_mask"].cumsum(-1) - 1).clamp(min=0)}
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True)
    norm, head = getattr(model.base_model, "norm", None) or model.base_model.ln_f, model.lm_head
    for number in (0, 1):  # hidden_states[0] are the embeddings; the last is normed already
        if number + 1 < len(out.hidden_states) - 1:
            expected = head(norm(out.hidden_states[number + 1][:, -1]))
            torch.testing.assert_close(early[number], expected.detach(), atol=1e-4, rtol=1e-3)
    for row in range(3):
        p = out.logits[row, -1].double().softmax(-1)
        kl = lambda a, b: (a * (a / b).log()).sum()  # noqa: E731
        best, farthest = None, -1.0
        for q in early[:, row].double().softmax(-1):
            divergence = float(kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2
            if divergence > farthest:
                best, farthest = q, divergence
        scores = (p / best).log().masked_fill(p < 0.1 * p.max(), -torch.inf)
        assert tokens[row, 0] == scores.argmax()


def test_formulas_by_hand():
    z, base = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    out = dola_logits(z, torch.stack([z, base]), plausible=0.5)
    expected = (z.log_softmax(-1) - base.log_softmax(-1))[0, 1]
    assert out[0, 0] == -torch.inf
    torch.testing.assert_close(out[0, 1], expected)
    excluded = dola_logits(torch.tensor([[1.0, -torch.inf]]), torch.stack([z, base]))
    assert torch.isfinite(excluded).tolist() == [[True, False]]


def test_bad_input_is_refused():
    model = llama()
    with pytest.raises(ValueError, match=r"layers=\[\]; accepted: at least one block from 0 to 2"), dola(model, []):
        pass
    with pytest.raises(ValueError, match=r"layers=\[3\]"), dola(model, [3]):
        pass
    with pytest.raises(ValueError, match="plausible=2"):
        dola_logits(torch.zeros(1, 2), torch.zeros(1, 1, 2), plausible=2)
