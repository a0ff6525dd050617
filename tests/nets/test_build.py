from __future__ import annotations

import pytest
import torch

from shared.nets import build_net


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("kind", "shape", "norm"),
    [
        ("mlp", (64,), "group"),
        ("mlp", (3, 8, 8), "group"),
        ("cnn", (1, 28, 28), "batch"),
        ("resnet18", (3, 32, 32), "group"),
    ],
)
def test_logits_and_seed(kind, shape, norm):
    before = torch.get_rng_state()
    first, again, other = (build_net(kind, shape, 7, generator=seeded(s), norm=norm).eval() for s in (3, 3, 4))
    x = torch.linspace(-1, 1, 2 * torch.Size(shape).numel()).reshape(2, *shape)
    assert first(x).shape == (2, 7)
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))
    assert torch.equal(before, torch.get_rng_state())


def test_the_generator_moves_on_and_none_means_the_global_state():
    generator = seeded(5)
    first, second = (build_net("mlp", (6,), 3, generator=generator) for _ in range(2))
    assert not torch.equal(first[1].weight, second[1].weight)
    torch.manual_seed(5)
    assert torch.equal(build_net("mlp", (6,), 3)[1].weight, first[1].weight)


def test_resnet18_has_its_size():
    net = build_net("resnet18", (3, 32, 32), 10, generator=seeded(0), norm="batch")
    assert sum(p.numel() for p in net.parameters()) == 11_173_962  # ResNet-18 with the CIFAR stem, 10 classes


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="kind='vgg'"):
        build_net("vgg", (3, 8, 8), 2, generator=seeded(0))
    with pytest.raises(ValueError, match=r"shape=\(64,\)"):
        build_net("cnn", (64,), 2, generator=seeded(0))
