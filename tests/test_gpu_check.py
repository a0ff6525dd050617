"""The device check finds what differs, moves whatever a call takes, and runs without a device."""

import numpy as np
import pytest
import torch
from torch import nn

from tests import gpu_check

CPU = torch.device("cpu")


@pytest.mark.parametrize("key", ["stats.auroc", "sae.match_mass", "lrp.attribute"])
def test_a_good_call_is_the_same_on_the_same_device(key):
    if key not in gpu_check.GOOD:
        pytest.skip(f"{key} has no table entry")
    assert gpu_check.check_call(key, CPU).startswith("ok")


def test_a_call_that_differs_is_named(monkeypatch):
    calls = iter([torch.zeros(2), torch.ones(2)])
    monkeypatch.setitem(gpu_check.GOOD, "stats.auroc", lambda: {"scores": torch.rand(4), "labels": torch.rand(4)})
    monkeypatch.setattr("shared.stats.auroc", lambda scores, labels: next(calls))
    assert gpu_check.check_call("stats.auroc", CPU) == "differs from the processor"


def test_everything_in_the_arguments_moves():
    given = {"x": torch.ones(2), "nets": [nn.Linear(2, 2)], "how": ("a", torch.Generator().manual_seed(3))}
    moved = gpu_check.moved(given, torch.device("cpu"))
    assert moved["how"][0] == "a"
    assert moved["how"][1].initial_seed() == 3
    assert len(list(gpu_check.tensors([given["x"], {"a": (torch.zeros(1),)}, np.ones(2)]))) == 2


def test_every_ratio_can_be_measured_small():
    ratios = gpu_check.check_ratios(CPU, large=False)
    assert all(isinstance(found, dict) and found["ratio"] > 0 for found in ratios.values()), ratios
