"""The one training loop: Adam, warm-up and decay, unit decoder rows, dead latents, thresholds, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from shared._checks import wide
from shared.sae._model import SparseDict
from shared.sae._sparse import SparseCodes
from shared.sae.architectures._base import TrainOut
from shared.sae.training._resample import resample_
from shared.sae.training._run import Run, SAEHistory
from shared.sae.training._settings import Settings, default_lr
from shared.stats import geometric_median

Batch = Tensor | tuple[Tensor, Tensor]


class OneProcess:
    """What `fit` asks of an `accelerate.Accelerator`, where there is none."""

    num_processes = 1
    is_main_process = True

    def prepare(self, *things: Any) -> tuple[Any, ...]:
        return things

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_grad_norm_(self, parameters: Iterator[nn.Parameter], largest: float) -> None:
        nn.utils.clip_grad_norm_(parameters, largest)


class TrainingPass(nn.Module):
    """The training pass as a module's `forward`, so that a wrapper (DDP) sees the gradients."""

    def __init__(self, sae: SparseDict) -> None:
        super().__init__()
        self.sae = sae

    def forward(self, x: Tensor, y: Tensor | None, dead: Tensor | None, sparsity: float) -> TrainOut:
        return self.sae.training_forward(x, y, dead=dead, sparsity=sparsity)


