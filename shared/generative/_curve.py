"""Concept insertion success: how late a concept can still be put into a sample by switching the prompt (PCI)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_array, check_range
from shared.generative._judges import ImageJudge
from shared.generative._sampler import Sampler, Trajectory


@dataclass(frozen=True)
class CISResult:
    """Whether each seed's sample shows the concept, by the step before which the prompt was switched.

    Parameters
    ----------
    base, concept : the prompts before and after the switch.
    steps : of a whole run.
    indices : steps done under the base prompt, (points,); 0 is the concept prompt's own run, `steps` the base prompt's.
    success : bool (seeds, points).
    log_snr : log signal-to-noise ratio at the step after the switch, (points,); NaN for never.
    images : uint8 (points, seeds, 3, H, W), if kept.
    """

    base: str
    concept: str
    steps: int
    indices: np.ndarray
    success: np.ndarray = field(repr=False)
    log_snr: np.ndarray = field(repr=False)
    images: Tensor | None = field(default=None, repr=False)

    @property
    def fraction(self) -> np.ndarray:
        """Share of the steps done before the switch, (points,)."""
        return self.indices / self.steps

    def mean(self) -> np.ndarray:
        """CIS: the share of seeds that show the concept.

        Returns
        -------
        Shares (points,).
        """
        return self.success.mean(0)

    @property
    def floor(self) -> float:
        """CIS when never switched; NaN if that point was not asked for."""
        return self._at(self.steps)

    @property
    def ceiling(self) -> float:
        """CIS when switched before the first step."""
        return self._at(0)

    def crossing(self, *, level: float = 0.5) -> float:
        """Where CIS first falls below a level, interpolated.

        Parameters
        ----------
        level : in [0, 1].

        Returns
        -------
        Share of the steps; NaN if it never does.
        """
        return crossing(self.fraction, self.mean(), level)

    def crossings(self, *, generator: np.random.Generator, n: int = 500, level: float = 0.5) -> np.ndarray:
        """`crossing` of sets of seeds drawn with replacement.

        Parameters
        ----------
        generator : draws the sets.
        n : how many sets.
        level : in [0, 1].

        Returns
        -------
        Shares of the steps (n,), NaN where a set's curve never falls below the level.
        """
        rows = generator.integers(len(self.success), size=(n, len(self.success)))
        return np.array([crossing(self.fraction, self.success[row].mean(0), level) for row in rows])

    def window(self, *, high: float = 0.9, low: float = 0.1) -> tuple[float, float]:
        """From where to where CIS falls between two shares of the way from floor to ceiling.

        Parameters
        ----------
        high, low : the two shares.

        Returns
        -------
        Both as shares of the steps; NaN without a floor.
        """
        scaled = (self.mean() - self.floor) / (self.ceiling - self.floor) if self.ceiling != self.floor else np.nan
        scaled = np.broadcast_to(scaled, self.indices.shape)
        return crossing(self.fraction, scaled, high), crossing(self.fraction, scaled, low)

    def latest(self, *, level: float = 0.8) -> int:
        """The latest switch up to which CIS is at least at a level.

        Parameters
        ----------
        level : in [0, 1].

        Returns
        -------
        Steps done before it; the first point if there is none.
        """
        below = np.flatnonzero(self.mean() < level)
        end = below[0] if len(below) else len(self.indices)
        return int(self.indices[max(end - 1, 0)])

    def isotonic_residual(self) -> float:
        """How far the curve is from falling.

        Returns
        -------
        Mean distance from the nearest falling curve (least squares).
        """
        from sklearn.isotonic import IsotonicRegression

        mean = self.mean()
        return float(np.abs(IsotonicRegression(increasing=False).fit_transform(self.fraction, mean) - mean).mean())

    def rows(self, rows: Any) -> CISResult:
        """The result of some of the seeds.

        Parameters
        ----------
        rows : an index of numpy's: a slice, numbers, or bool (seeds,).

        Returns
        -------
        A `CISResult` of these.
        """
        images = None if self.images is None else self.images[:, rows]
        return CISResult(self.base, self.concept, self.steps, self.indices, self.success[rows], self.log_snr, images)

    def _at(self, index: int) -> float:
        found = self.mean()[self.indices == index]
        return float(found[0]) if len(found) else float("nan")


def cis_curve(
    sampler: Sampler,
    base: str | Trajectory,
    concept: str,
    judge: ImageJudge,
    question: Any,
    noise: Tensor,
    *,
    indices: Sequence[int] | None = None,
    base_prompt: str = "",
    expect: bool = True,
    negative: str | None = None,
    keep_images: bool = False,
) -> CISResult:
    """Switch from the base to the concept prompt before each of several steps, and ask what the samples show.

    Prompt-conditioned intervention (PCI). The base run is kept once for all switches: S·n base steps instead of one
    set per switch.

    Parameters
    ----------
    sampler : the denoising loop.
    base : the base prompt, or its kept run from `noise`, which several concepts can share.
    concept : the prompt after the switch.
    judge : says of each image whether it shows the concept.
    question : what it is asked.
    noise : unit Gaussian latents (S, C, h, w), one per seed, at least two.
    indices : steps done before the switch, rising; None means all from 0 to `steps`.
    base_prompt : names `base` where that is a run.
    expect : the answer that counts as success; False for removal.
    negative : a negative prompt for the second part.
    keep_images : keep them in the result.

    Returns
    -------
    A `CISResult`.

    Raises
    ------
    ValueError
        For fewer than two seeds, indices that aren't whole numbers from 0 to `steps` in rising order, a prompt that is
        empty or too long, and a judge that doesn't return bool (S,).
    """
    check_array("noise", noise, ("S", "C", "h", "w"))
    if len(noise) < 2:
        raise ValueError(f"noise has {len(noise)} seed; a curve needs at least 2")
    points = _check_indices(indices, sampler.steps)
    run = sampler.run(base, noise, keep=True) if isinstance(base, str) else base
    if len(run.latents) != len(noise):
        raise ValueError(f"base is a run of {len(run.latents)} seeds; noise has {len(noise)}")
    success, images = [], []
    for index in points:
        shown = sampler.decode(sampler.switch(run, index, concept, negative=negative).latents)
        success.append(_answers(judge, shown, question) == expect)
        if keep_images:
            images.append((shown * 255).round().to(torch.uint8))
    log_snr = torch.cat([sampler.log_snr.cpu(), torch.tensor([float("nan")])])[points].numpy()
    return CISResult(
        base if isinstance(base, str) else base_prompt,
        concept,
        sampler.steps,
        np.array(points),
        torch.stack(success, 1).numpy(),
        log_snr,
        torch.stack(images) if images else None,
    )


def lock_in(sampler: Sampler, run: Trajectory, judge: ImageJudge, question: Any) -> np.ndarray:
    """After how many steps the judge's answer about the predicted clean image stays the final one.

    Parameters
    ----------
    sampler : the denoising loop of the run.
    run : a whole run with each step's prediction (`x0=True`).
    judge : says of each image whether it shows the concept.
    question : what it is asked.

    Returns
    -------
    Shares of the steps (S,); 0 is right from the first prediction on.

    Raises
    ------
    ValueError
        For a run without predictions of all steps, and a judge that doesn't return bool (S,).
    """
    if run.x0 is None or len(run.x0) != sampler.steps:
        raise ValueError("run holds no predictions of all steps; run from the start with x0=True")
    said = torch.stack([_answers(judge, sampler.decode(x0), question) for x0 in run.x0])
    final = _answers(judge, sampler.decode(run.latents), question)
    same = (said == final).flip(0).long().cumprod(0).sum(0)  # predictions at the end that agree
    return (1 - same / sampler.steps).numpy()


def crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Where `y` first falls below `level`, on straight lines between the points; NaN if it never does."""
    below = np.flatnonzero((y[1:] < level) & (y[:-1] >= level))
    if not len(below):
        return float("nan")
    i = below[0]
    return float(x[i] + (x[i + 1] - x[i]) * (y[i] - level) / (y[i] - y[i + 1]))


def _answers(judge: ImageJudge, images: Tensor, question: Any) -> Tensor:
    found = judge.ask(images, question)
    if not isinstance(found, Tensor) or found.dtype != torch.bool or tuple(found.shape) != (len(images),):
        said = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"judge returned {said}; expected bool ({len(images)},), one answer per image")
    return found


def _check_indices(indices: Sequence[int] | None, steps: int) -> list[int]:
    points = list(range(steps + 1)) if indices is None else [int(index) for index in indices]
    if indices is not None and any(a != b for a, b in zip(points, indices)):
        raise ValueError(f"indices={list(indices)} must be whole numbers of steps")
    if not points or points != sorted(set(points)):
        raise ValueError(f"indices={points} must rise and name at least one step")
    check_range("indices", points[0], 0)
    check_range("indices", points[-1], None, steps)
    return points
