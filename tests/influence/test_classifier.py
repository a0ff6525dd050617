"""The network that methods are fitted to: what it refuses, its randomised copy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from shared.influence import InfluenceFunctions, TracIn, TrainedClassifier, train_checkpoints


def test_classifier_refuses(conv):
    x, y = conv.x, conv.y
    for (model, inputs, labels, head), error, message in [
        ((conv.model, x, y, "body.0"), TypeError, "linear layers: head"),
        ((conv.model, x, y[:-1], "head"), ValueError, "y has shape"),
        ((conv.model, x, y + 1, "head"), ValueError, "3 classes"),
        ((conv.model, x, y.double(), "head"), ValueError, "integer"),
        ((conv.model, x * torch.inf, y, "head"), ValueError, "x has .* NaN or infinite"),
        ((conv.model, x[:0], y[:0], "head"), ValueError, "x is empty"),
        (
            (conv.model, {"pixel_values": x}, y, "head"),
            TypeError,
            "a Dataset or a DataLoader; got dict",
        ),
        ((copy.deepcopy(conv.model).train(), x, y, "head"), ValueError, "eval"),
    ]:
        with pytest.raises(error, match=message):
            TrainedClassifier(model, inputs, labels, head=head)


def test_a_model_without_gradients_by_sample_is_refused_by_name(conv):
    model = copy.deepcopy(conv.model).requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        TracIn(layers="all").fit(TrainedClassifier(model, conv.x, conv.y, head="head"))

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTM(4, 5, batch_first=True)
            self.out = nn.Linear(5, 2)

        def forward(self, x):
            return self.out(self.cell(x)[0][:, -1])

    net = TrainedClassifier(Recurrent().eval(), torch.rand(6, 3, 4), torch.arange(6) % 2, head="out")
    with pytest.raises(ValueError, match=r"gradients of 'cell' \(recurrent\)"):
        InfluenceFunctions(layers="all").fit(net)
    assert TracIn().fit(net).attribute(net.x[:2]).shape == (2, 6)


def test_randomised_keeps_the_values_and_not_their_places(conv):
    other = conv.randomised(torch.Generator().manual_seed(0))
    for p, q in zip(conv.model.parameters(), other.model.parameters()):
        assert torch.equal(p.flatten().sort().values, q.flatten().sort().values)
    assert not torch.equal(conv.train_features, other.train_features)


def test_training_keeps_checkpoints_with_their_rates():
    """A copy of the loop, written out: Adam, a cosine over the epochs, batches in a drawn order."""
    torch.manual_seed(0)
    x, y = torch.randn(10, 3), torch.arange(10) % 2
    net = nn.Linear(3, 2)
    slow = copy.deepcopy(net)
    found = train_checkpoints(
        net, x, y, epochs=4, lr=0.1, generator=torch.Generator().manual_seed(1), batch_size=4, n_checkpoints=2
    )
    optimiser, rng = torch.optim.Adam(slow.parameters(), 0.1, weight_decay=1e-4), torch.Generator().manual_seed(1)
    rates, states = [], []
    for epoch in range(4):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 + np.cos(np.pi * epoch / 4)) / 2
        rates.append(optimiser.param_groups[0]["lr"])
        for rows in torch.randperm(10, generator=rng).split(4):
            optimiser.zero_grad()
            nn.functional.cross_entropy(slow(x[rows]), y[rows]).backward()
            optimiser.step()
        states.append({name: value.clone() for name, value in slow.state_dict().items()})
    assert [c.lr for c in found] == pytest.approx([rates[1], rates[3]])
    for checkpoint, state in zip(found, (states[1], states[3])):
        torch.testing.assert_close(checkpoint.state, state)
    assert not net.training