def fit(
    sae: SparseDict,
    stream: Iterator[Batch],
    steps: int,
    *,
    lr: float | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    warmup: float = 0.05,
    decay: float = 0.2,
    clip: float = 1.0,
    sparsity_warmup: float = 0.05,
    dead_after: int | None = None,
    resample_every: int | None = None,
    threshold_beta: float | None = None,
    threshold_start: int | None = None,
    initialise: bool = True,
    log_every: int | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    accelerator: Any = None,
    generator: torch.Generator | None = None,
) -> SAEHistory:
    """Train a dictionary in place.

    Parameters
    ----------
    sae : SparseDict
        The dictionary; on whatever device it is.
    stream : iterator
        Batches `(B, d_in)`, or pairs with targets for transcoders (`TensorStream`, `ActivationStream`, …).
    steps : int
        Adam steps in all (also when resumed).
    lr : float, optional
        Peak learning rate; by default `default_lr(d_sae)`.
    betas : tuple of float
        Adam's.
    warmup, decay : float
        Shares of the steps with rising and falling learning rate.
    clip : float
        Largest global norm of the gradient.
    sparsity_warmup : float
        Share of the steps over which the L1 or L0 term grows to its weight.
    dead_after : int, optional
        Samples without firing after which a latent is dead (TopK family: AuxK acts on it); by default an eighth of the
        run, at most 10 million.
    resample_every : int, optional
        `standard` only: every so many steps, latents silent for half as long start anew at inputs of large error.
    threshold_beta : float, optional
        Batch top-k: decay of the running mean of the batch's smallest active value (0.999, or 0.99 in runs under 3,000
        steps).
    threshold_start : int, optional
        Its first step (a fifth of the run, at most 1,000).
    initialise : bool
        Start biases from the first batch: `b_dec` its geometric median (transcoders: the targets' mean, and `b_enc` so
        that the mean input gives 0).
    log_every : int, optional
        Steps between entries of the history; by default 50 entries in all.
    progress : bool
        Show a bar if it takes over two seconds.
    checkpoint : path, optional
        File (safetensors) to resume from if it exists, and to write every `checkpoint_every` steps and at the end. With
        the stream's state in it a resumed run gives the weights of an unbroken one.
    checkpoint_every : int, optional
        Steps between checkpoints; by default a tenth of the run.
    accelerator : accelerate.Accelerator, optional
        Or anything with its `prepare`, `backward` and `clip_grad_norm_`. Give each process a stream of its own; a batch
        top-k then selects within each process's part of the batch.
    generator : torch.Generator, optional
        Of the resampling.

    Returns
    -------
    SAEHistory
        What was logged.

    Raises
    ------
    ValueError
        Bad batches (NaN, wrong width), a stream that ends early, a diverged loss, another run's checkpoint.
    """
    settings = Settings(
        steps=steps,
        lr=default_lr(sae.cfg.d_sae) if lr is None else lr,
        betas=tuple(betas),
        warmup=warmup,
        decay=decay,
        clip=clip,
        sparsity_warmup=sparsity_warmup,
        dead_after=dead_after,
        resample_every=resample_every,
        threshold_beta=threshold_beta,
        threshold_start=threshold_start,
    )
    if resample_every is not None and not sae.architecture.may_resample:
        raise ValueError(f"resample_every is for architecture='standard'; got {sae.cfg.architecture!r}")
    log_every = log_every or max(1, steps // 50)
    checkpoint_every = checkpoint_every or max(1, steps // 10)
    accelerator = accelerator or OneProcess()
    processes = int(getattr(accelerator, "num_processes", 1))
    is_main = bool(getattr(accelerator, "is_main_process", True))

    fused = sae.device.type in ("cpu", "cuda")
    optimizer = torch.optim.Adam(sae.parameters(), lr=settings.lr, betas=settings.betas, fused=fused)
    objective, optimizer = accelerator.prepare(TrainingPass(sae), optimizer)
    silent = torch.zeros(sae.cfg.d_sae, dtype=torch.long, device=sae.device)
    run = Run(sae, settings, optimizer, stream, generator or torch.Generator().manual_seed(0), silent)
    batches = iter(stream)
    if checkpoint is not None and Path(checkpoint).is_file():
        run.resume(Path(checkpoint))
    elif initialise:
        first = _next(batches, run)
        initialise_biases_(sae, *first)
        batches = chain([first], batches)  # it is trained on as well

    def everywhere(value: Tensor, how: str) -> Tensor:
        return value if processes == 1 else accelerator.reduce(value, how)

    optimizer.zero_grad()
    with tqdm(total=steps, initial=run.step, desc="fit", delay=2, disable=not (progress and is_main)) as bar:
        for step in range(run.step, steps):
            x, y = _next(batches, run)
            rows = len(x) * processes
            for group in optimizer.param_groups:
                group["lr"] = settings.lr_at(step)

            out = objective(x, y, run.silent >= settings.silence(rows), settings.sparsity_at(step))
            accelerator.backward(out.loss)
            sae.project_gradients_()
            accelerator.clip_grad_norm_(sae.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            sae.renormalise_()

            run.silent += rows
            run.silent[everywhere(out.fired.to(sae.dtype), "sum") > 0] = 0
            if step >= settings.threshold_start:
                sae.architecture.follow_threshold_(sae, out.codes, settings.threshold_beta, everywhere)
            if settings.resamples_after(step):
                asleep = run.silent >= rows * resample_every // 2
                resample_(run, asleep, x, x if y is None else y, out.errors)

            run.step = step + 1
            bar.update()
            if run.step % log_every == 0 or run.step in (1, steps):
                _log(run, out, dead=run.silent >= settings.silence(rows))
                loss, l0 = run.history.loss[-1], run.history.l0[-1]
                bar.set_postfix(loss=f"{loss:.4g}", l0=f"{l0:.1f}", refresh=False)
            if checkpoint is not None and is_main and (run.step % checkpoint_every == 0 or run.step == steps):
                run.save(Path(checkpoint))
    return run.history


def _next(batches: Iterator[Batch], run: Run) -> tuple[Tensor, Tensor | None]:
    """Inputs and targets (None for autoencoders) of the next batch."""
    try:
        batch = next(batches)
    except StopIteration:
        raise ValueError(f"stream ended after {run.step} batches; steps={run.settings.steps}") from None
    return (batch, None) if isinstance(batch, Tensor) else (batch[0], batch[1])


@torch.no_grad()
def initialise_biases_(sae: SparseDict, x: Tensor, y: Tensor | None) -> None:
    """Biases from a batch: see `initialise` of `fit`. A dictionary without biases stays as it is."""
    if not sae.cfg.biases:
        return
    x = sae.prepare(x)
    if y is None:
        plain = sae.centre(x, sae.stats(x)) + (sae.b_dec if sae.cfg.apply_b_dec_to_input else 0)
        sae.b_dec.copy_(geometric_median(plain, rtol=0.0, atol=1e-5))
        return
    y = sae.prepare(y, argument="y", width=sae.cfg.width_out)
    sae.b_dec.copy_(y.mean(0))
    sae.b_enc.copy_(-(sae.centre(x, sae.stats(x)).mean(0) @ sae.W_enc))


def _log(run: Run, out: TrainOut, dead: Tensor) -> None:
    loss = float(out.loss.detach())
    if not math.isfinite(loss):
        raise ValueError(f"the loss is {loss} at step {run.step}: lower lr={run.settings.lr:g}")
    history = run.history
    codes = out.codes
    l0 = codes.l0() if isinstance(codes, SparseCodes) else (codes.detach() > 0).sum(1).float().mean()
    threshold = wide(run.sae.threshold.detach()).mean() if hasattr(run.sae, "threshold") else math.nan
    history.step.append(run.step)
    history.loss.append(loss)
    history.reconstruction.append(float(out.parts["reconstruction"]))
    history.penalty.append(loss - history.reconstruction[-1])
    history.l0.append(float(l0))
    history.dead.append(float(dead.float().mean()))
    history.threshold.append(float(threshold))
