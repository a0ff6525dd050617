"""Direct logit attribution: its parts against the equation by hand, and their sum against the model's logits."""

from __future__ import annotations

import pytest
import torch

from shared.hooks import capture, transformer_parts
from shared.lm import direct_logit_attribution
from tests.hooks.test_parts import build
from tests.lm.test_grids import B, ids, large

TARGET, FOIL = torch.tensor([3, 4]), torch.tensor([5, 6])
FAMILIES = ("Llama", "Mistral", "Qwen3", "Gemma", "Gemma2", "Gemma3Text", "Phi3", "GPT2", "GPTNeoX", "OPT")


@pytest.mark.parametrize("split", [{}, {"heads": True}, {"neurons": True}, {"heads": True, "neurons": True}])
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_add_up_to_the_logits_difference(family, split):
    model = large(family).double()
    if hasattr(model.config, "final_logit_softcapping"):
        model.config.final_logit_softcapping = None
    with torch.no_grad():
        logits = model(ids()).logits[:, -1]
    rows = torch.arange(B)
    found = direct_logit_attribution(model, ids(), TARGET, foil=FOIL, **split)
    torch.testing.assert_close(found.total, logits[rows, TARGET] - logits[rows, FOIL])
    alone = direct_logit_attribution(model, ids(), 3, **split)
    torch.testing.assert_close(alone.total, logits[:, 3])
    whole = direct_logit_attribution(model, ids(), TARGET, foil=FOIL)
    width = 2 if split.get("heads") else 0
    assert found.attention.shape == ((B, 2, width) if width else (B, 2))
    torch.testing.assert_close(found.input, whole.input)
    if family in ("Llama", "Mistral", "Qwen3", "Gemma", "Gemma2", "Gemma3Text", "Phi3"):  # no biases: splits add up
        for part in ("attention", "mlp"):
            value = getattr(found, part)
            torch.testing.assert_close(value.sum(-1) if value.ndim == 3 else value, getattr(whole, part))
        assert not found.bias.any()


@pytest.mark.parametrize("family", ["Llama", "GPT2"])
def test_a_part_is_the_equation_s(family):
    """`(W_t - W_f) w (r_c - mean r_c) / s`, by hand; of a head with its slice of the output projection."""
    model = large(family).double()
    parts = transformer_parts(model)
    names = [parts.layer("output", 0), parts.layer("mlp_write", 1)]
    with (
        torch.no_grad(),
        capture(model, names) as out,
        capture(model, [names[0], parts.final_norm], at="input") as into,
    ):
        model(ids())
    norm, head = model.get_submodule(parts.final_norm), model.get_output_embeddings().weight
    r = into[parts.final_norm][:, -1]
    centred = r - r.mean(-1, keepdim=True) if family == "GPT2" else r
    eps = norm.eps if family == "GPT2" else norm.variance_epsilon
    s = ((centred**2).mean(-1, keepdim=True) + eps).sqrt()

    def along(part):
        part = part - part.mean(-1, keepdim=True) if family == "GPT2" else part
        return ((head[TARGET] - head[FOIL]) * norm.weight * part / s).sum(-1).detach()

    found = direct_logit_attribution(model, ids(), TARGET, foil=FOIL, heads=True)
    torch.testing.assert_close(found.mlp[:, 1], along(out[names[1]][:, -1]))
    weight = model.get_submodule(names[0]).weight
    matrix = weight.T if family == "Llama" else weight
    z = into[names[0]][:, -1].unflatten(-1, (2, -1))
    torch.testing.assert_close(found.attention[:, 0, 1], along(z[:, 1] @ matrix.unflatten(0, (2, -1))[1]))


@pytest.mark.parametrize("family", ["Llama", "GPT2"])
def test_padding_on_the_left_and_positions(family):
    model = large(family).double()
    padded = torch.cat([torch.zeros(B, 2, dtype=torch.long), ids()], 1)
    mask = torch.ones_like(padded)
    mask[:, :2] = 0
    found = direct_logit_attribution(model, {"input_ids": padded, "attention_mask": mask}, TARGET, foil=FOIL)
    plain = direct_logit_attribution(model, ids(), TARGET, foil=FOIL)
    torch.testing.assert_close(found.mlp, plain.mlp)
    earlier = direct_logit_attribution(model, ids(), TARGET, foil=FOIL, position=2)
    torch.testing.assert_close(earlier.mlp, direct_logit_attribution(model, ids()[:, :3], TARGET, foil=FOIL).mlp)


def test_bad_input_is_refused():
    model = build("Llama")
    for change, message in (
        ({"target": 9}, "target=9 is out of range; accepted: 0 to 8"),
        ({"foil": -1}, "foil=-1 is out of range"),
        ({"target": torch.zeros(3, dtype=torch.long)}, "target must be a token id, or one for each of 2 rows"),
        ({"position": 5}, "position=5 is out of range: x has 5 tokens"),
        ({"x": "text"}, "x must be token ids"),
        ({"model": build("Bert")}, "model is a BertForMaskedLM, which norms the stream behind each sum"),
        ({"model": build("Llama").model}, "without an unembedding"),
    ):
        with pytest.raises(ValueError, match=message):
            direct_logit_attribution(**{"model": model, "x": ids(), "target": 1, **change})
