"""Logits of models that return them in either way."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from shared.nets import logits_of, target_logit


class Wrapped(nn.Linear):
    def forward(self, x):
        return SimpleNamespace(logits=super().forward(x))


def test_logits_either_way():
    plain, wrapped = nn.Linear(3, 4), Wrapped(3, 4)
    wrapped.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3)
    assert torch.equal(logits_of(plain, x), logits_of(wrapped, x))
    assert logits_of(wrapped, x).requires_grad
    with pytest.raises(TypeError, match="model gives tuple"):
        logits_of(nn.LSTM(3, 4), x)


def test_each_row_has_its_own_class():
    logits = torch.arange(12.0).view(3, 4)
    assert target_logit(logits, torch.tensor([0, 3, 1])).tolist() == [0, 7, 9]
    with pytest.raises(ValueError, match="target must be from 0 to 3"):
        target_logit(logits, torch.tensor([0, 4, 1]))
