"""Going on from a hidden state gives what the whole pass gives, and leaves the model as it was."""

import pytest
import torch
from torch import nn

from shared.hooks import capture, edit, resume_from


class Stack(nn.Module):
    """Three blocks; with `pair` each returns a tuple, as some transformers' blocks do."""

    def __init__(self, pair=False):
        super().__init__()
        self.layers = nn.ModuleList(Block(pair) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x
        return self.head(x)


class Block(nn.Module):
    def __init__(self, pair):
        super().__init__()
        self.linear, self.pair, self.calls = nn.Linear(4, 4), pair, 0

    def forward(self, x):
        self.calls += 1
        y = x + self.linear(x).tanh()
        return (y, "rest") if self.pair else y


@pytest.fixture(params=[False, True], ids=["tensor", "tuple"])
def model(request):
    torch.manual_seed(0)
    return Stack(request.param).eval()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_gives_what_the_whole_pass_gives(model, layer):
    x = torch.randn(5, 3, 4)
    with capture(model, f"layers.{layer}") as seen:
        plain = model(x)
    with resume_from(model, f"layers.{layer}", seen[f"layers.{layer}"]):
        assert torch.equal(model(torch.zeros_like(x)), plain)
    assert torch.equal(model(x), plain)


def test_blocks_below_do_not_run(model):
    first, last = model.layers[0], model.layers[2]
    with resume_from(model, "layers.1", torch.zeros(2, 3, 4)):
        model(torch.ones(2, 3, 4))
    assert (first.calls, last.calls) == (0, 1)


def test_gradient_reaches_the_hidden_state(model):
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    with resume_from(model, "layers.2", hidden):
        model(torch.zeros(2, 3, 4)).sum().backward()
    assert torch.allclose(hidden.grad, model.head.weight.sum(0).expand(2, 3, 4))


def test_everything_is_undone_after_an_exception(model):
    x = torch.randn(2, 3, 4)
    plain, names = model(x), list(dict(model.named_modules()))
    with pytest.raises(RuntimeError, match="stop"), resume_from(model, "layers.0", torch.zeros(2, 3, 4)):
        raise RuntimeError("stop")
    assert list(dict(model.named_modules())) == names
    assert torch.equal(model(x), plain)
    assert not any(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


def test_edits_above_still_work(model):
    last, hidden = model.layers[2], torch.randn(2, 3, 4)
    with resume_from(model, "layers.1", hidden), edit(last, {"": torch.zeros_like}):
        assert torch.allclose(model(torch.zeros(2, 3, 4)), model.head.bias.expand(2, 3, 2))


def test_modes_stay(model):
    model.train()
    model.layers[2].eval()
    with resume_from(model, "layers.1", torch.zeros(2, 3, 4)):
        pass
    assert [layer.training for layer in model.layers] == [True, True, False]


def test_a_sequential_works_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), nn.Linear(2, 1))
    x = torch.randn(3, 4)
    with capture(model, "0.0") as seen:
        plain = model(x)
    with resume_from(model, "0.1", seen["0.0"].relu()):
        assert torch.equal(model(torch.zeros(3, 5)), plain)


def test_bad_input(model):
    with pytest.raises(ValueError, match=r"name='layers\.9' is no module.*closest: layers"):
        resume_from(model, "layers.9", torch.zeros(2, 3, 4)).__enter__()
    for name in ("head", "layers", ""):
        with pytest.raises(ValueError, match="no block of a ModuleList or Sequential"):
            resume_from(model, name, torch.zeros(2, 3, 4)).__enter__()
    with pytest.raises(ValueError, match="hidden has 1 NaN"):
        resume_from(model, "layers.0", torch.tensor([[float("nan")]])).__enter__()
    with pytest.raises(ValueError, match=r"hidden has shape \(2, 3, 7\); this pass .* \(2, 3, 4\)"):
        with resume_from(model, "layers.0", torch.zeros(2, 3, 7)):
            model(torch.zeros(2, 3, 4))
