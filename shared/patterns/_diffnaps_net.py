"""DiffNaps' network: a binary auto-encoder whose neurons are conjunctions, with a classifier on them.

Source: Walter, Fischer and Vreeken, "Finding Interpretable Class-Specific Patterns through Efficient Neural Search",
AAAI 2024, section 3.2, and, for the binary layers, Fischer and Vreeken, "Differentiable Pattern Set Mining", KDD 2021.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from shared._checks import check_choice, check_range, check_shape

HEAD_INITS = ("xavier", "bimodal")
BIAS_RULES = ("sample", "batch")
_FUSED = ("cpu", "cuda", "xpu", "mps")


class _BinaryLinear(Function):
    """x W_bᵀ forward; backward as if the layer had the real weights: ∂x = g W, ∂W = gᵀ x."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, binary: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ binary.T

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        return grad @ weight if ctx.needs_input_grad[0] else None, grad.T @ x, None


class _BinaryLinearTransposed(Function):
    """z W_b forward, the tied decoder; backward with the real weights: ∂z = g Wᵀ, ∂W = zᵀ g."""

    @staticmethod
    def forward(ctx, z: Tensor, weight: Tensor, binary: Tensor) -> Tensor:
        ctx.save_for_backward(z, weight)
        return z @ binary

    @staticmethod
    def backward(ctx, grad: Tensor):
        z, weight = ctx.saved_tensors
        return grad @ weight.T, z.T @ grad, None


class _GatedStep(Function):
    """1 where count + trunc(bias) ≥ 1; backward lets active units pass, and silent ones only lower their threshold."""

    @staticmethod
    def forward(ctx, count: Tensor, bias: Tensor, per_sample: bool) -> Tensor:
        active = (count + bias.clamp(max=-1).trunc() >= 0.5).to(count.dtype)
        ctx.save_for_backward(active)
        ctx.per_sample = per_sample
        return active

    @staticmethod
    def backward(ctx, grad: Tensor):
        (active,) = ctx.saved_tensors
        silent = 1 - active
        if ctx.per_sample:
            grad_bias = (silent * grad.clamp(max=0) + active * grad).sum(0)
        else:
            grad_bias = silent.sum(0) * grad.clamp(max=0).sum(0) + active.sum(0) * grad.sum(0)
        return active * grad, grad_bias, None


