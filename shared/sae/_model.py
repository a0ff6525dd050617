"""The dictionary: encode, decode, fold. What its architecture decides is in `architectures`."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from shared._checks import check_finite, check_shape
from shared.sae._config import SAEConfig
from shared.sae._normalise import RowStats, normalise, row_stats, undo
from shared.sae._sparse import SparseCodes, chunks
from shared.sae.architectures import ARCHITECTURES, Architecture
from shared.sae.architectures._base import TrainBatch, TrainOut

SPARSE_SHARE = 0.05  # codes with fewer non-zeros than this are decoded by rows rather than by a dense product


class SAEOutput(NamedTuple):
    """What a pass gives.

    Attributes
    ----------
    x_hat : Tensor
        Reconstruction `(…, d_out)`.
    codes : Tensor
        `(…, d_sae)`.
    """

    x_hat: Tensor
    codes: Tensor


class SparseDict(nn.Module):
    """A sparse autoencoder or transcoder: `f = σ((x - [b_dec]) W_enc + b_enc)`, `x̂ = f W_dec + b_dec [+ x W_skip.T]`.

    Parameters have SAELens's names and shapes: `W_enc (d_in, d_sae)`, `b_enc (d_sae,)`, `W_dec (d_sae, d_out)`,
    `b_dec (d_out,)`, `threshold (d_sae,)` of JumpReLU, `W_skip (d_out, d_in)`. `W_enc` lies in memory by latent (as its
    transpose would), which makes sparse gradients one pass. Batch dimensions lead, in any number.

    Parameters
    ----------
    cfg : SAEConfig
        The configuration.
    generator : torch.Generator, optional
        Of the random decoder rows; the encoder starts as their transpose (a transcoder's: apart).
    """

    def __init__(self, cfg: SAEConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.cfg = cfg
        decoder = _unit_rows(torch.randn(cfg.d_sae, cfg.width_out, generator=generator))
        tied = not cfg.is_transcoder
        encoder = decoder.clone() if tied else _unit_rows(torch.randn(cfg.d_sae, cfg.d_in, generator=generator))
        if cfg.decoder_norm == "free":
            decoder *= 0.1
            encoder *= 0.1 if tied else 1.0
        self.W_enc = nn.Parameter(encoder.T)
        self.W_dec = nn.Parameter(decoder)
        for name, width in (("b_enc", cfg.d_sae), ("b_dec", cfg.width_out)):
            if cfg.biases:
                setattr(self, name, nn.Parameter(torch.zeros(width)))
            else:
                self.register_buffer(name, torch.zeros(width))
        self.architecture.add_threshold(self)
        if cfg.skip:
            self.W_skip = nn.Parameter(torch.zeros(cfg.width_out, cfg.d_in))

    @property
    def architecture(self) -> Architecture:
        """What codes and losses are made by; `cfg.architecture` is its name."""
        return ARCHITECTURES[self.cfg.architecture]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights; inputs are converted to it."""
        return self.W_dec.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.W_dec.device

    def _apply(self, fn: Any, recurse: bool = True) -> SparseDict:
        """Moves as any module; a threshold in float64 becomes float32 where a device has no float64 (Apple's MPS)."""

        def moved(tensor: Tensor) -> Tensor:
            try:
                return fn(tensor)
            except TypeError:
                if tensor.dtype != torch.float64:
                    raise
                return fn(tensor.float())

        return super()._apply(moved, recurse)

    # --- in and out ------------------------------------------------------------------------------------------------

    def prepare(self, x: Tensor, *, argument: str = "x", width: int | None = None) -> Tensor:
        """Check activations and bring them to the dictionary's type and device.

        Parameters
        ----------
        x : Tensor
            Floating, finite, `(…, width)`.
        argument : str
            What errors call it.
        width : int, optional
            Of the last axis; by default `d_in`.

        Returns
        -------
        Tensor
            The same numbers.

        Raises
        ------
        TypeError
            Integers, or no tensor.
        ValueError
            Another width, no rows, NaN or infinity.
        """
        width = self.cfg.d_in if width is None else width
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{argument} must be a floating-point tensor; got {got}")
        if x.ndim == 0 or x.shape[-1] != width:
            raise ValueError(f"{argument} has shape {tuple(x.shape)}; its last axis must be {width} wide")
        check_finite(argument, x)
        return x.to(device=self.device, dtype=self.dtype)

    def stats(self, x: Tensor) -> RowStats | None:
        """Row statistics that run-time normalisation takes out and puts back (as SAELens does); None without it.

        Parameters
        ----------
        x : Tensor
            `(…, d_in)`.

        Returns
        -------
        RowStats or None
            `(…, 1)` each.
        """
        return row_stats(self.cfg, x)

    def centre(self, x: Tensor, stats: RowStats | None) -> Tensor:
        """What is multiplied by `W_enc`: normalised x, less `b_dec` where the configuration says so.

        Parameters
        ----------
        x : Tensor
            `(…, d_in)`.
        stats : RowStats or None
            `self.stats(x)`.

        Returns
        -------
        Tensor
            `(…, d_in)`.
        """
        x = normalise(self.cfg, x, stats)
        return x - self.b_dec if self.cfg.apply_b_dec_to_input else x

    def finish(self, y: Tensor, *, x: Tensor | None = None, stats: RowStats | None = None) -> Tensor:
        """Bias, normalisation undone (autoencoders), skip connection (skip transcoders).

        Parameters
        ----------
        y : Tensor
            `codes @ W_dec`, `(…, d_out)`.
        x : Tensor, optional
            The input; only skip transcoders need it.
        stats : RowStats, optional
            `self.stats(x)`; only run-time normalisation needs it.

        Returns
        -------
        Tensor
            Reconstruction `(…, d_out)`.
        """
        y = undo(self.cfg, y + self.b_dec, stats)
        if self.cfg.skip:
            if x is None:
                raise ValueError("skip=True: decode needs x, the input of the same rows")
            y = y + x @ self.W_skip.T
        return y

    # --- codes -----------------------------------------------------------------------------------------------------

    def encode(self, x: Tensor, *, select: bool = True) -> Tensor:
        """Codes at inference: those of a row don't depend on its batch.

        `topk` keeps the k largest; `batchtopk` and `matryoshka` use their threshold, as a JumpReLU.

        Parameters
        ----------
        x : Tensor
            `(…, d_in)`.
        select : bool
            False leaves all positive pre-activations, `ReLU(z)`, whatever the architecture keeps: dense codes for
            linear probes, as CFM's (Wittenmayer et al. 2026) are trained on.

        Returns
        -------
        Tensor
            `(…, d_sae)`.

        Raises
        ------
        ValueError
            Wrong width, NaN or infinity, or no threshold yet.
        TypeError
            Integers.
        """
        x = self.prepare(x)
        shape = (*x.shape[:-1], self.cfg.d_sae)
        centred = self.centre(x, self.stats(x)).reshape(-1, self.cfg.d_in)
        if torch.is_grad_enabled() and (x.requires_grad or self.W_enc.requires_grad):
            z = torch.addmm(self.b_enc, centred, self.W_enc)
            return (self.architecture.activate(self, z) if select else z.relu()).reshape(shape)
        codes = centred.new_empty(len(centred), self.cfg.d_sae)
        start = 0
        for part in chunks(centred, self.cfg.d_sae):
            out = codes[start : start + len(part)]
            torch.addmm(self.b_enc, part, self.W_enc, out=out)
            if select:
                self.architecture.activate_(self, out)
            else:
                out.clamp_min_(0)
            start += len(part)
        return codes.reshape(shape)

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        """As `encode`, without the dense tensor (and without gradients): memory for the non-zeros only.

        Parameters
        ----------
        x : Tensor
            `(…, d_in)`.

        Returns
        -------
        SparseCodes
            `(…, d_sae)`.
        """
        x = self.prepare(x)
        with torch.no_grad():
            centred = self.centre(x, self.stats(x)).reshape(-1, self.cfg.d_in)
            codes = self.architecture.sparse_codes(self, centred)
        return SparseCodes(codes.values, codes.pattern, torch.Size((*x.shape[:-1], self.cfg.d_sae)))

    def decode(
        self,
        codes: Tensor | SparseCodes,
        *,
        x: Tensor | None = None,
        stats: RowStats | None = None,
        level: int | None = None,
    ) -> Tensor:
        """Reconstruction from dense or sparse codes.

        Parameters
        ----------
        codes : Tensor or SparseCodes
            `(…, d_sae)`.
        x : Tensor, optional
            The input; only skip transcoders need it.
        stats : RowStats, optional
            `sae.stats(x)`; only run-time normalisation needs it.
        level : int, optional
            Use only the latents of the levels up to this one (needs `cfg.widths`).

        Returns
        -------
        Tensor
            `(…, d_out)`.
        """
        if codes.shape[-1] != self.cfg.d_sae:
            raise ValueError(f"codes has shape {tuple(codes.shape)}; its last axis must be d_sae={self.cfg.d_sae} wide")
        if level is not None:
            if self.cfg.widths is None or not 0 <= level < len(self.cfg.widths):
                raise ValueError(f"level={level} is out of range; widths={self.cfg.widths}")
            dense = codes.dense() if isinstance(codes, SparseCodes) else codes
            width = self.cfg.widths[level]
            return self.finish(dense[..., :width] @ self.W_dec[:width], x=x, stats=stats)
        if isinstance(codes, SparseCodes):
            return self.finish(codes.matmul(self.W_dec), x=x, stats=stats)
        codes = codes.to(self.W_dec)
        if not torch.is_grad_enabled() and codes.numel() and codes.device.type == "cpu":
            if codes.count_nonzero() < SPARSE_SHARE * codes.numel():
                return self.finish(SparseCodes.from_dense(codes).matmul(self.W_dec), x=x, stats=stats)
        return self.finish(codes @ self.W_dec, x=x, stats=stats)

    def forward(self, x: Tensor) -> SAEOutput:
        """Reconstruction and codes at inference."""
        x = self.prepare(x)
        codes = self.encode(x)
        return SAEOutput(self.decode(codes, x=x, stats=self.stats(x)), codes)

    def training_forward(
        self, x: Tensor, y: Tensor | None = None, *, dead: Tensor | None = None, sparsity: float = 1.0
    ) -> TrainOut:
        """Loss and codes of one training batch.

        Parameters
        ----------
        x : Tensor
            `(B, d_in)`.
        y : Tensor, optional
            Transcoders: `(B, d_out)`, what to predict.
        dead : Tensor, optional
            Bool `(d_sae,)`: latents that AuxK revives.
        sparsity : float
            Factor of the L1 or L0 term (its warm-up).

        Returns
        -------
        TrainOut
            Its `loss` is differentiable.
        """
        x = self.prepare(x)
        check_shape("x", x, ("B", self.cfg.d_in))
        if (y is not None) != self.cfg.is_transcoder:
            raise ValueError(f"y must be {'given' if self.cfg.is_transcoder else 'None'}; d_out={self.cfg.d_out}")
        if y is not None:
            y = self.prepare(y, argument="y", width=self.cfg.width_out)
            check_shape("y", y, (len(x), self.cfg.width_out))
        if dead is not None:
            check_shape("dead", dead, (self.cfg.d_sae,))
        stats = self.stats(x)
        batch = TrainBatch(x, x if y is None else y, self.centre(x, stats), stats, dead, sparsity)
        return self.architecture.loss(self, batch)

    # --- changes that keep the function ------------------------------------------------------------------------------

    @torch.no_grad()
    def renormalise_(self) -> None:
        """Decoder rows to norm 1 (`decoder_norm="unit"`), JumpReLU thresholds to at least 0."""
        if self.cfg.decoder_norm == "unit":
            self.W_dec /= torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True).clamp_min(1e-12)
        self.architecture.constrain_(self)

    @torch.no_grad()
    def project_gradients_(self) -> None:
        """Take from the decoder's gradient what would only change the rows' norms."""
        if self.cfg.decoder_norm == "unit" and self.W_dec.grad is not None:
            grad = self.W_dec.grad
            norms = torch.linalg.vecdot(self.W_dec, self.W_dec).clamp_min(1e-24)
            grad.addcmul_(self.W_dec, (torch.linalg.vecdot(grad, self.W_dec) / norms)[:, None], value=-1)

    @torch.no_grad()
    def fold_decoder_norm_(self) -> SparseDict:
        """Decoder rows to norm 1, their norms into the encoder and thresholds; reconstructions stay.

        Raises
        ------
        ValueError
            TopK (the selection would change), or a batch top-k: use `to_inference()` first for that.
        """
        norms = torch.linalg.vector_norm(self.W_dec, dim=1).clamp_min(1e-12)
        self.architecture.fold_norms_(self, norms)
        self.W_dec /= norms[:, None]
        self.W_enc *= norms
        self.b_enc *= norms
        return self

    @torch.no_grad()
    def fold_input_scale_(self, scale: float) -> SparseDict:
        """Make a dictionary trained on `scale * x` (targets too) one for x; codes stay as they were on `scale * x`.

        Parameters
        ----------
        scale : float
            Positive.

        Returns
        -------
        SparseDict
            Itself.
        """
        if not scale > 0:
            raise ValueError(f"scale={scale!r} must be positive")
        self.W_enc *= scale
        self.W_dec /= scale
        self.b_dec /= scale
        if self.cfg.normalize_activations == "expected_average_only_in":
            self.cfg = self.cfg.with_(normalize_activations="none")
        return self

    @torch.no_grad()
    def calibrate_threshold(self, x: Tensor) -> float:
        """Set the threshold of a batch top-k so that k latents per row of x are active on average.

        Parameters
        ----------
        x : Tensor
            `(…, d_in)`.

        Returns
        -------
        float
            The threshold.
        """
        x = self.prepare(x)
        self.architecture.calibrate_(self, self.centre(x, self.stats(x)).reshape(-1, self.cfg.d_in))
        return float(self.threshold)

    @torch.no_grad()
    def to_inference(self) -> SparseDict:
        """Batch top-k (levels kept in `cfg.widths`) and gated ones as the JumpReLU they are at inference, or a copy."""
        cfg, values = self.architecture.at_inference(self)
        other = SparseDict(cfg, generator=torch.Generator()).to(device=self.device, dtype=self.dtype)
        for name, parameter in other.named_parameters():
            parameter.copy_(values[name])
        return other


def _unit_rows(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)
