"""B-cos layers against their equation and the authors' package; networks as exact linear maps of their input."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import unfold

from shared.nets import AddInverse, BcosConv2d, BcosLinear, SmallBcos, UncentredNorm, explanation_mode, linear_map

GOLDEN = Path(__file__).parents[1] / "golden" / "bcos.npz"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(module, seed=0):
    for i, parameter in enumerate(module.parameters()):
        parameter.data = normal(*parameter.shape, seed=seed + i)
    return module.double().eval()


def network():
    net = seeded(SmallBcos(1, 3, widths=(4, 6), strides=(2, 1)))
    for module in net.modules():
        if isinstance(module, UncentredNorm):
            module.running_var = 0.1 + normal(*module.running_var.shape).abs()
    return net


@pytest.mark.parametrize("b", [1, 1.5, 2, 3])
def test_layers_follow_their_equation(b):
    conv, linear = seeded(BcosConv2d(3, 5, 3, stride=2, padding=1, b=b)), seeded(BcosLinear(27, 5, b=b))
    linear.weight.data = conv.weight.data.flatten(1)
    x = normal(2, 3, 8, 8)
    patches = unfold(x, 3, padding=1, stride=2).movedim(1, -1)
    unit = linear.weight / linear.weight.norm(dim=1, keepdim=True)
    dot = patches @ unit.T
    slow = (dot / patches.norm(dim=-1, keepdim=True)).abs() ** (b - 1) * dot
    assert torch.allclose(conv(x).flatten(2).movedim(1, -1), slow, atol=1e-5, rtol=1e-4)
    assert torch.allclose(linear(patches), slow, atol=1e-5, rtol=1e-4)


def test_layers_agree_with_the_authors_package():
    # golden/make_bcos.py wrote it with bcos 0.1.3
    golden = np.load(GOLDEN, allow_pickle=False)
    x = torch.from_numpy(golden["x"])
    for b in (1, 2, 2.5):
        conv = BcosConv2d(6, 4, 3, stride=2, padding=1, b=b)
        conv.weight.data = torch.from_numpy(golden["weight"])
        assert torch.allclose(conv(x), torch.from_numpy(golden[f"y {b}"]), atol=1e-6)
        with explanation_mode(conv):
            leaf = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(conv(leaf).square().sum(), leaf)
        assert torch.allclose(slope, torch.from_numpy(golden[f"slope {b}"]), atol=1e-6)
    norm = UncentredNorm(6)
    norm.train()
    assert torch.allclose(norm(x), torch.from_numpy(golden["norm"]), atol=1e-6)
    assert torch.allclose(norm.running_var, torch.from_numpy(golden["running_var"]), atol=1e-6)
    assert torch.equal(AddInverse()(x[:, :3]), torch.cat([x[:, :3], 1 - x[:, :3]], 1))


def test_the_linear_map_gives_the_logits_exactly():
    net, x = network(), AddInverse()(normal(4, 1, 8, 8).sigmoid())
    target = torch.tensor([0, 1, 2, 0])
    row = linear_map(net, x, target)
    logits = net(x).gather(1, target[:, None]).squeeze(1)
    assert torch.allclose((row * x).flatten(1).sum(1), logits - net.bias, atol=1e-12)


def test_the_map_is_not_the_gradient():
    net, x = network(), AddInverse()(normal(4, 1, 8, 8).sigmoid()).requires_grad_()
    target = torch.zeros(4, dtype=torch.long)
    (gradient,) = torch.autograd.grad(net(x)[:, 0].sum(), x)
    row = linear_map(net, x.detach(), target)
    assert (row - gradient).norm() > 0.2 * row.norm()


def test_explanations_change_no_output_and_are_undone():
    net, x = network(), normal(2, 2, 8, 8)
    before = net(x)
    with explanation_mode(net):
        assert torch.equal(net(x), before)
    with pytest.raises(ValueError, match="expected"), explanation_mode(net):
        net(x[0])
    assert not any(getattr(module, "explaining", False) for module in net.modules())


def test_outputs_scale_with_the_input():
    net, x = network(), 100 * AddInverse()(normal(2, 1, 8, 8).sigmoid())
    assert torch.allclose(net(3 * x) - net.bias, 3 * (net(x) - net.bias), rtol=1e-6)


def test_a_norm_subtracts_nothing_and_remembers_variance():
    norm, x = UncentredNorm(2, momentum=0.5).double(), 3 + normal(50, 2, 4, 4)
    y = norm.train()(x)
    assert torch.allclose(y, x / x.var((0, 2, 3), unbiased=False).sqrt()[:, None, None], rtol=1e-4)
    assert torch.allclose(norm.running_var, 0.5 + 0.5 * x.var((0, 2, 3), unbiased=False))


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_zeros_have_no_gradient_that_is_not_a_number(scale):
    net = SmallBcos(1, 3, widths=(4,), strides=(1,)).eval()
    x = torch.zeros(1, 2, 6, 6) * scale
    assert torch.isfinite(linear_map(net, x, torch.tensor([0]))).all()


def test_what_is_wrong_is_said():
    net = network()
    with pytest.raises(ValueError, match=r"b=0\.5"):
        BcosConv2d(1, 1, 1, b=0.5)
    with pytest.raises(ValueError, match="expected"):
        net(torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match="no B-cos layer"), explanation_mode(nn.Linear(2, 2)):
        pass
    with pytest.raises(ValueError, match="training"):
        linear_map(net.train(), normal(1, 2, 8, 8), torch.tensor([0]))


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="n_classes=1"):
        SmallBcos(1, 1)
