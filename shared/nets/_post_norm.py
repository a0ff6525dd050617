"""A small chess policy in post-norm blocks, the layout of Leela Chess Zero's transformers, on one token per piece."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared._checks import check_range
from shared.nets._build import _drawing_from

KINDS = "KQRBNPkqrbnp"


class PostNormBlock(nn.Module):
    """LN(αu + MLP(u)) behind u = LN(αx + attention(x)).

    Parameters
    ----------
    width, heads, hidden : int
    alpha : float
        Weight of the stream in both sums (DeepNorm, Wang et al. 2022).
    """

    def __init__(self, width: int, heads: int, hidden: int, alpha: float) -> None:
        super().__init__()
        self.heads, self.alpha = heads, alpha
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """States (B, T, d) to states; `there` (B, T) is False for tokens that aren't looked at."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None])
        u = self.norm1(self.alpha * x + self.out(seen.transpose(1, 2).flatten(-2)))
        return self.norm2(self.alpha * u + self.down(F.relu(self.up(u))))

    def silent(self, x: Tensor) -> Tensor:
        """The block with attention and MLP set to zero: its two norms alone.

        Parameters
        ----------
        x : Tensor, shape (..., d)

        Returns
        -------
        Tensor, shape (..., d)
        """
        return self.norm2(self.alpha * self.norm1(self.alpha * x))


class PostNormPolicy(nn.Module):
    """From pieces on squares to a logit per piece and target square.

    Parameters
    ----------
    layers, width, heads : int
    hidden : int, optional
        Units of each MLP; twice the width without.
    generator : torch.Generator on the CPU, optional
        Gives the weights and moves on.
    """

    def __init__(
        self,
        *,
        layers: int = 8,
        width: int = 64,
        heads: int = 4,
        hidden: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"layers": layers, "width": width, "heads": heads}.items():
            check_range(name, value, 1)
        if width % heads:
            raise ValueError(f"width={width} must be a multiple of heads={heads}")
        alpha, gain = (2 * layers) ** 0.25, (8 * layers) ** -0.25
        with _drawing_from(generator):
            self.kind = nn.Embedding(len(KINDS) + 1, width)
            self.square = nn.Embedding(64, width)
            self.norm = nn.LayerNorm(width)
            self.blocks = nn.ModuleList(PostNormBlock(width, heads, hidden or 2 * width, alpha) for _ in range(layers))
            self.head = nn.Linear(width, 64)
            for block in self.blocks:
                nn.init.xavier_normal_(block.qkv.weight)
                block.qkv.weight.data[2 * width :] *= gain
                for part in (block.out, block.up, block.down):
                    nn.init.xavier_normal_(part.weight, gain=gain)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, 64) of tokens (B, T).

        Parameters
        ----------
        tokens : Tensor of int, shape (B, T)
            64 · kind + square, kinds in the order of KQRBNPkqrbnp; -1 for no piece.
        """
        there = tokens >= 0
        kinds = torch.where(there, tokens // 64, len(KINDS))
        x = self.norm(self.kind(kinds) + self.square(tokens.clamp(min=0) % 64))
        for block in self.blocks:
            x = block(x, there)
        return self.head(x)

    def rest(self, x: Tensor, passed: int) -> Tensor:
        """A state behind block `passed`, carried to the end by the later blocks' norms alone.

        Parameters
        ----------
        x : Tensor, shape (..., d)
        passed : int
            Number of blocks the state has passed.

        Returns
        -------
        Tensor, shape (..., d)
        """
        for block in self.blocks[passed:]:
            x = block.silent(x)
        return x
