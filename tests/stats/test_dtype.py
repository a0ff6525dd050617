"""The widest type of a device."""

import pytest
import torch

from shared.stats import wide_dtype


@pytest.mark.parametrize(
    ("device", "dtype"), [("cpu", torch.float64), ("cuda:1", torch.float64), ("mps", torch.float32)]
)
def test_widest(device, dtype):
    assert wide_dtype(device) is dtype
    assert wide_dtype(torch.device(device)) is dtype
