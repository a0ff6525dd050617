"""Patching grids and head ablation against the loop over whole runs; what grouped queries share; bad input."""

from __future__ import annotations

import pytest
import torch

from shared.hooks import ablate_heads, attention_modules, capture, patch, transformer_parts
from shared.lm import head_ablation, head_groups, head_means, logit_difference, patching_grid
from tests.hooks.test_parts import MODELS, TINY, build

FAMILIES = ("Llama", "Mistral", "Qwen3", "Gemma2", "Gemma3Text", "Phi3", "GPT2", "GPTNeoX", "OPT")
B, T = 2, 5
SITES = {"stream": "block", "attention": "attention_write", "mlp": "mlp_write", "heads": "output"}


def large(family):
    """The family's tiny model with weights that make every part matter."""
    model = build(family)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * torch.randn(weight.shape, generator=generator))
    return model


def ids(seed=0):
    return torch.randint(3, 9, (B, T), generator=torch.Generator().manual_seed(seed))


METRIC = logit_difference(torch.tensor([3, 4]), torch.tensor([5, 6]))


@torch.no_grad()
def score(model, x):
    return METRIC(model(x).logits[:, -1])


@torch.no_grad()
def slow(model, clean, corrupt, layer, places, site, head=None):
    """One cell by its definition, a whole run."""
    name, at = transformer_parts(model).layer(SITES[site], layer), "input" if site in ("stream", "heads") else "output"
    with capture(model, name, at=at) as seen:
        model(clean)
    value = seen[name].reshape(B, T, -1)
    width = value.shape[-1] // 2
    channels = slice(None) if head is None else slice(head * width, (head + 1) * width)
    with capture(model, name, at=at) as there:
        model(corrupt)
    new = there[name].reshape(B, T, -1).clone()
    new[:, places, channels] = value[:, places, channels]
    with patch(model, {name: new.reshape(there[name].shape)}, at=at):
        return score(model, corrupt)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_cell_is_the_whole_run_s(family, site):
    model, clean, corrupt = large(family), ids(0), ids(1)
    grid = patching_grid(model, clean, corrupt, METRIC, site=site, batch_size=3)
    torch.testing.assert_close(grid.clean, score(model, clean))
    torch.testing.assert_close(grid.corrupt, score(model, corrupt))
    heads = range(2) if site == "heads" else [None]
    expected = [
        slow(model, clean, corrupt, layer, [place], site, head)
        for layer in range(2)
        for place in range(T)
        for head in heads
    ]
    torch.testing.assert_close(grid.values.flatten(0, -2), torch.stack(expected), atol=2e-5, rtol=1e-4)
    assert grid.values.shape == ((2, T, 2, B) if site == "heads" else (2, T, B))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_any_batch_and_attention_gives_the_same_grid(implementation, batch_size):
    model = large("Llama")
    expected = patching_grid(model, ids(0), ids(1), METRIC, batch_size=4).values
    model.set_attn_implementation(implementation)
    found = patching_grid(model, ids(0), ids(1), METRIC, batch_size=batch_size).values
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_identities_of_the_stream():
    """All positions patched are the clean run; the clean run patched into itself is itself; the last layer's last."""
    model, clean, corrupt = large("Gemma2"), ids(0), ids(1)
    everything = patching_grid(model, clean, corrupt, METRIC, positions=[range(T)])
    torch.testing.assert_close(everything.recovered, torch.ones(2, 1))
    itself = patching_grid(model, clean, clean, METRIC)
    torch.testing.assert_close(itself.values, itself.clean.expand_as(itself.values))
    with pytest.raises(ValueError, match="corrupt leaves the metric as it is"):
        itself.recovered  # noqa: B018
    same = corrupt.clone()
    same[:, 2] = clean[:, 2]  # the first block's stream are the embeddings: patching one is exchanging a token
    found = patching_grid(model, clean, corrupt, METRIC, positions=[2, -1, (0, 1)])
    torch.testing.assert_close(found.values[0, 0], score(model, same), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(
        found.values[1, 2], slow(model, clean, corrupt, 1, [0, 1], "stream"), atol=2e-5, rtol=1e-4
    )


def test_windows_of_attention_are_kept():
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    options, _ = MODELS["Mistral"]
    model = MistralForCausalLM(MistralConfig(**options, sliding_window=2, initializer_range=0.5)).eval()
    grid = patching_grid(model, ids(0), ids(1), METRIC, batch_size=2)
    for place in range(T):
        torch.testing.assert_close(
            grid.values[1, place], slow(model, ids(0), ids(1), 1, [place], "stream"), atol=1e-5, rtol=1e-4
        )
    assert torch.equal(grid.values[1, 0], grid.corrupt), "the last of five tokens sees two"


@pytest.mark.parametrize("values", ["zero", "mean", "other texts"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ablation_is_that_of_hooks(family, values):
    model, x = large(family), ids(0)
    means = head_means(model, ids(1) if values == "other texts" else x)
    found = head_ablation(model, x, METRIC, values=means if values == "other texts" else values, batch_size=3)
    for layer, name in enumerate(attention_modules(model)):
        for head in range(2):
            given = None if values == "zero" else {name: means[layer]}
            with ablate_heads(model, {name: [head]}, values=given):
                expected = score(model, x)
            torch.testing.assert_close(found[layer, head], score(model, x) - expected, atol=2e-5, rtol=1e-4)


def test_query_heads_that_share_a_key_head_go_together():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {**TINY, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.5, "vocab_size": 9}
    model = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
    assert head_groups(model) == [(0, 1), (2, 3)]
    assert head_groups(build("GPT2")) == [(0,), (1,)]
    found = head_ablation(model, ids(0), METRIC, grouped=True)
    assert found.shape == (2, 2, B)
    for layer, name in enumerate(attention_modules(model)):
        for group, heads in enumerate(head_groups(model)):
            with ablate_heads(model, {name: heads}):
                expected = score(model, ids(0))
            torch.testing.assert_close(found[layer, group], score(model, ids(0)) - expected, atol=1e-5, rtol=1e-4)


def test_bad_input_is_refused():
    model, x = build("GPT2"), ids(0)
    for change, message in (
        ({"clean": x[:, :4]}, r"clean has shape \(2, 4\); expected \(2, 5\)"),
        ({"corrupt": x + 4}, "corrupt has ids .*; accepted: 0 to 8"),
        ({"corrupt": x.float()}, "corrupt must be token ids"),
        ({"site": "block"}, "site='block' is unknown"),
        ({"positions": [5]}, r"positions=\[5\]; accepted: places from -5 to 4"),
        ({"positions": []}, r"positions=\[\]"),
        ({"metric": lambda logits: logits}, r"metric must give one number per row, \(2,\); got \(2, 9\)"),
        ({"model": build("GPT2").train()}, "model is in training mode"),
        ({"model": build("GPT2").transformer}, "model is a GPT2Model without an unembedding"),
        ({"model": large("Bert"), "batch_size": 2}, "from token 1 on: is it causal"),
    ):
        arguments = {"model": model, "clean": x, "corrupt": ids(1), "metric": METRIC, **change}
        with pytest.raises(ValueError, match=message):
            patching_grid(**arguments)
    model.config.max_position_embeddings = 4
    with pytest.raises(ValueError, match="corrupt has 5 tokens; this model's context holds 4"):
        patching_grid(model, x, x, METRIC)
    with pytest.raises(ValueError, match="values='median' is unknown"):
        head_ablation(build("GPT2"), x, METRIC, values="median")
    with pytest.raises(ValueError, match="wrong must be token ids"):
        logit_difference(torch.tensor([1]), torch.tensor([1.0]))