class _Or(Function):
    """1 where a count is at least 1; the gradient passes straight through."""

    @staticmethod
    def forward(ctx, count: Tensor) -> Tensor:
        return count.clamp(0, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad


def binary_linear(x: Tensor, weight: Tensor, binary: Tensor) -> Tensor:
    """Counts x W_bᵀ (B, h) of the items of each sampled pattern that a row has.

    x : (B, d) of 0 and 1; weight : (h, d) real weights in [0, 1]; binary : (h, d), a sample of them. The
    gradient is that of the real layer x Wᵀ: g W with respect to x, gᵀ x with respect to the weights (section 3.2).
    """
    return _BinaryLinear.apply(x, weight, binary)


def binary_linear_transposed(z: Tensor, weight: Tensor, binary: Tensor) -> Tensor:
    """Counts z W_b (B, d) of the active patterns that hold each item: the decoder, tied to the encoder's weights."""
    return _BinaryLinearTransposed.apply(z, weight, binary)


def gated_step(count: Tensor, bias: Tensor, *, bias_rule: str = "sample") -> Tensor:
    """Which patterns fire (B, h): those of whose items at least 1 − trunc(min(b, −1)) are present, so two for b = −1.

    Gradient, z being the output: ∂count = z ⊙ g, and ∂b sums g over the rows where the pattern fired and min(g, 0) over
    those where it did not, so that a silent pattern is only ever made easier to fire. The formulas for b and the count
    stand the other way round in the paper's text; this is what the authors' program computes, except that it adds up
    the batch before it tells active from silent rows, which `bias_rule="batch"` does too.
    """
    check_choice("bias_rule", bias_rule, BIAS_RULES)
    return _GatedStep.apply(count, bias, bias_rule == "sample")


def logical_or(count: Tensor) -> Tensor:
    """Reconstruction: an item is there if any active pattern holds it (straight-through gradient)."""
    return _Or.apply(count)


class DiffNapsOutput(NamedTuple):
    """reconstruction (B, d) of 0 and 1, logits (B, C), active (B, h) of 0 and 1."""

    reconstruction: Tensor
    logits: Tensor
    active: Tensor


class DiffNapsNet(nn.Module):
    """The network: `weight` (h, d) in [floor, 1] of encoder and decoder, `head` (C, h) in [0, 1], `bias` (h,) ≤ −1.

    Parameters
    ----------
    n_features, n_hidden, n_classes : d, h, C.
    floor : lower end of the weights, 1/d unless told: one sampled item per pattern on average, so that no neuron dies.
    head_init : "xavier" (normal) or "bimodal" (N(0.25, 0.1) or N(0.75, 0.1), a coin each), then clamped.
    bias_rule : see `gated_step`.
    two_moments : encoder and decoder are two parameters over one storage, each with its own gradient and moments in
        Adam (as the authors' program has it), so that neither drowns the other; False makes them one parameter, whose
        gradients add up.
    generator : for the initial weights, on the CPU, so that they are the same on every device.
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
    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Binary weights (h, d), each 1 with probability `weight`; a fresh draw belongs to every mini-batch."""
        noise = torch.rand(self.weight.shape, dtype=self.weight.dtype, device=self.weight.device, generator=generator)
        return noise.lt_(self.weight)  # in place: at 100,000 features every copy is felt

    def threshold(self, t_e: float) -> Tensor:
        """Binary weights (h, d), 1 where a weight exceeds `t_e`: what the patterns are read from."""
        return (self.weight.detach() > t_e).to(self.weight.dtype)

    def forward(self, x: Tensor, binary: Tensor) -> DiffNapsOutput:
        """Run rows x (B, d) of 0 and 1 through the network with binary weights (h, d) from `sample` or `threshold`."""
        check_shape("x", x, ("B", self.weight.shape[1]))
        check_shape("binary", binary, tuple(self.weight.shape))
        active = gated_step(binary_linear(x, self.weight, binary), self.bias, bias_rule=self.bias_rule)
        decoder = self.weight if self.decoder is None else self.decoder
        reconstruction = logical_or(binary_linear_transposed(active, decoder, binary))
        return DiffNapsOutput(reconstruction, active @ self.head.T, active)


def weighted_xor(reconstruction: Tensor, x: Tensor, density: float) -> Tensor:
    """Mean over rows of the errors, an invented one counted with the data's density s, a missed one with 1 − s.

    A right cell sits on the kink and must get no gradient: relu has slope 0 there; `clamp(min=0)` has slope 1, which
    drives all weights to 1.
    """
    gap = reconstruction - x
    return (density * F.relu(gap) + (1 - density) * F.relu(-gap)).sum(1).mean()


def pattern_length(weight: Tensor) -> Tensor:
    """Mean over patterns of max(1, Σᵢ(Wᵢ − 1/d))²: a quadratic price on a whole pattern's length, none below 1."""
    return (weight.sum(1) - 1.0).clamp(min=1).square().mean()  # Σᵢ 1/d = 1


def w_shaped(values: Tensor, lasso: float, ridge: float) -> Tensor:
    """Mean of min(r(u), r(u − 1)) with r(u) = lasso·|u| + ridge·u²: pulls each value to 0 or 1."""
    to_zero = lasso * values.abs() + ridge * values.square()
    to_one = lasso * (values - 1).abs() + ridge * (values - 1).square()
    return torch.minimum(to_zero, to_one).mean()


class LossTerms(NamedTuple):
    """The four terms of the objective, already weighted, as scalars; `total` is their sum."""

    reconstruction: Tensor
    classification: Tensor
    length: Tensor
    binary: Tensor

    @property
    def total(self) -> Tensor:
        return self.reconstruction + self.classification + self.length + self.binary


def diffnaps_loss(
    net: DiffNapsNet,
    output: DiffNapsOutput,
    x: Tensor,
    y: Tensor,
    *,
    density: float,
    lambda_c: float = 10.0,
    weight_decay: float = 1.0,
    w_reg: tuple[float, float] = (0.0, 0.0),
    head_reg: tuple[float, float] = (0.0, 0.0),
) -> LossTerms:
    """The objective: weighted errors of reconstruction, cross entropy, length of patterns, pull to 0 or 1.

    x : (B, d); y : (B,) class numbers; density : fraction of ones in the data; w_reg, head_reg : (lasso, ridge) of the
    W-shaped regulariser on weight − 1/d and on the head. Means stand for the paper's sums, as in the authors' program:
    the published strengths belong to means.
    """
    zero = output.logits.new_zeros(())
    binary = zero
    if any(w_reg):
        binary = binary + w_shaped(net.weight - 1 / net.weight.shape[1], *w_reg)
    if any(head_reg):
        binary = binary + w_shaped(net.head, *head_reg)
    return LossTerms(
        weighted_xor(output.reconstruction, x, density),
        lambda_c * F.cross_entropy(output.logits, y) if lambda_c else zero,
        weight_decay * pattern_length(net.weight) if weight_decay else zero,
        binary,
    )
