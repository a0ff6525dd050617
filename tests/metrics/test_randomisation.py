"""Randomisation checks: rank correlation against scipy, which layers change, invariants, and bad input."""

import copy

import pytest
import torch
from torch import nn

from shared.metrics import parameter_randomisation, random_logit, randomised_models
from shared.stats import rank_correlation


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).eval()


def changed_layers(model, other):
    before = model.state_dict()
    return {
        name.rpartition(".")[0] for name, value in other.state_dict().items() if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize(
    ("order", "want"),
    [
        ("top_down", [{"4"}, {"4", "1"}, {"4", "1", "0"}]),
        ("bottom_up", [{"0"}, {"0", "1"}, {"0", "1", "4"}]),
        ("independent", [{"0"}, {"1"}, {"4"}]),
    ],
)
def test_which_layers_are_randomised(model, order, want):
    with torch.no_grad():
        model[1].weight.fill_(2.0)  # away from its initial value, so that a reset shows
    before = copy.deepcopy(model.state_dict())
    seen = [(name, changed_layers(model, net)) for name, net in randomised_models(model, order=order)]
    expected = ["4", "1", "0"] if order == "top_down" else ["0", "1", "4"]
    assert [name for name, _ in seen] == expected
    assert [changed for _, changed in seen] == want
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_same_generator_gives_the_same_networks_and_the_global_one_is_left_alone(model):
    state = torch.get_rng_state()
    first, second, other = (
        [
            copy.deepcopy(net.state_dict())
            for _, net in randomised_models(model, generator=torch.Generator().manual_seed(s))
        ]
        for s in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, second) for name in a)
    assert not torch.equal(first[0]["4.weight"], other[0]["4.weight"])


class Tokens(nn.Module):
    """A class token of the model's own, packed attention, a gain without a reset, a frozen scale."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.full((1, 1, 8), 3.0))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.gain = nn.ParameterList([torch.full((8,), 1.5)])
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = self.attention(x, x, x, need_weights=False)[0][:, 0]
        return self.head(x * self.gain[0] * self.scale)


@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
def test_every_parameter_is_drawn(order):
    """in_proj_weight, class tokens and whatever else no `reset_parameters` reaches."""
    model = Tokens().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.7  # away from any initial value
    trained = {name: value.clone() for name, value in model.named_parameters()}
    drawn: dict[str, int] = dict.fromkeys(trained, 0)
    layers = []
    for name, net in randomised_models(model, order=order, generator=torch.Generator().manual_seed(0)):
        layers.append(name)
        for key, value in net.named_parameters():
            assert value.isfinite().all()
            drawn[key] += bool((value != trained[key]).all())
    assert sorted(layers) == [
        "(model)",
        "attention",
        "attention.out_proj",
        "gain",
        "head",
        "head.parametrizations.weight",
    ]
    assert all(drawn.values())
    assert "attention.in_proj_weight" in drawn
    assert "token" in drawn
    if order == "independent":
        assert set(drawn.values()) == {1}
    assert all(torch.equal(value, trained[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("kind", ["vit", "llama"])
def test_every_parameter_of_a_transformers_model_is_drawn_by_its_own_rule(kind):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "vit":
        model = transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=8, patch_size=4))
    else:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, vocab_size=50))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    for _, net in randomised_models(model, generator=torch.Generator().manual_seed(0)):
        last = dict(net.named_parameters())
    assert all((value != 7).all() and value.isfinite().all() for value in last.values())
    if kind == "vit":
        assert last["embeddings.cls_token"].abs().max() < 0.1  # as the model draws it, not of the trained size
    else:
        assert last["model.norm.weight"].tolist() == [1] * 16


def gradient(net, x, target):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(net(leaf).gather(1, target[:, None]).sum(), leaf)[0] * x


def test_a_map_that_ignores_the_network_stays_and_one_that_reads_it_changes(model):
    x, target = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    generator = torch.Generator().manual_seed(3)
    edges = parameter_randomisation(lambda net, x, target: x, model, x, target, generator=generator)
    assert all(score.tolist() == pytest.approx([1] * 4) for score in edges.values())
    read = parameter_randomisation(gradient, model, x, target, generator=generator)
    assert all((score < 0.999).all() for score in read.values())
    generator.manual_seed(3)
    signed = parameter_randomisation(gradient, model, x, target, generator=generator, absolute=False)
    assert not torch.equal(signed["4"], read["4"])


def test_a_map_without_order_has_no_score(model):
    x, target = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    scores = parameter_randomisation(lambda net, x, target: torch.ones_like(x), model, x, target)
    assert all(score.isnan().all() for score in scores.values())


@pytest.mark.parametrize("size", [1, 2, 100])
def test_batches_change_nothing(model, size):
    x, target = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    found = []
    for batch_size in (None, size):
        options = {"generator": torch.Generator().manual_seed(3), "batch_size": batch_size}
        found.append(torch.stack(list(parameter_randomisation(gradient, model, x, target, **options).values())))
        options["generator"].manual_seed(4)
        found.append(random_logit(lambda x, t: gradient(model, x, t), x, target, 3, **options))
    assert torch.allclose(found[0], found[2], atol=1e-6)
    assert torch.allclose(found[1], found[3], atol=1e-6)


def test_another_class_is_explained(model):
    x, target = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    asked = []

    def explain(x, classes):
        asked.append(classes)
        return gradient(model, x, classes)

    score = random_logit(explain, x, target, 3)
    assert torch.equal(asked[0], target)
    assert (asked[1] != target).all()
    assert torch.equal(score, rank_correlation(*(gradient(model, x, t).flatten(1) for t in asked)))


X = torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: next(randomised_models(nn.Linear(1, 1), order="topdown")), "top_down"),
        (lambda: next(randomised_models(nn.ReLU())), "no parameters"),
        (lambda: random_logit(gradient, X, torch.zeros(2, 2), 3), "target"),
        (lambda: random_logit(gradient, X, torch.tensor([0, 3]), 3), "0 to 2"),
        (lambda: random_logit(gradient, X, torch.tensor([0, 0]), 1), "n_classes"),
        (lambda: random_logit(gradient, X, torch.tensor([0, 0]), 3, batch_size=0), "batch_size=0"),
        (lambda: parameter_randomisation(gradient, nn.Linear(4, 2), X, torch.zeros(3).long()), "target"),
        (lambda: parameter_randomisation(gradient, nn.Linear(4, 2), X * torch.nan, torch.zeros(2).long()), "inputs"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
