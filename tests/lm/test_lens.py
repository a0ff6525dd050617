"""Logit and tuned lens against transformers' hidden states, their equations, and stacks that are no model's."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from shared.lm import logit_lens, residual_stack, residual_states, tuned_lens
from tests.lm.test_guided import gpt2, llama, prompts, qwen


class PostNorm(nn.Module):
    """Three blocks x <- norm(x + f(x)), read by a linear head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(PostNormBlock() for _ in range(3))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def rest(self, x, passed):
        for block in self.blocks[passed:]:
            x = block.norm(x)
        return x


class PostNormBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, x):
        return self.norm(x + self.map(x))


def bare(model, rest=None):
    return residual_stack(model, blocks="blocks", norm=nn.Identity(), head=model.head, rest=rest)


@pytest.mark.parametrize("make", [llama, gpt2, qwen])
def test_lens_is_norm_and_head_of_hidden_states(make):
    model = make()
    x, _ = prompts()
    lens = logit_lens(model, x, batch_size=2)
    with torch.no_grad():
        inputs = {**x, "position_ids": (x["attention_mask"].cumsum(-1) - 1).clamp(min=0)}
        out = model(**inputs, output_hidden_states=True)
        norm = getattr(model.base_model, "norm", None) or model.base_model.ln_f
        early = [model.lm_head(norm(h[:, -1])) for h in out.hidden_states[:-1]]  # the last is normed already
    torch.testing.assert_close(lens[:-1], torch.stack(early), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(lens[-1], out.logits[:, -1], atol=1e-4, rtol=1e-4)


def test_all_positions_and_soft_cap():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.Gemma2Config(
        **sizes, vocab_size=50, num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0
    )
    model = transformers.Gemma2ForCausalLM(config).eval()
    ids = torch.randint(5, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    lens = logit_lens(model, {"input_ids": ids}, position=None)
    assert lens.shape == (3, 3, 7, 50)
    torch.testing.assert_close(lens[-1], model(ids).logits.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lens[:, :, 4], logit_lens(model, ids, position=4), atol=1e-6, rtol=1e-5)


def test_post_norm_blocks_are_passed_with_their_norms_alone():
    model = PostNorm().eval()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    lens = logit_lens(model, x, stack=bare(model, model.rest), position=None)
    for passed in range(4):
        silent = PostNorm().eval()
        for block in silent.blocks[passed:]:
            nn.init.zeros_(block.map.weight), nn.init.zeros_(block.map.bias)
        torch.testing.assert_close(lens[passed], silent(x).detach())


def test_tuned_lens_undoes_an_affine_distortion():
    generator = torch.Generator().manual_seed(0)
    last = torch.randn(200, 5, generator=generator)
    early = last @ torch.randn(5, 5, generator=generator) + 3.0
    states = torch.stack([early, last])
    moved = tuned_lens(states, ridge=1e-9)(states)
    torch.testing.assert_close(moved, last.expand(2, -1, -1), atol=1e-3, rtol=1e-3)


def test_steps_lower_the_divergence():
    model = PostNorm().eval()
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    stack = bare(model)
    states = residual_states(model, x, stack=stack, position=None)
    aim = stack.read(states[-1]).log_softmax(-1)

    def gap(lens):
        return (aim.exp() * (aim - stack.decode(lens(states)).log_softmax(-1))).sum(-1).mean(1).detach()

    ridge = gap(tuned_lens(states))
    options = {"read": stack.read, "steps": 300, "lr": 3e-4, "generator": torch.Generator().manual_seed(0)}
    tuned = gap(tuned_lens(states, **options))
    assert (tuned[:-1] < ridge[:-1]).all()
    assert tuned[-1] == 0
    assert (gap(lambda same: same)[:-1] > ridge[:-1]).all()


def test_same_numbers_whatever_the_batch_and_precision():
    model = llama()
    x, _ = prompts()
    one = logit_lens(model, x, batch_size=1)
    torch.testing.assert_close(logit_lens(model, x), one, atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(logit_lens(model, x), one, atol=1e-5, rtol=1e-5)
    half = logit_lens(llama().to(torch.bfloat16), x)
    assert half.dtype == torch.bfloat16
    assert (half.float() - one).abs().max() < 0.1 * one.abs().max()


def test_unknown_architecture_says_what_was_looked_for():
    with pytest.raises(ValueError, match=r"model Sequential: looked for .*final norm, get_output_embeddings"):
        logit_lens(nn.Sequential(nn.Linear(3, 3)), torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"model LlamaModel has no head: looked for get_output_embeddings"):
        residual_stack(llama().model)
    bert = transformers.BertForMaskedLM(
        transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    with pytest.raises(ValueError, match=r"no final norm \(post-norm family\); pass blocks=, norm= and head="):
        residual_stack(bert)
    with pytest.raises(ValueError, match=r"blocks='head' is a Linear; accepted"):
        residual_stack(PostNorm(), blocks="head", norm=nn.Identity(), head=nn.Identity())


def test_bad_input_is_refused_by_name():
    model = llama()
    x, _ = prompts()
    with pytest.raises(ValueError, match=r"data has padding at position=0"):
        logit_lens(model, x, position=0)
    post = PostNorm().eval()
    with pytest.raises(ValueError, match=r"training mode"):
        logit_lens(PostNormDropout().train(), torch.ones(2, 6), stack=bare(post))
    wrong = residual_stack(post, blocks="blocks", norm=nn.LayerNorm(6), head=nn.Linear(6, 4))
    with pytest.raises(ValueError, match=r"other logits than its stack's last readout"):
        logit_lens(post, torch.randn(2, 6), stack=wrong, position=None)
    with pytest.raises(ValueError, match=r"read=None"):
        tuned_lens(torch.randn(3, 5, 4), steps=1)


class PostNormDropout(PostNorm):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
