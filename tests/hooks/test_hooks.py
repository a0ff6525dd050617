"""Capture, edit, patch, steer: right values, everything undone, any kind of output."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from torch import nn

from shared.hooks import attention_modules, capture, edit, find_module, first_tensor, patch, steer, wrap_attention

Pair = namedtuple("Pair", "first second")


class Block(nn.Module):
    """Returns what `wrap` makes of its activation: a tuple, dict, named tuple or the tensor itself."""

    def __init__(self, wrap):
        super().__init__()
        self.fc, self.wrap = nn.Linear(4, 4), wrap

    def forward(self, x):
        return self.wrap(self.fc(x))


class Net(nn.Module):
    def __init__(self, wrap=lambda y: y):
        super().__init__()
        self.block, self.act, self.out = Block(wrap), nn.ReLU(inplace=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.act(first_tensor(self.block(x))))


WRAPS = {
    "tensor": lambda y: y,
    "tuple": lambda y: (y, 7),
    "late": lambda y: (None, y),
    "list": lambda y: [y],
    "dict": lambda y: {"flag": True, "hidden": y},
    "named": lambda y: Pair(y, 1),
}
kinds = pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)


@pytest.fixture
def x():
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def hooks_left(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@kinds
def test_capture_keeps_the_activation_in_spite_of_in_place_operations(wrap, x):
    model = Net(wrap)
    with capture(model, ["block", "block.fc", "act"]) as acts:
        model(x)
    expected = model.block.fc(x)
    assert torch.equal(acts["block"], expected)
    assert torch.equal(acts["act"], expected.relu())
    assert not acts["block"].requires_grad
    assert hooks_left(model) == 0


@kinds
def test_edit_replaces_the_first_tensor_only(wrap, x):
    model, seen = Net(wrap), []
    handle = model.block.register_forward_hook(lambda m, a, out: seen.append(out))
    with edit(model, {"block": lambda y: y * 0}):
        assert torch.equal(model(x), model.out.bias.expand(3, 2))
    handle.remove()
    assert torch.equal(model(x), model.out(model.block.fc(x).relu()))
    assert type(seen[0]) is type(wrap(x))


def test_capture_in_the_graph_gives_gradients(x):
    model = Net()
    with capture(model, "block.fc", detach=False) as acts:
        y = model(x)
    (gradient,) = torch.autograd.grad(y.sum(), acts["block.fc"])
    expected = (acts["block.fc"] > 0) * model.out.weight.sum(0)
    assert torch.allclose(gradient, expected)


def test_capture_every_call_and_at_the_input(x):
    model = Net()
    with capture(model, "block.fc", every_call=True, at="input") as acts:
        model(x)
        model(2 * x)
    assert torch.equal(torch.stack(acts["block.fc"]), torch.stack([x, 2 * x]))


def test_input_given_as_keyword(x):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Net()

        def forward(self, x):
            return self.inner(x=x)

    model = Outer()
    with edit(model, {"inner": torch.zeros_like}, at="input"):
        assert torch.equal(model(x), model.inner(torch.zeros_like(x)))


def test_patch_moves_an_activation_from_one_input_to_another(x):
    model, other = Net(), torch.ones(3, 4)
    with capture(model, "block") as acts:
        model(other)
    with patch(model, acts):
        assert torch.equal(model(x), model(other))
    with patch(model, {"block": acts["block"][0]}, index=1):
        mixed = model(x)
    assert torch.equal(mixed[1], model(other)[0])
    assert torch.equal(mixed[[0, 2]], model(x)[[0, 2]])


def test_steer_adds_a_direction(x):
    model, direction = Net(), torch.arange(4.0)
    with steer(model, {"block.fc": direction}, alpha=2.0):
        steered = model(x)
    assert torch.equal(steered, model.out((model.block.fc(x) + 2 * direction).relu()))
    with steer(model, {"block.fc": direction}, positions=slice(0, 1)):
        assert torch.equal(model(x)[1:], model.out(model.block.fc(x).relu())[1:])


def test_contexts_nest_and_the_inner_one_sees_the_outer_one(x):
    model = Net()
    with edit(model, {"block": lambda y: y + 1}), capture(model, "block") as acts:
        with edit(model, {"block": lambda y: y * 2}):
            twice = model(x)
        once = model(x)
    base = model.block.fc(x)
    assert torch.equal(acts["block"], base + 1)
    assert torch.equal(twice, model.out(((base + 1) * 2).relu()))
    assert torch.equal(once, model.out((base + 1).relu()))
    assert hooks_left(model) == 0


def test_everything_is_undone_after_an_exception(x):
    model = Net()
    with pytest.raises(KeyError), edit(model, {"block": lambda y: y + 1, "act": lambda y: y}):
        raise KeyError("inside")
    assert hooks_left(model) == 0


def test_wrong_names_are_answered_with_the_closest():
    model = Net()
    with pytest.raises(ValueError, match=r"name='block.fcc' is no module of Net .* closest: block.fc"):
        find_module(model, "block.fcc")
    with pytest.raises(ValueError, match="closest: act"), edit(model, {"block": lambda y: y, "actt": lambda y: y}):
        pass
    assert hooks_left(model) == 0
    with pytest.raises(ValueError, match="at='middle' is unknown"), capture(model, "block", at="middle"):
        pass
    with pytest.raises(TypeError, match="must hold a tensor; got int"):
        first_tensor(3)


@pytest.fixture(scope="module")
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = dict(vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=2)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads)).eval()


def scaled_values(call, module, q, k, v, *args, **kwargs):
    return call(module, q, k, 2 * v, *args, **kwargs)


def flipped_queries(call, module, q, k, v, *args, **kwargs):
    return call(module, -q, k, v, *args, **kwargs)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_wrapped_attention_chains_in_any_order_and_comes_back(implementation, llama):
    ids = torch.arange(8)[None]
    llama.set_attn_implementation(implementation)
    plain, before = llama(ids).logits, [m.config for m in attention_modules(llama).values()]
    with wrap_attention(llama, scaled_values) as modules, wrap_attention(llama, flipped_queries):
        one = llama(ids).logits
    with wrap_attention(llama, flipped_queries), wrap_attention(llama, scaled_values):
        other = llama(ids).logits
    assert list(modules) == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    assert torch.equal(one, other)
    assert not torch.allclose(one, plain)
    assert [m.config for m in attention_modules(llama).values()] == before
    assert torch.equal(llama(ids).logits, plain)
    with pytest.raises(KeyError), wrap_attention(llama, scaled_values):
        raise KeyError("inside")
    assert torch.equal(llama(ids).logits, plain)


def test_wrapped_attention_that_changes_nothing_changes_nothing(llama):
    ids = torch.arange(8)[None]
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    llama.set_attn_implementation("sdpa")
    plain = llama(ids, attention_mask=mask).logits
    with wrap_attention(llama, lambda call, *args, **kwargs: call(*args, **kwargs)):
        assert torch.equal(llama(ids, attention_mask=mask).logits, plain)
    assert attention_modules(Net()) == {}
