"""LRP through 3-D convolutions, norms and pools."""

import pytest
import torch
from torch import nn

from shared.lrp import (
    Composite,
    Epsilon,
    EpsilonPlus,
    ZPlus,
    attribute,
    channel_relevance,
    crop_to_relevance,
    reference_banks,
)
from shared.lrp.unrolled import UnrolledLRP
from shared.nets import graz_net


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return graz_net((7, 8, 9), kernels=4, stages=2, hidden=5).double().eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(3, 1, 7, 8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def pooled(pool: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm3d(4)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    norm.running_mean.uniform_(-0.1, 0.1)
    norm.running_var.uniform_(0.5, 1.5)
    layers = [nn.Conv3d(1, 4, 3, padding=1, bias=False), norm, nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(3)]
    model = nn.Sequential(*layers)
    model(torch.zeros(1, 1, 6, 6, 6))
    return model.double().eval()


def test_without_rules_it_is_gradient_times_input(net, x):
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[:, 1].sum(), x)
    found = attribute(net, x.detach(), 1, composite=Composite([])).relevance
    torch.testing.assert_close(found, (gradient * x).detach())


@pytest.mark.parametrize("shape", [(7, 7, 7), (8, 8, 8), (7, 8, 9)], ids=str)
def test_z_plus_of_strided_convolutions_by_hand(shape):
    """R_i = x_i Σ_j w⁺_ij R_j / Σ_i' x_i' w⁺_i'j with the convolution written out as a matrix."""
    torch.manual_seed(0)
    conv = nn.Conv3d(1, 2, 3, 2, 1, bias=False).double()
    basis = torch.eye(shape[0] * shape[1] * shape[2], dtype=torch.float64).view(-1, 1, *shape)
    matrix = conv(basis).flatten(1).detach()  # (inputs, outputs)
    positive = torch.zeros_like(matrix)
    with torch.no_grad():
        kept = conv.weight.clone()
        conv.weight.clamp_(min=0)
        positive += conv(basis).flatten(1)
        conv.weight.copy_(kept)
    x = torch.rand(1, 1, *shape, dtype=torch.float64)
    model = nn.Sequential(conv, nn.Flatten()).eval()
    weights = torch.rand(1, matrix.shape[1], dtype=torch.float64)
    found = attribute(model, x, weights, composite=Composite([(nn.Conv3d, ZPlus(epsilon=0))])).relevance
    relevance = (x.flatten() @ matrix) * weights[0]
    ratio = relevance / (x.flatten() @ positive)
    torch.testing.assert_close(found.flatten(), x.flatten() * (positive @ ratio))


@pytest.mark.parametrize(
    "pool", [nn.AvgPool3d(2), nn.MaxPool3d(2), nn.AdaptiveAvgPool3d(3)], ids=lambda p: type(p).__name__
)
def test_norms_and_pools(pool, x):
    """ε-LRP with ε → 0 of a network of positively homogeneous layers and a merged norm is gradient × input."""
    model, x = pooled(pool), torch.rand(2, 1, 6, 6, 6, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 2].sum(), x)
    rules = Composite([((nn.Conv3d, nn.Linear, nn.AvgPool3d, nn.AdaptiveAvgPool3d), Epsilon(epsilon=0))])
    torch.testing.assert_close(attribute(model, x.detach(), 2, composite=rules).relevance, (gradient * x).detach())


def test_norm_merged_by_hand():
    """Z⁺ of a convolution and its BatchNorm3d is Z⁺ of the one convolution they make."""
    model = pooled(nn.AvgPool3d(2))
    conv, norm = model[0], model[1]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    one = nn.Conv3d(1, 4, 3, padding=1).double()
    with torch.no_grad():
        one.weight.copy_(conv.weight * scale.view(-1, 1, 1, 1, 1))
        one.bias.copy_(norm.bias - norm.running_mean * scale)
    x = torch.rand(2, 1, 6, 6, 6, dtype=torch.float64)
    found = [attribute(m, x, 0, composite=EpsilonPlus()).relevance for m in (model, nn.Sequential(one, *model[2:]))]
    torch.testing.assert_close(*found)


