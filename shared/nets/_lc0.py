"""Leela Chess Zero's convolutional networks (Maia's among them), read from their own weight files.

Such a file is a protobuf message, gzipped. Only its wire format and a few field numbers are needed, so nothing is
compiled and nothing unpickled. A tensor is stored as its minimum, its maximum and 16-bit steps between.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

MAGIC = 0x1C0
FORMATS = {1: ("input", {1: "classical, 112 planes"}), 3: ("network", {4: "squeeze and excitation"}),
           4: ("policy", {2: "convolutional"})}  # fmt: skip
PLANES, POLICY, EPSILON = 112, 80, 1e-5


class SqueezeBlock(nn.Module):
    """relu(x + gain · y + bias) with y two convolutions of x, and gain and bias from y's mean over the board.

    Parameters
    ----------
    width : int
    squeezed : int
        Units between the mean and gain and bias.
    """

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.squeeze, self.excite = nn.Linear(width, squeezed), nn.Linear(squeezed, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 8, 8) to the same."""
        y = self.conv2(self.conv1(x).relu())
        gain, bias = self.excite(self.squeeze(y.mean((2, 3))).relu())[..., None, None].chunk(2, 1)
        return (x + y * gain.sigmoid() + bias).relu()


class Lc0Net(nn.Module):
    """Input planes to a logit per move: stem, blocks on one stream, convolutional policy head.

    Parameters
    ----------
    blocks, width, squeezed : int
    """

    def __init__(self, *, blocks: int = 6, width: int = 64, squeezed: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(PLANES, width, 3, padding=1), nn.ReLU())
        self.blocks = nn.ModuleList(SqueezeBlock(width, squeezed) for _ in range(blocks))
        convs = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, POLICY, 3, padding=1)
        self.policy = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.Flatten())

    def forward(self, planes: Tensor) -> Tensor:
        """Logits (B, 5120) of planes (B, 112, 8, 8), as `worlds.move_index` counts them.

        Parameters
        ----------
        planes : Tensor, shape (B, 112, 8, 8)
        """
        x = self.stem(planes)
        for block in self.blocks:
            x = block(x)
        return self.policy(x)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """A protobuf message's fields: number and value, a number or bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        if at + size > len(data):
            raise IndexError("cut off")
        yield key >> 3, data[at : at + size]
        at += size


def _array(layer: bytes) -> np.ndarray:
    found = dict(_fields(layer))
    low, high = (struct.unpack("<f", found[i])[0] for i in (1, 2))
    return low + (high - low) * np.frombuffer(found[3], "<u2").astype(np.float64) / 65535


def _conv(message: bytes, inputs: int, name: str) -> dict[str, Tensor]:
    """A convolution with its batch norm folded in; field 4, named stddivs, holds variances."""
    parts = {number: _array(value) for number, value in _fields(message) if isinstance(value, bytes) and value}
    weight = parts[1].reshape(-1, inputs, 3, 3)
    bias = parts.get(2, np.zeros(len(weight)))
    if 3 in parts:
        scale = parts.get(5, 1.0) / np.sqrt(parts[4] + EPSILON)
        weight, bias = weight * scale[:, None, None, None], (bias - parts[3]) * scale + parts.get(6, 0.0)
    return {f"{name}.weight": torch.from_numpy(weight).float(), f"{name}.bias": torch.from_numpy(bias).float()}


def load_lc0(path: str | Path) -> Lc0Net:
    """A convolutional network of Leela Chess Zero with squeeze and excitation, such as Maia's.

    Parameters
    ----------
    path : str or Path
        A `.pb` or `.pb.gz` file.

    Returns
    -------
    Lc0Net
        In eval mode.

    Raises
    ------
    ValueError
        For no such file, one that is no network of lc0, or one of another layout (its formats are named).
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"path={str(path)!r} is no file; accepted: lc0 weights, .pb or .pb.gz")
    data = file.read_bytes()
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        top = dict(_fields(data))
        if struct.unpack("<I", top[1])[0] != MAGIC:
            raise KeyError("magic number")
        formats = dict(_fields(dict(_fields(top[4]))[2]))
        weights = list(_fields(top[10]))
    except (KeyError, IndexError, TypeError, ValueError, struct.error, OSError, EOFError) as error:
        raise ValueError(f"path={str(path)!r} is no weight file of lc0 ({error})") from error
    for number, (name, known) in FORMATS.items():
        if formats.get(number) not in known:
            accepted = ", ".join(f"{key} ({what})" for key, what in known.items())
            raise ValueError(f"path={str(path)!r} has {name} format {formats.get(number)}; accepted: {accepted}")
    return _filled(weights)


def _filled(weights: list[tuple[int, int | bytes]]) -> Lc0Net:
    one = dict(weights)
    state = _conv(one[1], PLANES, "stem.0")
    width = len(state["stem.0.bias"])
    residual = [dict(_fields(value)) for number, value in weights if number == 2]
    for i, parts in enumerate(residual):
        state |= _conv(parts[1], width, f"blocks.{i}.conv1") | _conv(parts[2], width, f"blocks.{i}.conv2")
        se = {number: torch.from_numpy(_array(value)).float() for number, value in _fields(parts[3])}
        squeezed = len(se[2])
        names = ("squeeze.weight", "squeeze.bias", "excite.weight", "excite.bias")
        shaped = se[1].view(squeezed, width), se[2], se[3].view(2 * width, squeezed), se[4]
        state |= {f"blocks.{i}.{name}": value for name, value in zip(names, shaped)}
    state |= _conv(one[11], width, "policy.0") | _conv(one[3], width, "policy.2")
    net = Lc0Net(blocks=len(residual), width=width, squeezed=squeezed)
    net.load_state_dict(state)
    return net.eval()
