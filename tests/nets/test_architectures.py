"""The networks: what they put out, that seeds give the weights they always gave, that shipped checkpoints fit."""

import json

import pytest
import torch
from safetensors.torch import load_file

from shared import nets
from shared.compendium.paths import data_dir
from shared.zoo._architectures import ARCHITECTURES

# of each seeded network: sum of |state|, which the zoo's recipes and stored federated runs stand on
SEEDED = {
    "efficientnet-lite0": 167734.16,
    "small-resnet": 793.16024,
    "small-vgg": 3495.6466,
    "patch-head": 86.3789,
    "concept-autoencoder": 10751.856,
    "small-bcos": 2360.1547,
    "factor-cnn": 4161.309,
    "mlp": 417.34081,
    "cnn": 511.75508,
    "resnet18": 109470.11,
}
SHIPPED = {
    path.parent.name: path.parent
    for path in data_dir().glob("*/config.json")
    if json.loads(path.read_text()).get("architecture") in ARCHITECTURES
}


def build(kind, shape, norm):
    return nets.build_net(kind, shape, 10, generator=torch.Generator().manual_seed(0), norm=norm)


MAKE = {
    "efficientnet-lite0": nets.EfficientNetLite0,
    "small-resnet": lambda: nets.SmallResNet(3, 10, widths=(8, 16), blocks=2, stem_stride=2),
    "small-vgg": lambda: nets.SmallVGG(1, 10, 28),
    "patch-head": lambda: nets.PatchHead(16, 8, 12),
    "concept-autoencoder": lambda: nets.ConceptAutoencoder(96, 8),
    "small-bcos": lambda: nets.SmallBcos(1, 10),
    "factor-cnn": lambda: nets.FactorCNN({"shape": ["a", "b"], "colour": ["r", "g", "b"]}),
    "mlp": lambda: build("mlp", (64,), "group"),
    "cnn": lambda: build("cnn", (1, 28, 28), "batch"),
    "resnet18": lambda: build("resnet18", (3, 32, 32), "group"),
}


@pytest.mark.parametrize("name", MAKE)
def test_a_seed_gives_the_weights_it_always_gave(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = MAKE[name]().state_dict()
    assert sum(value.double().abs().sum().item() for value in state.values()) == pytest.approx(SEEDED[name], rel=1e-7)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_checkpoint_fits_strictly(name):
    folder = SHIPPED[name]
    config = json.loads((folder / "config.json").read_text())
    model = ARCHITECTURES[config["architecture"]][0](**config.get("arguments", {}))
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)


def test_there_are_shipped_checkpoints():
    assert len(SHIPPED) >= 5


@pytest.mark.parametrize("make", [lambda: nets.SmallResNet(1, 4), lambda: nets.SmallVGG(1, 4, 16)])
def test_logits_of_small_images(make):
    assert make().eval()(torch.rand(2, 1, 16, 16)).shape == (2, 4)


def test_features_are_the_map_that_is_pooled():
    net = nets.SmallResNet(3, 5, widths=(4, 8)).eval()
    x = torch.rand(2, 3, 16, 16)
    assert net.features(x).shape == (2, 8, 8, 8)
    torch.testing.assert_close(net.classifier(net.features(x).mean((2, 3))), net(x))


def test_small_conv_is_dualxdas_mnist_network():
    """Three unpadded convolutions of 5, 10 and 5 channels, layers of 500 and 100: 28 − 6 pixels a side are left."""
    net = nets.SmallConv(1, 10, (28, 28)).eval()
    assert [tuple(p.shape) for p in net.parameters() if p.ndim > 1] == [
        *((5, 1, 3, 3), (10, 5, 3, 3), (5, 10, 3, 3), (500, 5 * 22 * 22), (100, 500), (10, 100)),
    ]
    x = torch.rand(2, 1, 28, 28)
    assert (net.features(x) >= 0).all()
    torch.testing.assert_close(net.classifier(net.features(x)), net(x))
    assert nets.SmallConv(3, 4, (9, 12), widths=(2,), hidden=(7,))(torch.rand(2, 3, 9, 12)).shape == (2, 4)


@pytest.mark.parametrize("size", [8, 14])
def test_tensorflow_padding_is_sames(size):
    """Against a correlation written out: TensorFlow pads total (ceil(n/s)-1)·s + k - n, the odd one at the end."""
    block = nets.ConvNorm(1, 1, kernel=3, stride=2, same="tensorflow", act=None).eval()
    block.norm.eps = 0
    x, kernel = torch.rand(1, 1, size, size), block.conv.weight[0, 0].detach()
    total = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
    padded = torch.zeros(size + total, size + total)
    padded[total // 2 : total // 2 + size, total // 2 : total // 2 + size] = x[0, 0]
    out = -(-size // 2)
    slow = [[(padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel).sum() for j in range(out)] for i in range(out)]
    torch.testing.assert_close(block(x)[0, 0].detach(), torch.tensor(slow))


def test_efficientnet_refuses_what_it_cannot_read():
    net = nets.EfficientNetLite0(n_classes=3).eval()
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 40, 32\)"):
        net(torch.rand(1, 3, 40, 32))
    with pytest.raises(ValueError, match="same='valid'"):
        nets.ConvNorm(1, 1, same="valid")


def test_concept_networks_keep_their_shapes():
    autoencoder = nets.ConceptAutoencoder(12, 4).eval()
    x = torch.rand(2, 3, 32, 32)
    assert autoencoder.encode(x).shape == (2, 12)
    assert autoencoder(x).shape == x.shape
    assert autoencoder.judge(x).shape == (2, 4)
    assert {k: v.shape for k, v in nets.FactorCNN({"a": ["x", "y"]}).eval()(x).items()} == {"a": (2, 2)}
    assert nets.PatchHead(6, 5, 4)(torch.rand(2, 3, 3, 6)).shape == (2, 3, 3, 4)


@pytest.mark.parametrize(("stride", "last"), [(1, 3), (2, 2)])
def test_graz_net(stride: int, last: int) -> None:
    net = nets.graz_net((9, 10, 12), kernels=4, stages=2, hidden=5, stride=stride)
    assert net(torch.rand(2, 1, 9, 10, 12)).shape == (2, 2)
    maps = net[:8](torch.rand(2, 1, 9, 10, 12))
    assert isinstance(net[6], torch.nn.Conv3d)
    assert maps.shape[1] == 4
    assert maps.shape[2] == last
    for bad in ({"shape": (9, 10)}, {"stages": 0}, {"stride": 3}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            nets.graz_net(**{"shape": (9, 10, 12), **bad})
