import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture
def data():
    """Activations (150, 12) with correlated dimensions, and labels (150, 5) that depend on them."""
    rng = np.random.default_rng(0)
    H = rng.standard_normal((150, 12)) @ rng.standard_normal((12, 12)) + rng.standard_normal(12)
    W = rng.standard_normal((12, 5))
    Y = (H @ W / 4 + rng.standard_normal((150, 5)) * 2 - W.sum(0) * 0.1 > 0.5).astype(int)
    return torch.from_numpy(H), torch.from_numpy(Y)


@pytest.fixture
def wide():
    """Fewer samples than dimensions: (30, 50)."""
    rng = np.random.default_rng(1)
    H = rng.standard_normal((30, 50))
    return torch.from_numpy(H), torch.from_numpy((H[:, :3] + 0.3 * rng.standard_normal((30, 3)) > 0).astype(int))


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
