"""The dictionary: encode, decode, fold; its training losses are in `_losses`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from shared._checks import check_finite
from shared.sae import _losses
from shared.sae._config import BATCH_FAMILY, TOPK_FAMILY, SAEConfig
from shared.sae._sparse import Pattern, SparseCodes, chunks, offsets_of, select, top_k

SPARSE_SHARE = 0.05  # codes with fewer non-zeros than this are decoded by rows rather than by a dense product


class SAEOutput(NamedTuple):
    """What a pass gives: reconstruction `(…, d_out)` and codes `(…, d_sae)`."""

    x_hat: Tensor
    codes: Tensor


class Stats(NamedTuple):
    """Run-time normalisation of each row: `x = normalised * scale + shift`."""

    shift: Tensor
    scale: Tensor


class SparseDict(nn.Module):
    """A sparse autoencoder or transcoder: `f = σ((x - [b_dec]) W_enc + b_enc)`, `x̂ = f W_dec + b_dec [+ x W_skip.T]`.

    Parameters have SAELens's names and shapes: `W_enc (d_in, d_sae)`, `b_enc (d_sae,)`, `W_dec (d_sae, d_out)`,
    `b_dec (d_out,)`, `threshold (d_sae,)` of JumpReLU, `W_skip (d_out, d_in)`. `W_enc` lies in memory by latent (as its
    transpose would), which makes sparse gradients one pass. Batch dimensions lead, in any number.

    Args:
        cfg: the configuration.
        generator: of the random decoder rows; the encoder starts as their transpose (a transcoder's: apart).
    """

    def __init__(self, cfg: SAEConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.cfg = cfg
        d_in, d_out, d_sae = cfg.d_in, cfg.width_out, cfg.d_sae
        decoder = _unit_rows(torch.randn(d_sae, d_out, generator=generator))
        tied = not cfg.is_transcoder
        encoder = decoder.clone() if tied else _unit_rows(torch.randn(d_sae, d_in, generator=generator))
        if cfg.decoder_norm == "free":
            decoder *= 0.1
            encoder *= 0.1 if tied else 1.0
        self.W_enc, self.W_dec = nn.Parameter(encoder.T), nn.Parameter(decoder)
        self.b_enc, self.b_dec = nn.Parameter(torch.zeros(d_sae)), nn.Parameter(torch.zeros(d_out))
        if cfg.architecture == "jumprelu":
            self.threshold = nn.Parameter(torch.full((d_sae,), float(cfg.init_threshold)))
        elif cfg.architecture in BATCH_FAMILY:
            self.register_buffer("threshold", torch.tensor(float("nan"), dtype=torch.float64))
        if cfg.skip:
            self.W_skip = nn.Parameter(torch.zeros(d_out, d_in))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights; inputs are converted to it."""
        return self.W_dec.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.W_dec.device

    # --- in and out ------------------------------------------------------------------------------------------------

    def prepare(self, x: Tensor, *, argument: str = "x", width: int | None = None) -> Tensor:
        """Check activations and bring them to the dictionary's type and device: floating, finite, last axis `width`."""
        width = self.cfg.d_in if width is None else width
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{argument} must be a floating-point tensor; got {got}")
        if x.ndim == 0 or x.shape[-1] != width:
            raise ValueError(f"{argument} has shape {tuple(x.shape)}; its last axis must be {width} wide")
        check_finite(argument, x)
        return x.to(device=self.device, dtype=self.dtype)

    def stats(self, x: Tensor) -> Stats | None:
        """Row statistics that run-time normalisation takes out and puts back (as SAELens does); None without it."""
        if self.cfg.normalize_activations == "layer_norm":
            return Stats(x.mean(-1, keepdim=True), x.std(-1, keepdim=True))
        if self.cfg.normalize_activations == "constant_norm_rescale":
            norm = x.norm(dim=-1, keepdim=True)
            return Stats(torch.zeros_like(norm), norm / self.cfg.d_in**0.5)
        return None

    def centre(self, x: Tensor, stats: Stats | None) -> Tensor:
        """What is multiplied by `W_enc`: normalised x, less `b_dec` where the configuration says so."""
        if stats is not None:
            # SAELens divides by (std + 1e-5) but multiplies by std on the way back
            slack = 1e-5 if self.cfg.normalize_activations == "layer_norm" else 0.0
            x = (x - stats.shift) / (stats.scale + slack)
        return x - self.b_dec if self.cfg.apply_b_dec_to_input else x

    def finish(self, y: Tensor, x: Tensor | None = None, stats: Stats | None = None) -> Tensor:
        """Bias, normalisation undone (autoencoders), skip connection (skip transcoders)."""
        y = y + self.b_dec
        if self.cfg.normalize_activations in ("layer_norm", "constant_norm_rescale") and not self.cfg.is_transcoder:
            if stats is None:
                mode = self.cfg.normalize_activations
                raise ValueError(f"normalize_activations={mode!r}: decode needs stats=sae.stats(x) of the same rows")
            y = y * stats.scale + stats.shift
        if self.cfg.skip:
            if x is None:
                raise ValueError("skip=True: decode needs x, the input of the same rows")
            y = y + x @ self.W_skip.T
        return y

    # --- codes -----------------------------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> Tensor:
        """Codes `(…, d_sae)` at inference: those of a row don't depend on its batch.

        `topk` keeps the k largest; `batchtopk` and `matryoshka` use their threshold, as a JumpReLU.

        Raises:
            ValueError: wrong width, NaN or infinity, or no threshold yet.
            TypeError: integers.
        """
        x = self.prepare(x)
        centred = self.centre(x, self.stats(x)).reshape(-1, self.cfg.d_in)
        if torch.is_grad_enabled() and (x.requires_grad or self.W_enc.requires_grad):
            return self._activate(torch.addmm(self.b_enc, centred, self.W_enc)).reshape(*x.shape[:-1], self.cfg.d_sae)
        codes = centred.new_empty(len(centred), self.cfg.d_sae)
        start = 0
        for part in chunks(centred, self.cfg.d_sae):
            out = codes[start : start + len(part)]
            torch.addmm(self.b_enc, part, self.W_enc, out=out)
            self._activate_(out)
            start += len(part)
        return codes.reshape(*x.shape[:-1], self.cfg.d_sae)

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        """As `encode`, without the dense tensor (and without gradients): memory for the non-zeros only."""
        x = self.prepare(x)
        shape = torch.Size((*x.shape[:-1], self.cfg.d_sae))
        with torch.no_grad():
            centred = self.centre(x, self.stats(x)).reshape(-1, self.cfg.d_in)
            if self.cfg.architecture == "topk":
                values, pattern = select(centred, self.W_enc, self.b_enc, self.cfg.k, over_batch=False)
                return SparseCodes(values.clamp_min(0), pattern, shape)
            found = []
            for part in chunks(centred, self.cfg.d_sae):
                z = torch.addmm(self.b_enc, part, self.W_enc)
                rows, columns = (z > self._cut()).nonzero(as_tuple=True)
                found.append((z[rows, columns], columns, torch.bincount(rows, minlength=len(part))))
            values, columns, counts = (torch.cat(parts) for parts in zip(*found, strict=True))
            return SparseCodes(values, Pattern(columns, offsets_of(counts), self.cfg.d_sae), shape)

    def decode(
        self,
        codes: Tensor | SparseCodes,
        *,
        x: Tensor | None = None,
        stats: Stats | None = None,
        level: int | None = None,
    ) -> Tensor:
        """Reconstruction `(…, d_out)` from dense or sparse codes.

        Args:
            codes: `(…, d_sae)`.
            x: the input; only skip transcoders need it.
            stats: `sae.stats(x)`; only run-time normalisation needs it.
            level: use only the latents of the levels up to this one (needs `cfg.widths`).
        """
        if codes.shape[-1] != self.cfg.d_sae:
            raise ValueError(f"codes has shape {tuple(codes.shape)}; its last axis must be d_sae={self.cfg.d_sae} wide")
        if level is not None:
            if self.cfg.widths is None or not 0 <= level < len(self.cfg.widths):
                raise ValueError(f"level={level} is out of range; widths={self.cfg.widths}")
            dense = codes.dense() if isinstance(codes, SparseCodes) else codes
            width = self.cfg.widths[level]
            return self.finish(dense[..., :width] @ self.W_dec[:width], x, stats)
        if isinstance(codes, SparseCodes):
            return self.finish(codes.matmul(self.W_dec), x, stats)
        codes = codes.to(self.W_dec)
        if not torch.is_grad_enabled() and codes.numel() and codes.device.type == "cpu":
            if codes.count_nonzero() < SPARSE_SHARE * codes.numel():
                return self.finish(SparseCodes.from_dense(codes).matmul(self.W_dec), x, stats)
        return self.finish(codes @ self.W_dec, x, stats)

    def forward(self, x: Tensor) -> SAEOutput:
        """Reconstruction and codes at inference."""
        x = self.prepare(x)
        codes = self.encode(x)
        return SAEOutput(self.decode(codes, x=x, stats=self.stats(x)), codes)

    def training_forward(
        self, x: Tensor, y: Tensor | None = None, *, dead: Tensor | None = None, sparsity: float = 1.0
    ) -> _losses.TrainOut:
        """Loss and codes of one training batch.

        Args:
            x: `(B, d_in)`.
            y: transcoders: `(B, d_out)`, what to predict.
            dead: bool `(d_sae,)`: latents that AuxK revives.
            sparsity: factor of the L1 or L0 term (its warm-up).
        """
        return _losses.training_forward(self, x, y, dead, sparsity)

    def _cut(self) -> Tensor | float:
        """Pre-activations above this are active (not for topk)."""
        if self.cfg.architecture == "standard":
            return 0.0
        threshold = self.threshold.detach()
        if self.cfg.architecture in BATCH_FAMILY and bool(threshold.isnan()):
            raise ValueError(
                f"architecture={self.cfg.architecture!r} has no threshold yet: train it with fit, "
                "or set it with calibrate_threshold(x)"
            )
        return threshold.to(self.dtype).clamp_min(0)

    def _activate(self, z: Tensor) -> Tensor:
        """Codes from pre-activations, out of place and differentiable."""
        if self.cfg.architecture == "topk":
            values, columns = top_k(z, int(self.cfg.k))
            return torch.zeros_like(z).scatter(1, columns, values.relu())
        return torch.where(z > self._cut(), z, 0.0)

    def _activate_(self, z: Tensor) -> None:
        """As `_activate`, in place."""
        if self.cfg.architecture == "topk":
            values, columns = top_k(z, int(self.cfg.k))
            z.zero_().scatter_(1, columns, values.clamp_min_(0))
        elif self.cfg.architecture == "standard":
            z.clamp_min_(0)
        else:
            z.mul_(z > self._cut())

    # --- changes that keep the function ------------------------------------------------------------------------------

    @torch.no_grad()
    def renormalise_(self) -> None:
        """Decoder rows to norm 1 (`decoder_norm="unit"`), JumpReLU thresholds to at least 0."""
        if self.cfg.decoder_norm == "unit":
            self.W_dec /= torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True).clamp_min(1e-12)
        if self.cfg.architecture == "jumprelu":
            self.threshold.clamp_(min=0)

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

        Raises:
            ValueError: topk (the selection would change), or a batch top-k that is not trained yet; use
                `to_inference()` first for those.
        """
        if self.cfg.architecture in TOPK_FAMILY:
            raise ValueError(f"architecture={self.cfg.architecture!r}: folding norms would change which latents win")
        norms = torch.linalg.vector_norm(self.W_dec, dim=1).clamp_min(1e-12)
        self.W_dec /= norms[:, None]
        self.W_enc *= norms
        self.b_enc *= norms
        if self.cfg.architecture == "jumprelu":
            self.threshold *= norms
        return self

    @torch.no_grad()
    def fold_input_scale_(self, scale: float) -> SparseDict:
        """Make a dictionary trained on `scale * x` (targets too) one for x; codes stay as they were on `scale * x`."""
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
        """Set the threshold of a batch top-k so that k latents per row of x are active on average; returns it."""
        if self.cfg.architecture not in BATCH_FAMILY:
            raise ValueError(f"architecture={self.cfg.architecture!r} has no batch threshold; {BATCH_FAMILY} do")
        x = self.prepare(x)
        centred = self.centre(x, self.stats(x)).reshape(-1, self.cfg.d_in)
        values, _ = select(centred, self.W_enc, self.b_enc, self.cfg.k, over_batch=True)
        lowest = values.min().double() if len(values) else torch.zeros((), dtype=torch.float64)
        self.threshold.copy_(torch.nextafter(lowest.to(self.dtype), torch.zeros((), dtype=self.dtype)).double())
        return float(self.threshold)

    @torch.no_grad()
    def to_inference(self) -> SparseDict:
        """A batch top-k as the JumpReLU dictionary it is at inference (levels kept in `cfg.widths`); others: a copy."""
        cfg = self.cfg
        if cfg.architecture in BATCH_FAMILY:
            metadata = {**cfg.metadata, "training_architecture": cfg.architecture, "k": cfg.k}
            cfg = cfg.with_(architecture="jumprelu", k=None, metadata=metadata)
        other = SparseDict(cfg, torch.Generator()).to(device=self.device, dtype=self.dtype)
        for name, parameter in other.named_parameters():
            value = self._cut() if name == "threshold" and cfg is not self.cfg else getattr(self, name)
            parameter.copy_(value)
        return other


def _unit_rows(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)
