"""An autoencoder whose code is linear in concepts, and the judge that sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.nets._conv import ConvNorm


class ConceptJudge(nn.Sequential):
    """A small CNN with a logit per concept: (B, 3, 32, 32) in [0, 1] -> (B, concepts).

    Parameters
    ----------
    concepts : int
    """

    def __init__(self, concepts: int) -> None:
        layers = [ConvNorm(a, b, stride=2) for a, b in ((3, 16), (16, 32), (32, 48))]
        super().__init__(*layers, nn.Flatten(), nn.Linear(16 * 48, concepts))


class ConceptAutoencoder(nn.Module):
    """Convolutional autoencoder of 32-pixel images; `shifts` (concepts, code) insert concepts when added to a code.

    Input and output (B, 3, 32, 32) in [0, 1]; codes (B, code), each dimension of unit variance. `judge` gives a logit
    for each concept of an image.

    Parameters
    ----------
    code, concepts : int
    """

    def __init__(self, code: int, concepts: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(ConvNorm(a, b, stride=2) for a, b in ((3, 24), (24, 48), (48, 64))),
            nn.Flatten(),
            nn.Linear(1024, code),
            nn.BatchNorm1d(code, affine=False),
        )
        up = [nn.Sequential(nn.Upsample(scale_factor=2), ConvNorm(a, b)) for a, b in ((64, 64), (64, 48))]
        self.decoder = nn.Sequential(
            nn.Linear(code, 1024),
            nn.Unflatten(1, (64, 4, 4)),
            nn.ReLU(),
            *up,
            nn.Conv2d(48, 12, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        )
        self.shifts = nn.Parameter(0.1 * torch.randn(concepts, code))
        self.judge = ConceptJudge(concepts)

    def encode(self, x: Tensor) -> Tensor:
        """Codes of images.

        Parameters
        ----------
        x : Tensor, shape (B, 3, 32, 32)

        Returns
        -------
        Tensor, shape (B, code)
        """
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Images of codes.

        Parameters
        ----------
        z : Tensor, shape (B, code)

        Returns
        -------
        Tensor, shape (B, 3, 32, 32)
        """
        return self.decoder(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))
