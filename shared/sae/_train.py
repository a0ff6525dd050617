"""The one training loop: Adam, warm-up and decay, unit decoder rows, dead latents, threshold, checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from shared._checks import check_range
from shared.sae._checkpoint import read_checkpoint, write_checkpoint
from shared.sae._config import BATCH_FAMILY
from shared.sae._losses import TrainOut
from shared.sae._model import SparseDict
from shared.sae._sparse import SparseCodes


@dataclass
class History:
    """What was logged: step, loss and its parts, the batch's mean L0, share of dead latents, threshold."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    reconstruction: list[float] = field(default_factory=list)
    penalty: list[float] = field(default_factory=list)
    l0: list[float] = field(default_factory=list)
    dead: list[float] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Settings:
    """Everything of `fit` that changes what comes out; a checkpoint is only resumed under the same."""

    steps: int
    lr: float
    betas: tuple[float, float]
    warmup: float
    decay: float
    clip: float
    sparsity_warmup: float
    dead_after: int | None
    resample_every: int | None
    threshold_beta: float
    threshold_start: int

    def lr_factor(self, step: int) -> float:
        """Linear from 0 over the first `warmup` share of steps, linear to 0 over the last `decay` share."""
        up = (step + 1) / max(1.0, self.warmup * self.steps)
        down = (self.steps - step) / max(1.0, self.decay * self.steps)
        return min(1.0, up, down)

    def sparsity_factor(self, step: int) -> float:
        """Linear from 0 over the first `sparsity_warmup` share of steps."""
        return min(1.0, (step + 1) / max(1.0, self.sparsity_warmup * self.steps))


class _Objective(nn.Module):
    """The training pass as a module's `forward`, so that a wrapper (DDP) sees the gradients."""

    def __init__(self, sae: SparseDict) -> None:
        super().__init__()
        self.sae = sae

    def forward(self, x: Tensor, y: Tensor | None, dead: Tensor | None, sparsity: float) -> TrainOut:
        return self.sae.training_forward(x, y, dead=dead, sparsity=sparsity)


def default_lr(d_sae: int) -> float:
    """`2e-4 / sqrt(d_sae / 2**14)` (Gao et al. 2024, figure 3); small dictionaries (≤ 512) also bear 1e-3 to 3e-3."""
    return 2e-4 / math.sqrt(d_sae / 2**14)


