"""The U-Net on a classifier's encoder."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shared.nets import PooledVGG, SmallVGG, UNet


def resnet(**config):
    transformers = pytest.importorskip("transformers")
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "num_labels": 3, "layer_type": "basic"}
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**{**sizes, **config}))


@pytest.mark.parametrize("size", [31, 32, 33])
@pytest.mark.parametrize("encoder", [lambda: PooledVGG(3, 3, widths=((4,), (6,), (8,))), resnet])
def test_segments_at_the_size_of_the_input_and_keeps_the_classifier(encoder, size):
    torch.manual_seed(0)
    encoder = encoder().eval()
    plain = copy.deepcopy(encoder)
    x = torch.rand(2, 3, size, size)
    segmentation, logits = UNet(encoder, 5)(x)
    assert segmentation.shape == (2, 5, size, size)
    expected = plain(x)
    assert torch.equal(logits, getattr(expected, "logits", expected))


def test_every_pixel_and_every_level_has_a_say():
    """The segmentation depends on all of the encoder but its head, and a pixel on what is around it."""
    torch.manual_seed(0)
    model = UNet(PooledVGG(3, 3), 2)
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    model(x)[0][0, 0, 32, 32].backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert silent <= {"encoder.classifier.weight", "encoder.classifier.bias"}
    assert x.grad[0, :, 32, 32].any()
    assert not x.grad[0, :, 0, 0].any()


def test_building_it_leaves_the_encoder_alone():
    encoder = resnet(num_channels=2).train()
    before = copy.deepcopy(encoder.state_dict())
    model = UNet(encoder, 2, channels=2)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.training
    assert model.encoder is encoder


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="encoder is a SmallVGG"):
        UNet(SmallVGG(3, 2, 32), 2)
    with pytest.raises(ValueError, match="encoder is a Linear"):
        UNet(nn.Linear(2, 2), 2)
    with pytest.raises(ValueError, match="n_classes=1"):
        UNet(PooledVGG(3, 2), 1)
