"""Codes whose relations are known."""

import torch

from shared.sae import SAEConfig, SparseDict


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def codes(n=300, d=12, share=0.2, seed=0, dtype=torch.float32):
    """Random codes with values clear of the threshold; the last latent is dead."""
    found = torch.rand(n, d, generator=rng(seed), dtype=dtype) + 0.1
    found = found * (torch.rand(n, d, generator=rng(seed + 1)) < share)
    found[:, -1] = 0
    return found


def family(n=2000, seed=0):
    """0: parent, with a rate of a quarter; 1, 2: children that fire on parts of it; 3: always on; 4: alone; 5: dead."""
    draw = torch.rand(n, 3, generator=rng(seed))
    parent = draw[:, 0] < 0.25
    first, second = parent & (draw[:, 1] < 0.4), parent & (draw[:, 1] > 0.6)
    alone = draw[:, 2] < 0.1
    on = torch.stack([parent, first, second, parent | True, alone, parent & False], 1)
    return on * (0.5 + torch.rand(n, 6, generator=rng(seed + 1)))


def dictionary(d_in=8, d_sae=12, seed=0):
    """A dictionary with biases."""
    sae = SparseDict(SAEConfig("standard", d_in, d_sae), generator=rng(seed)).requires_grad_(False)
    sae.b_dec.copy_(torch.randn(d_in, generator=rng(seed + 1)))
    return sae
