"""Small models for the LRP tests, random but seeded."""

from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _seeded():
    state = torch.get_rng_state()
    torch.manual_seed(0)
    yield
    torch.set_rng_state(state)


class ResidualNet(nn.Module):
    """Batch norms, ReLU6, a depthwise convolution and an in-place functional residual add."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.act = nn.ReLU6(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.act(self.bn1(self.conv1(x)))
        shortcut = x
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.fc(self.relu(x).mean((2, 3)))


def randomize_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return model


@pytest.fixture
def residual_net():
    return randomize_norms(ResidualNet()).double().eval()


@pytest.fixture
def conv_net():
    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
    ]
    return nn.Sequential(*layers).double().eval()


@pytest.fixture
def images():
    return torch.randn(3, 3, 12, 12, dtype=torch.float64)


@pytest.fixture
def make_llama():
    """Builds a small random Llama; `layers`, `hidden_act` and friends as in LlamaConfig."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def build(**changes):
        sizes = dict(vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2)
        heads = dict(num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
        return LlamaForCausalLM(LlamaConfig(**{**sizes, **heads, **changes})).eval()

    return build


@pytest.fixture
def make_vit():
    """Builds a small random `ViTForImageClassification` for 16x16 images."""
    from transformers import ViTConfig, ViTForImageClassification

    def build(**changes):
        sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
        shape = dict(image_size=16, patch_size=4, num_labels=5)
        return ViTForImageClassification(ViTConfig(**{**sizes, **shape, **changes})).eval()

    return build


@pytest.fixture
def token_ids():
    return torch.randint(3, 50, (3, 7))