def test_maps_of_all_concepts_add_up(net, x):
    """CRP at a layer that every path crosses: Σ_k R(x | y, k) = R(x | y); seven of eight don't."""
    layer = "6"
    parts = attribute(net, x, 1, composite=EpsilonPlus(), conditions=[{layer: k} for k in range(4)]).relevance
    whole = attribute(net, x, 1, composite=EpsilonPlus(), record=layer)
    torch.testing.assert_close(parts.sum(0), whole.relevance)
    assert not torch.allclose(parts[1:].sum(0), whole.relevance)
    shares = channel_relevance(whole.latent[layer], normalise=False)
    assert shares.shape == (3, 4)
    assert whole.latent[layer].shape[2:] == (2, 2, 3)


def test_relevance_is_kept_without_biases(net, x):
    rules = Composite([(nn.Conv3d, ZPlus(epsilon=0)), (nn.Linear, Epsilon(epsilon=0))])
    found = attribute(net, x, 1, composite=rules, record=["2", "6"])
    total = found.output[:, 1]
    for part in (found.relevance, *found.latent.values()):
        torch.testing.assert_close(part.flatten(1).sum(1), total)


def test_mirrored_network_mirrored_map():
    """9 -> 5 -> 3 voxels: only odd sizes keep strides symmetric."""
    net, mirrored = (graz_net((9, 5, 5), kernels=4, stages=2, hidden=5).double().eval() for _ in range(2))
    mirrored.load_state_dict(net.state_dict())
    with torch.no_grad():
        for module in mirrored:
            if isinstance(module, nn.Conv3d):
                module.weight.copy_(module.weight.flip(2))
        first = mirrored[9].weight.view(5, 4, 3, 2, 2)
        first.copy_(first.flip(2).clone())
    x = torch.rand(2, 1, 9, 5, 5, dtype=torch.float64)
    maps = [attribute(m, v, 0, composite=EpsilonPlus()).relevance for m, v in ((net, x), (mirrored, x.flip(2)))]
    torch.testing.assert_close(maps[0].flip(2), maps[1])


def test_voxels_and_banks(net, x):
    found = attribute(net, x, 1, composite=EpsilonPlus())
    torch.testing.assert_close(found.voxels, found.relevance[:, 0])
    with pytest.raises(ValueError, match="voxels"):
        _ = found.pixels
    bank = reference_banks(net, "6", x, 1, k=2)["6"]
    assert bank.rows.shape == (4, 2)
    assert int(bank.positions.max()) < 12
    crops = crop_to_relevance(x, found.voxels, threshold=0.5)
    assert len(crops) == 3
    assert all(crop.ndim == 4 for crop in crops)


def test_unrolled_agrees_and_can_be_trained_through(net, x):
    _logits, maps = UnrolledLRP(net, rule="zplus").relevance(x, classes=[1])
    rules = Composite([((nn.Conv3d, nn.Linear), ZPlus(epsilon=0))])
    torch.testing.assert_close(maps[:, 0].detach(), attribute(net, x, 1, composite=rules).relevance)
    (gradient,) = torch.autograd.grad(maps[0, 0, 0, :3].sum(), net[0].weight)
    step, weight = 1e-6, net[0].weight
    moved = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0, 1, 1, 1] += sign * step
            moved.append(UnrolledLRP(net, rule="zplus").relevance(x, classes=[1])[1][0, 0, 0, :3].sum())
            weight[0, 0, 1, 1, 1] -= sign * step
    torch.testing.assert_close(gradient[0, 0, 1, 1, 1], (moved[0] - moved[1]) / (2 * step), rtol=1e-4, atol=1e-9)
