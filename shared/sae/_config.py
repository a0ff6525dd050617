"""One configuration for every dictionary of the room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shared._checks import check_choice, check_range
from shared.sae.architectures import ARCHITECTURES

NORMALISATIONS = ("none", "expected_average_only_in", "layer_norm", "constant_norm_rescale")


@dataclass(frozen=True)
class SAEConfig:
    """What a dictionary is and what its training loss is made of; names as in SAELens where it has them.

    Parameters
    ----------
    architecture : str
        "standard" (ReLU, L1), "gated", "jumprelu", "topk", "batchtopk" or "matryoshka" (nested BatchTopK).
    d_in : int
        Width of the activations it reads.
    d_sae : int
        Number of latents.
    k : float, optional
        Latents per row that may be active (topk: an integer; batchtopk, matryoshka: the mean over a batch).
    widths : sequence of int, optional
        matryoshka only: cumulative widths of the levels, increasing, ending at `d_sae`.
    d_out : int, optional
        Width of what it predicts. None: an autoencoder; a number: a transcoder (also when equal to `d_in`).
    skip : bool
        Transcoders: add a linear map from input to output, `x @ W_skip.T`.
    apply_b_dec_to_input : bool, optional
        Subtract `b_dec` before encoding; by default True for autoencoders, never for transcoders.
    normalize_activations : str
        "layer_norm" or "constant_norm_rescale" are done at run time, per row, and undone after decoding;
        "expected_average_only_in" only notes that a constant factor is still to be folded in.
    decoder_norm : str
        "unit" keeps decoder rows at norm 1 in training; "free" weights the L1 term by their norms.
    l1_coefficient : float
        standard: weight of the L1 norm of the codes; gated: of the gate's.
    l0_coefficient : float
        jumprelu: weight of the number of active latents.
    bandwidth : float
        jumprelu: width of the rectangle kernel of the straight-through gradient.
    init_threshold : float
        jumprelu: thresholds at the start.
    aux_coefficient : float
        TopK family: weight of AuxK, the dead latents' reconstruction of the residual.
    biases : bool
        False: `b_enc` and `b_dec` are zeros that nothing trains, so that a decision splits into codes without a rest
        (FaCT, Parchami-Araghi et al. 2025). Not for gated ones.
    level_weights : sequence of float, optional
        matryoshka: weight of each level's squared error; by default 1 / number of levels.
    metadata : dict
        Anything JSON can hold (model and hook names, …); kept in the file.

    Raises
    ------
    ValueError
        Fields that don't fit each other; the field is named.
    """

    architecture: str
    d_in: int
    d_sae: int
    k: float | None = None
    widths: Sequence[int] | None = None
    d_out: int | None = None
    skip: bool = False
    apply_b_dec_to_input: bool | None = None
    normalize_activations: str = "none"
    decoder_norm: str = "unit"
    l1_coefficient: float = 1e-3
    l0_coefficient: float = 1e-3
    bandwidth: float = 0.05
    init_threshold: float = 0.01
    aux_coefficient: float = 1 / 32
    biases: bool = True
    level_weights: Sequence[float] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("architecture", self.architecture, ARCHITECTURES)
        check_choice("normalize_activations", self.normalize_activations, NORMALISATIONS)
        check_choice("decoder_norm", self.decoder_norm, ("unit", "free"))
        for name in ("d_in", "d_sae", "d_out"):
            value = getattr(self, name)
            if value is None and name == "d_out":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} must be a positive integer")
        for name in ("l1_coefficient", "l0_coefficient", "aux_coefficient", "init_threshold"):
            check_range(name, getattr(self, name), 0.0)
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth={self.bandwidth!r} must be positive")
        if not self.biases and self.architecture == "gated":
            raise ValueError("biases=False: a gated dictionary is made of its biases; take another architecture")
        ARCHITECTURES[self.architecture].check(self)
        self._check_widths()
        if self.apply_b_dec_to_input is None:
            object.__setattr__(self, "apply_b_dec_to_input", not self.is_transcoder)
        if self.is_transcoder and self.apply_b_dec_to_input:
            raise ValueError("apply_b_dec_to_input=True needs an autoencoder: a transcoder's b_dec is of its output")
        if self.skip and not self.is_transcoder:
            raise ValueError("skip=True needs a transcoder: set d_out")

    def _check_widths(self) -> None:
        if self.widths is None:
            return
        widths = tuple(int(w) for w in self.widths)
        rising = all(a < b for a, b in zip((0, *widths), widths, strict=False))
        if not widths or not rising or widths[-1] != self.d_sae:
            raise ValueError(f"widths={widths} must be positive, increasing and end at d_sae={self.d_sae}")
        object.__setattr__(self, "widths", widths)
        if self.level_weights is not None:
            weights = tuple(float(w) for w in self.level_weights)
            if len(weights) != len(widths) or min(weights) < 0:
                raise ValueError(f"level_weights={weights} must be {len(widths)} non-negative numbers, one per level")
            object.__setattr__(self, "level_weights", weights)

    @property
    def is_transcoder(self) -> bool:
        """Whether it predicts something other than its input."""
        return self.d_out is not None

    @property
    def width_out(self) -> int:
        """Width of what it returns."""
        return self.d_in if self.d_out is None else self.d_out

    def with_(self, **changes: Any) -> SAEConfig:
        """A copy with some fields changed (and checked again).

        Parameters
        ----------
        **changes
            Fields and their new values.

        Returns
        -------
        SAEConfig
            The copy.
        """
        return replace(self, **changes)


def group_widths(d_sae: int, fractions: Sequence[float]) -> tuple[int, ...]:
    """Cumulative level widths from the share of latents per group: `int(f * d_sae)` each, the rest in the last group.

    Parameters
    ----------
    d_sae : int
        Number of latents.
    fractions : sequence of float
        Share of each group, positive, summing to 1.

    Returns
    -------
    tuple of int
        Widths, ending at `d_sae`.

    Raises
    ------
    ValueError
        Fractions that are not positive or don't sum to 1.
    """
    if not fractions or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions={tuple(fractions)} must be positive and sum to 1, not {sum(fractions):.6g}")
    widths, total = [], 0
    for share in fractions[:-1]:
        total += int(share * d_sae)
        widths.append(total)
    return (*widths, d_sae)
