"""Attention weights as the model computes them, and their rollout."""

from __future__ import annotations

import pytest
import torch

from shared.attribution import raw_attention, rollout


@pytest.fixture
def llama(make_llama):
    return make_llama(initializer_range=0.2).double()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_raw_attention_equals_the_models_own(implementation, llama, token_ids):
    mask = torch.ones_like(token_ids)
    mask[0, :2] = 0
    x = {"input_ids": token_ids, "attention_mask": mask}
    llama.float().set_attn_implementation(implementation)  # eager of transformers gives NaN for padding in float64
    ours = raw_attention(llama, x)
    assert torch.allclose(raw_attention(llama, x, batch_size=2), ours, atol=1e-6)
    llama.set_attn_implementation("eager")
    theirs = torch.stack(llama(**x, output_attentions=True).attentions, 1)
    seen = mask.bool()[:, None, None, :, None].expand_as(ours)  # rows of padding mean nothing
    assert torch.allclose(ours[seen], theirs[seen], atol=1e-5)


def test_raw_attention_of_a_vit_and_rollout(make_vit):
    attention = raw_attention(make_vit(), torch.randn(2, 3, 16, 16))
    assert attention.shape == (2, 2, 4, 17, 17)
    flow = rollout(attention)
    assert torch.allclose(flow.sum(-1), torch.ones(2, 17), atol=1e-5)
    slow = torch.eye(17).expand(2, 17, 17)
    for layer in range(2):
        slow = (0.5 * attention[:, layer].mean(1) + 0.5 * torch.eye(17)) @ slow
    assert torch.allclose(flow, slow, atol=1e-6)
    assert torch.allclose(rollout(attention, residual=1.0), torch.eye(17).expand(2, 17, 17))
    with pytest.raises(ValueError, match="attention has shape"):
        rollout(attention[0])
    with pytest.raises(ValueError, match="heads='sum' is unknown"):
        rollout(attention, heads="sum")