def fit(
    sae: SparseDict,
    stream: Iterator[Tensor | tuple[Tensor, Tensor]],
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
) -> History:
    """Train a dictionary in place.

    Args:
        sae: the dictionary; on whatever device it is.
        stream: batches `(B, d_in)`, or pairs with targets for transcoders (`TensorStream`, `ActivationStream`, …).
        steps: Adam steps in all (also when resumed).
        lr: peak learning rate; by default `default_lr(d_sae)`.
        betas, clip: Adam's; largest global norm of the gradient.
        warmup, decay: shares of the steps with rising and falling learning rate.
        sparsity_warmup: share of the steps over which the L1 or L0 term grows to its weight.
        dead_after: samples without firing after which a latent is dead (TopK family: AuxK acts on it); by default an
            eighth of the run, at most 10 million.
        resample_every: `standard` only: every so many steps, latents silent for half as long start anew at inputs of
            large error.
        threshold_beta, threshold_start: batch top-k: decay of the running mean of the batch's smallest active value
            (0.999, or 0.99 in runs under 3,000 steps), and its first step (a fifth of the run, at most 1,000).
        initialise: start biases from the first batch: `b_dec` its geometric median (transcoders: the targets' mean, and
            `b_enc` so that the mean input gives 0).
        log_every: steps between entries of the history; by default 50 entries in all.
        progress: show a bar if it takes over two seconds.
        checkpoint: file (safetensors) to resume from if it exists, and to write every `checkpoint_every` steps and at
            the end. With the stream's state in it a resumed run gives the weights of an unbroken one.
        checkpoint_every: steps between checkpoints; by default a tenth of the run.
        accelerator: an `accelerate.Accelerator`, or anything with its `prepare`, `backward` and `clip_grad_norm_`. Give
            each process a stream of its own; a batch top-k then selects within each process's part of the batch.
        generator: of the resampling.

    Raises:
        ValueError: bad batches (NaN, wrong width), a stream that ends early, a diverged loss, another run's checkpoint.
    """
    settings = _settings(sae, steps, lr, betas, warmup, decay, clip, sparsity_warmup, dead_after, resample_every,
                         threshold_beta, threshold_start)  # fmt: skip
    run = _Run(sae, stream, settings, accelerator, generator)
    if checkpoint is not None and Path(checkpoint).is_file():
        run.resume(Path(checkpoint))
    elif initialise:
        run.initialise()
    run.go(log_every or max(1, steps // 50), progress, checkpoint, checkpoint_every or max(1, steps // 10))
    return run.history


def _settings(sae: SparseDict, steps: int, lr: float | None, betas: tuple[float, float], warmup: float, decay: float,
              clip: float, sparsity_warmup: float, dead_after: int | None, resample_every: int | None,
              threshold_beta: float | None, threshold_start: int | None) -> Settings:  # fmt: skip
    check_range("steps", steps, 1)
    for name, value in (("warmup", warmup), ("decay", decay), ("sparsity_warmup", sparsity_warmup)):
        check_range(name, value, 0.0, 1.0)
    if resample_every is not None:
        check_range("resample_every", resample_every, 2)
        if sae.cfg.architecture != "standard":
            raise ValueError(f"resample_every is for architecture='standard'; got {sae.cfg.architecture!r}")
    lr = default_lr(sae.cfg.d_sae) if lr is None else lr
    if not 0 < lr < math.inf or not clip > 0:
        raise ValueError(f"lr={lr!r} and clip={clip!r} must be positive and lr finite")
    start = min(1000, steps // 5) if threshold_start is None else threshold_start
    beta = (0.999 if steps - start >= 3000 else 0.99) if threshold_beta is None else threshold_beta
    check_range("threshold_beta", beta, 0.0, 1.0)
    return Settings(
        steps, lr, tuple(betas), warmup, decay, clip, sparsity_warmup, dead_after, resample_every, beta, start
    )


class _Run:
    """A training run: what changes from step to step."""

    def __init__(
        self, sae: SparseDict, stream: Any, settings: Settings, accelerator: Any, generator: torch.Generator | None
    ) -> None:
        self.sae, self.stream, self.settings, self.accelerator = sae, iter(stream), settings, accelerator
        self.source = stream
        self.generator = generator or torch.Generator().manual_seed(0)
        self.step, self.history, self.first = 0, History(), None
        self.since = torch.zeros(sae.cfg.d_sae, dtype=torch.long, device=sae.device)
        self.objective: nn.Module = _Objective(sae)
        fused = sae.device.type in ("cpu", "cuda")
        self.optimizer: Any = torch.optim.Adam(sae.parameters(), lr=settings.lr, betas=settings.betas, fused=fused)
        if accelerator is not None:
            self.objective, self.optimizer = accelerator.prepare(self.objective, self.optimizer)
            self.since = self.since.to(sae.device)
        self.processes = int(getattr(accelerator, "num_processes", 1))

    def initialise(self) -> None:
        """Biases from the first batch, which is trained on as well."""
        x, y = self.first = self._next()
        sae = self.sae
        with torch.no_grad():
            x = sae.prepare(x)
            if y is None:
                plain = sae.centre(x, sae.stats(x)) + (sae.b_dec if sae.cfg.apply_b_dec_to_input else 0)
                sae.b_dec.copy_(geometric_median(plain))
            else:
                y = sae.prepare(y, argument="y", width=sae.cfg.width_out)
                sae.b_dec.copy_(y.mean(0))
                sae.b_enc.copy_(-(sae.centre(x, sae.stats(x)).mean(0) @ sae.W_enc))

    def _next(self) -> tuple[Tensor, Tensor | None]:
        if self.first is not None:
            batch, self.first = self.first, None
            return batch
        try:
            batch = next(self.stream)
        except StopIteration:
            raise ValueError(f"stream ended after {self.step} batches; steps={self.settings.steps}") from None
        return (batch, None) if isinstance(batch, Tensor) else (batch[0], batch[1])

    def go(self, log_every: int, progress: bool, checkpoint: str | Path | None, checkpoint_every: int) -> None:
        """The loop."""
        self.optimizer.zero_grad()
        steps, main = self.settings.steps, bool(getattr(self.accelerator, "is_main_process", True))
        with tqdm(total=steps, initial=self.step, desc="fit", delay=2, disable=not (progress and main)) as bar:
            while self.step < steps:
                out = self._one()
                self.step += 1
                bar.update()
                if self.step % log_every == 0 or self.step in (1, steps):
                    self._log(out)
                    bar.set_postfix(loss=f"{self.history.loss[-1]:.4g}", l0=f"{self.history.l0[-1]:.1f}", refresh=False)
                if checkpoint is not None and main and (self.step % checkpoint_every == 0 or self.step == steps):
                    self.save(Path(checkpoint))

    def _one(self) -> TrainOut:
        """One step."""
        settings, sae = self.settings, self.sae
        x, y = self._next()
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * settings.lr_factor(self.step)
        batch = len(x) * self.processes
        out = self.objective(x, y, self._dead(batch), settings.sparsity_factor(self.step))
        if self.accelerator is None:
            out.loss.backward()
        else:
            self.accelerator.backward(out.loss)
        sae.project_gradients_()
        clip = torch.nn.utils.clip_grad_norm_ if self.accelerator is None else self.accelerator.clip_grad_norm_
        clip(sae.parameters(), settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        sae.renormalise_()
        self.since += batch
        self.since[self._everywhere(out.fired.to(sae.dtype), "sum") > 0] = 0
        self._update_threshold(out)
        every, done = settings.resample_every, self.step + 1
        if every and done % every == 0 and done < settings.steps:
            self._resample(x if y is None else y, x, out.errors, self.since >= batch * every // 2)
        return out

    def _dead(self, batch: int) -> Tensor:
        after = self.settings.dead_after
        if after is None:
            after = min(10_000_000, max(batch, self.settings.steps * batch // 8))
        return self.since >= after

    def _everywhere(self, value: Tensor, how: str) -> Tensor:
        """Reduced over all processes of the accelerator, if there are several."""
        return value if self.processes == 1 else self.accelerator.reduce(value, how)

    @torch.no_grad()
    def _update_threshold(self, out: TrainOut) -> None:
        """Running mean of the smallest active value: at inference, values above it are active."""
        if self.sae.cfg.architecture not in BATCH_FAMILY or self.step < self.settings.threshold_start:
            return
        positive = out.codes.values.detach()
        positive = positive[positive > 0]
        if not len(positive):
            return
        lowest = self._everywhere(positive.min().double(), "mean")
        beta, threshold = self.settings.threshold_beta, self.sae.threshold
        threshold.copy_(torch.where(threshold.isnan(), lowest, beta * threshold + (1 - beta) * lowest))

    @torch.no_grad()
    def _resample(self, target: Tensor, x: Tensor, errors: Tensor, dead: Tensor) -> None:
        """Dead latents point at inputs drawn by error; encoder columns alike, at 0.2 of the mean norm of the alive."""
        count, sae = int(dead.sum()), self.sae
        if not count or bool(dead.all()):
            return
        x, target = sae.prepare(x), target.to(sae.W_dec)
        draw = torch.multinomial((errors**2).cpu(), count, replacement=count > len(x), generator=self.generator)
        draw = draw.to(sae.device)
        centred = sae.centre(x[draw], sae.stats(x[draw]))
        goal = centred if not sae.cfg.is_transcoder else target[draw] - sae.b_dec
        unit = torch.nn.functional.normalize
        sae.W_dec[dead] = unit(goal, dim=1)
        sae.W_enc[:, dead] = 0.2 * sae.W_enc[:, ~dead].norm(dim=0).mean() * unit(centred, dim=1).T
        sae.b_enc[dead] = 0
        for parameter, index in ((sae.W_dec, dead), (sae.W_enc, (slice(None), dead)), (sae.b_enc, dead)):
            for name in ("exp_avg", "exp_avg_sq"):
                self.optimizer.state[parameter][name][index] = 0
        self.since[dead] = 0

    def _log(self, out: TrainOut) -> None:
        loss = float(out.loss.detach())
        if not math.isfinite(loss):
            raise ValueError(f"the loss is {loss} at step {self.step}: lower lr={self.settings.lr:g}")
        history, codes, sae = self.history, out.codes, self.sae
        l0 = codes.l0() if isinstance(codes, SparseCodes) else (codes.detach() > 0).sum(1).float().mean()
        threshold = sae.threshold.detach().double().mean() if hasattr(sae, "threshold") else math.nan
        history.step.append(self.step)
        history.loss.append(loss)
        history.reconstruction.append(float(out.parts["reconstruction"]))
        history.penalty.append(loss - history.reconstruction[-1])
        history.l0.append(float(l0))
        history.dead.append(float(self._dead(len(out.errors) * self.processes).float().mean()))
        history.threshold.append(float(threshold))

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """All that a resumed run needs, in one safetensors file."""
        tensors = {f"sae.{name}": value for name, value in self.sae.state_dict().items()}
        for name, parameter in self.sae.named_parameters():
            tensors |= {f"adam.{name}.{key}": value for key, value in self.optimizer.state[parameter].items()}
        tensors |= {"run.since": self.since, "run.rng": self.generator.get_state()}
        notes = {"step": self.step, "settings": _plain(self.settings), "cfg": _plain(self.sae.cfg)}
        notes |= {"history": asdict(self.history), "stream": None}
        if hasattr(self.source, "state_dict"):
            state = self.source.state_dict()
            tensors |= {f"stream.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
            notes["stream"] = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
        write_checkpoint(path, tensors, notes)

    def resume(self, path: Path) -> None:
        """Go on from `save`; a checkpoint of another configuration or other settings is refused."""
        tensors, notes = read_checkpoint(path)
        for name, ours in (("cfg", self.sae.cfg), ("settings", self.settings)):
            mine, stored = _plain(ours), notes[name]
            if differ := [key for key in mine if mine[key] != stored.get(key)]:
                shown = ", ".join(f"{key}: {stored.get(key)!r} there, {mine[key]!r} here" for key in differ)
                raise ValueError(f"checkpoint={str(path)!r} is of another run ({name}: {shown})")
        self.sae.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("sae.")})
        for name, parameter in self.sae.named_parameters():
            prefix = f"adam.{name}."
            state = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.empty_like(parameter.detach()).copy_(state[key])  # with the parameter's strides
            state["step"] = state["step"].to(parameter.device)
            self.optimizer.state[parameter] = state
        self.since = tensors["run.since"].to(self.sae.device)
        self.generator.set_state(tensors["run.rng"])
        self.step, self.history = int(notes["step"]), History(**notes["history"])
        if notes["stream"] is not None and hasattr(self.source, "load_state_dict"):
            state = {key[7:]: value for key, value in tensors.items() if key.startswith("stream.")}
            self.source.load_state_dict({**notes["stream"], **state})


def _plain(config: Any) -> dict[str, Any]:
    """A dataclass as JSON would give it back."""
    return json.loads(json.dumps(asdict(config), default=str))


def geometric_median(x: Tensor, max_iter: int = 100, tol: float = 1e-5) -> Tensor:
    """The point with the smallest sum of distances to rows `(n, d)`, by Weiszfeld's iteration."""
    guess = x.mean(0)
    for _ in range(max_iter):
        weights = 1 / (x - guess).norm(dim=1).clamp_min(1e-12)
        new = (weights / weights.sum()) @ x
        moved, guess = (new - guess).norm(), new
        if moved < tol:
            break
    return guess
