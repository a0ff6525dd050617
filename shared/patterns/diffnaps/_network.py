"""DiffNaps' network: a binary auto-encoder whose neurons are conjunctions, with a classifier on them (section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from shared._checks import check_choice, check_range, check_shape
from shared.patterns.diffnaps._layers import (
    BIAS_RULES,
    binary_linear,
    binary_linear_transposed,
    gated_step,
    logical_or,
)

HEAD_INITS = ("xavier", "bimodal")
_FUSED = ("cpu", "cuda", "xpu", "mps")


class DiffNapsOutput(NamedTuple):
    """What the network makes of B rows.

    Attributes
    ----------
    reconstruction : (B, d) tensor
        0 and 1.
    logits : (B, C) tensor
        Of the classes.
    active : (B, h) tensor
        Which neurons fire, 0 and 1.
    """

    reconstruction: Tensor
    logits: Tensor
    active: Tensor


class DiffNapsNet(nn.Module):
    """The network: `weight` (h, d) in [floor, 1] of encoder and decoder, `head` (C, h) in [0, 1], `bias` (h,) ≤ −1.

    Parameters
    ----------
    n_features, n_hidden, n_classes : int
        d, h, C.
    floor : float, optional
        Lower end of the weights, 1/d unless told: one sampled item per pattern on average, so that no neuron dies.
    head_init : "xavier" or "bimodal"
        Normal, or N(0.25, 0.1) or N(0.75, 0.1), a coin each; then clamped.
    bias_rule : "sample" or "batch"
        See `gated_step`.
    two_moments : bool
        Encoder and decoder are two parameters over one storage, each with its own gradient and moments in Adam (as the
        authors' program has it), so that neither drowns the other; False: one parameter, whose gradients add up.
    generator : torch.Generator, optional
        For the initial weights, on the CPU, so that they are the same on every device.
    """

    def __init__(
        self,
        n_features: int,
        n_hidden: int,
        n_classes: int,
        *,
        floor: float | None = None,
        head_init: str = "xavier",
        bias_rule: str = "sample",
        two_moments: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("n_features", n_features), ("n_hidden", n_hidden), ("n_classes", n_classes)):
            check_range(name, size, 1)
        check_choice("head_init", head_init, HEAD_INITS)
        self.bias_rule = check_choice("bias_rule", bias_rule, BIAS_RULES)
        self.floor = 1.0 / n_features if floor is None else floor
        check_range("floor", self.floor, 0, 1)
        self.weight = nn.Parameter(torch.empty(n_hidden, n_features))
        self.bias = nn.Parameter(-torch.ones(n_hidden))
        self.head = nn.Parameter(torch.empty(n_classes, n_hidden))
        nn.init.xavier_normal_(self.weight, generator=generator)
        if head_init == "xavier":
            nn.init.xavier_normal_(self.head, generator=generator)
        else:
            high = torch.randint(0, 2, self.head.shape, generator=generator)
            self.head.data = 0.25 + 0.5 * high + 0.1 * torch.randn(self.head.shape, generator=generator)
        self.decoder = nn.Parameter(self.weight.data) if two_moments else None
        self.clamp_()

    def _apply(self, fn, recurse: bool = True):
        """Moving the module would copy the storage twice; tie it again."""
        super()._apply(fn, recurse)
        if self.decoder is not None:
            self.decoder.data = self.weight.data
        return self

    def optimizers(self, lr: float) -> list[torch.optim.Adam]:
        """Adam for encoder, bias and head, and one for the decoder, to be stepped one after the other.

        They must not be one optimiser: its fused kernels would write to the shared storage at the same time.

        Parameters
        ----------
        lr : float
            Learning rate.

        Returns
        -------
        list of torch.optim.Adam
            Two of them, or one without `two_moments`.
        """
        groups = [[self.weight, self.bias, self.head], *([[self.decoder]] if self.decoder is not None else [])]
        fused = self.weight.device.type in _FUSED
        return [torch.optim.Adam(group, lr=lr, fused=fused) for group in groups]

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring the parameters back to their ranges; to be called after every optimiser step."""
        self.weight.clamp_(self.floor, 1)
        self.head.clamp_(0, 1)
        self.bias.clamp_(max=-1)

    @torch.no_grad()
    def sample(self, *, generator: torch.Generator | None = None) -> Tensor:
        """Binary weights, each 1 with probability `weight`; a fresh draw belongs to every mini-batch.

        Parameters
        ----------
        generator : torch.Generator, optional
            On the network's device.

        Returns
        -------
        (h, d) tensor
            0 and 1.
        """
        noise = torch.rand(self.weight.shape, dtype=self.weight.dtype, device=self.weight.device, generator=generator)
        return noise.lt_(self.weight)  # in place: at 100,000 features every copy is felt

    def threshold(self, t_e: float) -> Tensor:
        """Binary weights as the patterns are read from.

        Parameters
        ----------
        t_e : float
            1 where a weight exceeds it.

        Returns
        -------
        (h, d) tensor
            0 and 1.
        """
        return (self.weight.detach() > t_e).to(self.weight.dtype)

    def forward(self, x: Tensor, binary: Tensor) -> DiffNapsOutput:
        """Run rows through the network with sampled or thresholded weights.

        Parameters
        ----------
        x : (B, d) tensor
            Rows of 0 and 1.
        binary : (h, d) tensor
            From `sample` or `threshold`.

        Returns
        -------
        DiffNapsOutput
            Reconstruction, logits and which neurons fire.
        """
        check_shape("x", x, ("B", self.weight.shape[1]))
        check_shape("binary", binary, tuple(self.weight.shape))
        active = gated_step(binary_linear(x, self.weight, binary), self.bias, bias_rule=self.bias_rule)
        decoder = self.weight if self.decoder is None else self.decoder
        reconstruction = logical_or(binary_linear_transposed(active, decoder, binary))
        return DiffNapsOutput(reconstruction, active @ self.head.T, active)
