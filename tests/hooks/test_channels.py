"""Where the channels of an activation are."""

import pytest
import torch
from torch import nn

from shared.hooks import capture, find_channel_axis, module_axis, resolve_axis


class Permute(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.norm(self.conv(x)))


class ChannelsFirstNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


FIRST = {
    "Conv1d": (nn.Conv1d(3, 5, 1), (2, 3, 7)),
    "Conv3d": (nn.Conv3d(3, 5, 1), (2, 3, 4, 4, 4)),
    "ConvTranspose2d": (nn.ConvTranspose2d(3, 5, 2), (2, 3, 4, 4)),
    "BatchNorm1d": (nn.BatchNorm1d(3), (2, 3, 7)),
    "BatchNorm3d": (nn.BatchNorm3d(3), (2, 3, 4, 4, 4)),
    "GroupNorm": (nn.GroupNorm(1, 3), (2, 3, 4, 4)),
    "MaxPool2d": (nn.MaxPool2d(2), (2, 3, 4, 4)),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d(1), (2, 3, 4, 4)),
    "residual block": (Residual(), (2, 3, 4, 4)),
}
LAST = {
    "Linear": (nn.Linear(3, 5), (2, 7, 3)),
    "Linear on maps": (nn.Linear(3, 5), (2, 4, 4, 3)),
    "LayerNorm": (nn.LayerNorm(3), (2, 7, 3)),
    "RMSNorm": (nn.RMSNorm(3), (2, 4, 4, 3)),
    "encoder layer": (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (2, 7, 4)),
    "LSTM, both ways": (nn.LSTM(3, 5, bidirectional=True, batch_first=True), (2, 7, 3)),
    "MLP": (nn.Sequential(nn.Linear(3, 9), nn.GELU(), nn.Linear(9, 3)), (2, 4, 4, 3)),
}


def axis_of(module, shape):
    model = nn.ModuleDict({"part": module}).eval()
    with capture(model, "part") as seen:
        module(torch.zeros(shape))
    return find_channel_axis(model, "part", seen["part"]), seen["part"].ndim


@pytest.mark.parametrize(("module", "shape"), FIRST.values(), ids=FIRST)
def test_channels_first(module, shape):
    assert axis_of(module, shape)[0] == 1


@pytest.mark.parametrize(("module", "shape"), LAST.values(), ids=LAST)
def test_channels_last(module, shape):
    axis, ndim = axis_of(module, shape)
    assert axis == ndim - 1


def test_embedding():
    model = nn.Sequential(nn.Embedding(9, 4))
    assert find_channel_axis(model, "0", model(torch.zeros(2, 7, dtype=torch.long))) == 2


def test_elementwise_modules_take_their_neighbours_word():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Dropout(), nn.Flatten(2), nn.ReLU(), nn.Linear(9, 5), nn.GELU()
    )
    assert [module_axis(model, name) for name in "126"] == [1, 1, -1]
    assert module_axis(model, "4") is None  # behind a flattening nothing is known
    assert module_axis(Residual(), "relu") == 1


def test_vectors_have_one_axis_whatever_the_module():
    assert find_channel_axis(nn.Sequential(nn.Flatten()), "0", torch.zeros(2, 5)) == 1


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (nn.Sequential(Permute(0, 2, 3, 1)), (2, 4, 4, 3), r"layer='0' \(Permute\) doesn't tell.*channel_axis"),
        (nn.Sequential(ChannelsFirstNorm(3)), (2, 3, 4, 4), "doesn't tell"),
        (nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), Permute(0, 2, 3, 1))), (2, 3, 5, 5), "doesn't tell"),
        (nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(5, 5))), (2, 3, 5, 5), "doesn't tell"),
    ],
)
def test_what_does_not_tell_is_asked_for(model, shape, message):
    with capture(model, "0") as seen:
        model(torch.zeros(shape))
    with pytest.raises(ValueError, match=message):
        find_channel_axis(model, "0", seen["0"])
    assert find_channel_axis(model, "0", seen["0"], channel_axis=-1) == 3


def test_a_container_that_turns_its_axes_unseen_is_caught_by_its_width():
    class PatchEmbedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.projection = nn.Conv2d(3, 5, 2, 2)

        def forward(self, x):
            return self.projection(x).flatten(2).transpose(1, 2)

    model = nn.Sequential(PatchEmbedding())
    with pytest.raises(ValueError, match=r"has 3 or 5 channels, but its activation \(2, 4, 5\) has 4 on axis 1"):
        find_channel_axis(model, "0", model(torch.zeros(2, 3, 4, 4)))


@pytest.mark.parametrize(
    ("shape", "axis", "message"),
    [
        ((3,), None, r"H has shape \(3,\); expected \(B, D\)"),
        ((2, 3, 4), None, r"H has shape \(2, 3, 4\): pass channel_axis"),
        ((2, 3, 4), 3, "channel_axis=3 is out of range"),
        ((2, 3, 4), -3, "channel_axis=-3 of H .* is the batch's axis"),
    ],
)
def test_resolve_axis_refuses(shape, axis, message):
    with pytest.raises(ValueError, match=message):
        resolve_axis(torch.zeros(shape), axis, argument="H")
