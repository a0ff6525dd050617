"""SmoothGrad, occlusion and deconvolution: closed forms of small nets, and the same numbers for any batch size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.attribution import deconvnet, gradient, occlusion, smooth_grad


@pytest.fixture
def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)]
    return nn.Sequential(*layers).double().eval()


@pytest.fixture
def x():
    return torch.randn(5, 2, 6, 6, dtype=torch.float64)


class Square(nn.Module):
    """Sum of squares: gradient 2x, which noise changes in a known way."""

    def forward(self, x):
        return x.pow(2).flatten(1).sum(1, keepdim=True)


def _chance(seed=0):
    return torch.Generator().manual_seed(seed)


def test_smooth_grad_without_noise_is_the_gradient(net, x):
    assert torch.allclose(smooth_grad(net, x, 1, noise=0.0, samples=2), gradient(net, x, 1))


def test_smooth_grad_of_a_square():
    """Mean 2x, standard error 2 sigma / sqrt(n), with sigma a share of the row's range."""
    x = torch.rand(2, 1, 20, 20, dtype=torch.float64)
    got = smooth_grad(Square().eval(), x, 0, noise=0.5, samples=64, generator=_chance())
    deviation = (got - 2 * x).flatten(1)
    spread = x.flatten(1).amax(1) - x.flatten(1).amin(1)
    assert torch.allclose(deviation.std(1), 2 * 0.5 * spread / 8, rtol=0.15)
    assert (deviation.mean(1).abs() < 4 * deviation.std(1) / 20).all()


def test_smooth_grad_draws_by_row(net, x):
    whole = smooth_grad(net, x, 1, samples=3, generator=_chance())
    parts = smooth_grad(net, x, 1, samples=3, generator=_chance(), batch_size=2)
    assert torch.allclose(whole, parts)
    assert not torch.allclose(whole, smooth_grad(net, x, 1, samples=3, generator=_chance(1)))
    twins = smooth_grad(net, x[:1].expand(2, -1, -1, -1), 1, samples=3, generator=_chance())
    assert not torch.allclose(twins[0], twins[1])


def test_occlusion_of_a_linear_net_is_the_windows_share():
    weight = torch.randn(1, 16, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 1, bias=False)).double().eval()
    net[1].weight.data = weight
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    got = occlusion(net, x, 0, window=(1, 2, 2))
    share = (x.flatten(1) * weight).view(3, 1, 4, 4)
    expected = nn.functional.avg_pool2d(share, 2) * 4
    assert torch.allclose(got, expected.repeat_interleave(2, 2).repeat_interleave(2, 3), atol=1e-6)


def test_occlusion_and_deconvnet_for_any_batch_size(net, x):
    for method in (
        lambda **how: occlusion(net, x, 1, window=(2, 3, 3), **how),
        lambda **how: deconvnet(net, x, 1, **how),
    ):
        assert torch.allclose(method(), method(batch_size=2))


@pytest.mark.parametrize("window", [(2, 3), (2, 9, 3), (0, 3, 3)])
def test_occlusion_names_the_window(net, x, window):
    with pytest.raises(ValueError, match=r"window=.* one entry for each axis"):
        occlusion(net, x, 1, window=window)


def test_bad_options(net, x):
    with pytest.raises(ValueError, match="noise=-1"):
        smooth_grad(net, x, 1, noise=-1.0)
    with pytest.raises(ValueError, match="samples=0"):
        smooth_grad(net, x, 1, samples=0)
