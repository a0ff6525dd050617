"""Passes over images, token ids and mappings: the same numbers for any batch size, one clear error for the rest."""

import pytest
import torch
from torch import nn

from shared import hooks, probes

transformers = pytest.importorskip("transformers")
TINY = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 11}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**TINY, **IDS)).eval()


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    config = transformers.BertConfig(**TINY, **IDS, num_labels=3)
    return transformers.BertForSequenceClassification(config).eval()


@pytest.fixture
def padded():
    ids = torch.randint(3, 11, (5, 6), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([6, 4, 5, 2, 6])
    mask = (torch.arange(6) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_any_batch_size_gives_the_same(net, bert, padded, batch_size):
    model, x = net
    v = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    for one, many in (
        (probes.activations(model, "3", x), probes.activations(model, "3", x, batch_size=batch_size)),
        (probes.layer_gradients(model, "3", x, 2), probes.layer_gradients(model, "3", x, 2, batch_size=batch_size)),
        (probes.tcav(model, "3", x, 2, v).score, probes.tcav(model, "3", x, 2, v, batch_size=batch_size).score),
        (probes.pgd_shift(model, "3", x, v[0]), probes.pgd_shift(model, "3", x, v[0], batch_size=batch_size)),
    ):
        torch.testing.assert_close(many, one.to(many), atol=1e-6, rtol=1e-5)
    layer = "bert.encoder.layer.1"
    together = probes.activations(bert, layer, padded)
    torch.testing.assert_close(probes.activations(bert, layer, padded, batch_size=batch_size), together)
    gradient = probes.layer_gradients(bert, layer, padded, torch.tensor([0, 1, 2, 0, 1]))
    each = probes.layer_gradients(bert, layer, padded, torch.tensor([0, 1, 2, 0, 1]), batch_size=batch_size)
    torch.testing.assert_close(each, gradient)


def test_padding_is_not_pooled(bert, padded):
    layer = "bert.encoder.layer.0"
    rows = probes.activations(bert, layer, padded)
    short = probes.activations(bert, layer, padded["input_ids"][3:4, :2])
    torch.testing.assert_close(rows[3:4], short, atol=1e-5, rtol=1e-4)
    last = probes.activations(bert, layer, padded, pool="last")
    torch.testing.assert_close(last[3:4], probes.activations(bert, layer, padded["input_ids"][3:4, :2], pool="last"))


def test_gradients_of_token_ids_from_finite_differences():
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=11, **IDS)
    model = transformers.GPT2LMHeadModel(config).eval().double()
    ids = torch.randint(3, 11, (4, 5), generator=torch.Generator().manual_seed(0))
    layer, v = "transformer.h.0", torch.randn(8, generator=torch.Generator().manual_seed(1)).double()

    def last_logit(logits):
        return logits[:, -1, 7]

    gradient = probes.layer_gradients(model, layer, ids, last_logit, reduce="sum")
    with torch.no_grad():
        with hooks.steer(model, {layer: v}, alpha=1e-5):
            up = last_logit(model(ids).logits)
        with hooks.steer(model, {layer: v}, alpha=-1e-5):
            down = last_logit(model(ids).logits)
    torch.testing.assert_close(gradient @ v, (up - down) / 2e-5, atol=1e-7, rtol=1e-5)
    found = probes.tcav(model, layer, ids, last_logit, v, reduce="none")
    assert found.per_sample.shape == (4, 5, 1)


def test_tcav_of_bert_on_mappings(bert, padded):
    states = probes.activations(bert, "bert.encoder.layer.1", padded)
    direction = probes.fit_direction(states, torch.tensor([0, 1, 0, 1, 1]), layer="bert.encoder.layer.1")
    found = probes.tcav(bert, "bert.encoder.layer.1", padded, 2, direction)
    gradient = probes.layer_gradients(bert, "bert.encoder.layer.1", padded, 2)
    torch.testing.assert_close(found.per_sample, gradient @ direction.vector[:, None])


def test_frozen_models_have_gradients_too(net):
    model, x = net
    expected = probes.layer_gradients(model, "3", x, 1)
    assert torch.equal(probes.layer_gradients(model.requires_grad_(requires_grad=False), "3", x, 1), expected)


def test_conv1d_pools_over_time():
    model = nn.Sequential(nn.Conv1d(3, 5, 2), nn.Flatten(), nn.Linear(30, 2)).eval()
    x = torch.randn(4, 3, 7)
    torch.testing.assert_close(probes.activations(model, "0", x), model[0](x).detach().mean(2))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(self.inner(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, ids: probes.activations(Twice(), "inner", torch.ones(2, 4)), "ran 2 times in a pass"),
        (lambda m, ids: probes.layer_gradients(Twice(), "inner", torch.ones(2, 4), 1), "ran 2 times in a pass"),
        (lambda m, ids: probes.activations(Twice(), "unused", torch.ones(2, 4)), "ran 0 times in a pass"),
        (lambda m, ids: probes.activations(m, "model.layers.0", ids.tolist()), "x is a list; expected a tensor"),
        (lambda m, ids: probes.activations(m, "model.layers.0", {"input_ids": [1]}), "x is a mapping without tensors"),
        (
            lambda m, ids: probes.activations(m, "model.layers.0", {"input_ids": ids, "a": ids[:1]}),
            "x holds tensors of",
        ),
        (lambda m, ids: probes.activations(m, "model.layers.0", ids, batch_size=0), "batch_size=0"),
        (
            lambda m, ids: probes.layer_gradients(m, "model.layers.0", ids, 1),
            r"target: .* \(2, 5, 11\), not \(n, classes\)",
        ),
        (
            lambda m, ids: probes.layer_gradients(m, "model.layers.0", ids, lambda y: y),
            r"target has shape \(2, 5, 11\)",
        ),
        (lambda m, ids: probes.pgd_shift(m, "model.layers.0", ids, torch.ones(8)), "x holds torch.int64"),
        (lambda m, ids: probes.activations(nn.Dropout(), "", torch.ones(2, 4)), r"training mode \(Dropout at ''\)"),
    ],
)
def test_what_is_refused(llama, call, message):
    with pytest.raises(ValueError, match=message):
        call(llama, torch.full((2, 5), 3))


def test_a_layer_without_effect_is_named():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.aside, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            self.aside(x)
            return self.head(x)

    with pytest.raises(ValueError, match="layer='aside' has no effect"):
        probes.layer_gradients(Aside(), "aside", torch.ones(2, 4), 1)
