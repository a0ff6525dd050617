import pytest
import torch
from torch import nn


@pytest.fixture
def net():
    """A small average-pooling CNN in eval mode, and images (10, 3, 16, 16)."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    ).eval()
    return model, torch.rand(10, 3, 16, 16)
