"""`Paper`: the one object a notebook talks to."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from shared._checks import check_choice
from shared.compendium.card import load_card
from shared.compendium.claims import VOID, ClaimError, Measurement, per_seed, table
from shared.compendium.paths import SCALES, atomic_path, run_dir
from shared.compendium.runinfo import Meter, git_state, resolve_device, seed_everything, versions


class Paper:
    """A run of one paper's notebook: its card, scale, seeds and device; figures, claims and results.

    Parameters
    ----------
    slug : name of the folder under `papers/`.
    scale : "small" (two cores, no network) or "paper" (the paper's own sizes).
    seed : seeds python, numpy and torch; kernels are deterministic where torch has such.
    device : "auto", "cpu", or any device torch can use here.
    parameters : the notebook's further parameters, recorded in results.json.

    Figures and results.json go to `figures/<slug>/` (at paper scale to `figures/<slug>/paper/`). With the environment
    variable REPRISE_DRY_RUN set, numbers mean nothing (random weights), so a void claim is recorded and not raised.
    """

    def __init__(
        self, slug: str, *, scale: str = "small", seed: int = 0, device: str = "auto", **parameters: Any
    ) -> None:
        self._meter = Meter()
        self.card = load_card(slug)
        self.scale = check_choice("scale", scale, SCALES)
        self.seed = seed
        seed_everything(seed)
        self.device = resolve_device(device)
        self.dry_run = bool(os.environ.get("REPRISE_DRY_RUN"))
        self.parameters = {"scale": scale, "seed": seed, "device": device, **parameters}
        json.dumps(self.parameters)  # fails here, not at the end of a long run, on what results.json can't hold
        self.folder = run_dir(slug, scale)
        self._figures: dict[str, str] = {}
        self._claims: dict[str, Measurement] = {}

    def __repr__(self) -> str:
        return f"Paper({self.card.slug!r}, scale={self.scale!r}, seed={self.seed}, device={str(self.device)!r})"

    @property
    def small(self) -> bool:
        """Whether this run is at small scale."""
        return self.scale == "small"

    def rng(self, stream: int = 0) -> np.random.Generator:
        """A numpy generator that depends on the run's seed and `stream` only."""
        return np.random.default_rng([self.seed, stream])

    def generator(self, stream: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
        """A torch generator that depends on the run's seed and `stream` only."""
        return torch.Generator(device).manual_seed(
            int(np.random.SeedSequence([self.seed, stream]).generate_state(1)[0])
        )

    def figure(self, figure: Figure, name: str, caption: str) -> Figure:
        """Save a matplotlib figure as `<name>.png` (200 dpi) and `<name>.svg`, whole or not at all, and return it.

        `caption` says in a sentence what to see; the gallery prints it. Raises `ValueError` for a name that isn't of
        lower-case letters, digits and underscores, that was used before in this run, or for an empty caption.
        """
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise ValueError(f"name={name!r} must consist of a-z, 0-9 and _")
        if name in self._figures:
            raise ValueError(f"name={name!r} was used for another figure of this run; used: {', '.join(self._figures)}")
        if not caption.strip():
            raise ValueError(f"caption of figure {name!r} is empty; say in a sentence what to see")
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):  # same run, same bytes
            with atomic_path(self.folder / f"{name}.{suffix}") as path, mpl.rc_context({"svg.hashsalt": name}):
                figure.savefig(path, dpi=200, metadata=metadata)
        self._figures[name] = caption
        return figure

    def claim(
        self,
        id: str,
        value: float | Sequence[float] | np.ndarray,
        *,
        control: float | Sequence[float] | np.ndarray,
        note: str = "",
    ) -> str:
        """Record what was measured for a claim of the card, and return the verdict.

        `value` and `control` are a number or one number per seed; the means are held against the card's check. The
        control is the same number for a null version of the method and must fail the check, or `report` raises.
        """
        check_choice("claim", id, self.card.claims)
        if id in self._claims:
            raise ClaimError(f"claim {id!r} was already made in this run")
        made = Measurement(self.card.claims[id], per_seed("value", value), per_seed("control", control), note)
        self._claims[id] = made
        return made.verdict

    def report(self) -> None:
        """Write results.json and print the table of claims.

        Raises `ClaimError` for a claim of the card that was due at this scale and not made, and (after writing and
        printing) for a claim whose control passes its check.
        """
        measurements = [self._claims.get(id) or self._not_made(id) for id in self.card.claims]
        self._write(measurements)
        print(table(measurements))
        void = [m.card.id for m in measurements if m.verdict == VOID]
        if void and not self.dry_run:
            raise ClaimError(f"{', '.join(void)}: the control passes the check, so the claim shows nothing")

    def _not_made(self, id: str) -> Measurement:
        card = self.card.claims[id]
        if self.small and card.only_at_paper_scale:
            return Measurement(card, (), (), card.only_at_paper_scale)
        raise ClaimError(f"claim {id!r} of papers/{self.card.slug}/card.yml was not made in this run")

    def _write(self, measurements: Sequence[Measurement]) -> None:
        results = {
            "slug": self.card.slug,
            "title": self.card.title,
            "parameters": self.parameters,
            "device": str(self.device),
            "dry_run": self.dry_run,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "cost": self._meter.read(),
            "versions": versions(),
            "git": git_state(),
            "figures": self._figures,
            "claims": [m.as_json() for m in measurements],
        }
        with atomic_path(self.folder / "results.json") as path:
            path.write_text(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
