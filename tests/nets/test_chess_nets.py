"""lc0's files, written here field by field and read back; post-norm blocks against their equation."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from shared.nets import Lc0Net, PostNormPolicy, load_lc0

WIDTH, SQUEEZED, BLOCKS = 4, 2, 2


def varint(value):
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 127
        out.append(byte | (128 if value else 0))
        if not value:
            return bytes(out)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fixed(number, data):
    return varint(number << 3 | 5) + data


def layer(values):
    low, high = float(values.min()), float(values.max())
    steps = np.round((values - low) / max(high - low, 1e-9) * 65535).astype("<u2")
    return fixed(1, struct.pack("<f", low)) + fixed(2, struct.pack("<f", high)) + field(3, steps.tobytes())


class Writer:
    """A small network with batch norms: its file, and what it computes, written apart from the reader."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.conv = {}

    def block(self, name, inputs, outputs):
        draw = self.rng.normal
        parts = [draw(size=(outputs, inputs, 3, 3)) / 6, draw(size=outputs), self.rng.uniform(0.5, 2, outputs)]
        parts += [draw(size=outputs), draw(size=outputs)]
        self.conv[name] = [torch.from_numpy(part).float() for part in parts]
        return b"".join(field(number, layer(part.ravel())) for number, part in zip((1, 3, 4, 5, 6), parts))

    def file(self, policy=2, magic=0x1C0):
        body = field(1, self.block("stem", 112, WIDTH))
        self.dense = []
        for i in range(BLOCKS):
            sizes = ((SQUEEZED, WIDTH), (SQUEEZED,), (2 * WIDTH, SQUEEZED), (2 * WIDTH,))
            dense = [self.rng.normal(size=size) for size in sizes]
            self.dense.append([torch.from_numpy(part).float() for part in dense])
            se = b"".join(field(n, layer(part.ravel())) for n, part in enumerate(dense, 1))
            convs = field(1, self.block(f"{i}a", WIDTH, WIDTH)) + field(2, self.block(f"{i}b", WIDTH, WIDTH))
            body += field(2, convs + field(3, se))
        last = self.rng.normal(size=(80, WIDTH, 3, 3)), self.rng.normal(size=80)
        self.last = [torch.from_numpy(part).float() for part in last]
        body += field(11, self.block("policy", WIDTH, WIDTH))
        body += field(3, b"".join(field(n, layer(part.ravel())) for n, part in enumerate(last, 1)))
        formats = b"".join(field(n, v) for n, v in ((1, 1), (2, 2), (3, 4), (4, policy), (5, 2)))
        head = fixed(1, struct.pack("<I", magic)) + field(4, field(1, 1) + field(2, formats))
        return head + field(10, body)

    def normed(self, x, name):
        weight, mean, variance, gamma, beta = self.conv[name]
        return F.batch_norm(F.conv2d(x, weight, padding=1), mean, variance, gamma, beta, eps=1e-5)

    def __call__(self, x):
        x = self.normed(x, "stem").relu()
        for i, (w1, b1, w2, b2) in enumerate(self.dense):
            y = self.normed(self.normed(x, f"{i}a").relu(), f"{i}b")
            both = F.linear(F.linear(y.mean((2, 3)), w1, b1).relu(), w2, b2)[..., None, None]
            x = (x + torch.sigmoid(both[:, :WIDTH]) * y + both[:, WIDTH:]).relu()
        return F.conv2d(self.normed(x, "policy").relu(), *self.last, padding=1).flatten(1)


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_is_read_as_it_was_written(tmp_path, packed):
    writer, path = Writer(), tmp_path / "net.pb"
    data = writer.file()
    path.write_bytes(gzip.compress(data) if packed else data)
    net = load_lc0(path)
    x = torch.rand(3, 112, 8, 8, generator=torch.Generator().manual_seed(0))
    want = writer(x)
    with torch.no_grad():
        torch.testing.assert_close(net(x), want, atol=2e-3 * float(want.abs().max()), rtol=0)  # 16-bit steps


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "net.pb"
    with pytest.raises(ValueError, match=r"path=.*is no file; accepted"):
        load_lc0(path)
    path.write_bytes(Writer().file(policy=1))
    with pytest.raises(ValueError, match=r"has policy format 1; accepted: 2 \(convolutional\)"):
        load_lc0(path)
    for wrong in (b"", b"no network", Writer().file(magic=7), Writer().file()[:2000], b"\x1f\x8bno"):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"is no weight file of lc0"):
            load_lc0(path)


def test_layout_of_the_convolutional_network():
    net = Lc0Net(blocks=2, width=8, squeezed=2).eval()
    assert net(torch.rand(2, 112, 8, 8)).shape == (2, 5120)


def net(**given):
    return PostNormPolicy(layers=3, width=16, heads=2, generator=torch.Generator().manual_seed(0), **given).eval()


TOKENS = torch.tensor([[6 * 64 + 3, 5, 64 + 9, -1], [6 * 64 + 60, 1, 2 * 64 + 30, 8 * 64 + 4]])


def test_absent_pieces_change_nothing():
    model = net()
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS)[:1, :3], model(TOKENS[:1, :3]), atol=1e-5, rtol=1e-5)
        assert model(TOKENS).shape == (2, 4, 64)
    assert torch.equal(net()(TOKENS), model(TOKENS))


def test_the_silent_block_is_the_block_without_attention_and_mlp():
    model, silent = net(), net()
    for block in silent.blocks[1:]:
        for part in (block.out, block.down):
            torch.nn.init.zeros_(part.weight), torch.nn.init.zeros_(part.bias)
    there = TOKENS >= 0
    kinds = torch.where(there, TOKENS // 64, 12)
    with torch.no_grad():
        x = model.norm(model.kind(kinds) + model.square(TOKENS.clamp(min=0) % 64))
        first = model.blocks[0](x, there)
        torch.testing.assert_close(model.head(model.rest(first, 1)), silent(TOKENS))
        assert torch.equal(model.rest(first, 3), first)
        louder = first * 5  # the weight of the stream drops out, but for the norms' epsilon
        torch.testing.assert_close(model.rest(louder, 1), model.rest(first, 1), atol=1e-4, rtol=1e-4)


def test_the_block_is_its_equation():
    block = net().blocks[0]
    x, there = torch.randn(1, 3, 16), torch.tensor([[True, True, False]])
    q, k, v = block.qkv(x).chunk(3, -1)
    heads = []
    for h in range(2):
        s = slice(8 * h, 8 * h + 8)
        scores = (q[0, :, s] @ k[0, :, s].T / 8**0.5)[:, :2].softmax(-1)
        heads.append(scores @ v[0, :2, s])
    u = block.norm1(block.alpha * x + block.out(torch.cat(heads, -1)[None]))
    torch.testing.assert_close(block(x, there), block.norm2(block.alpha * u + block.down(block.up(u).relu())))
