"""`Paper`: the one object a notebook talks to."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from shared._checks import check_choice
from shared.compendium.card import load_card
from shared.compendium.claims import VOID, ClaimError, Gate, Measurement, measurement, per_unit
from shared.compendium.parameters import recorded
from shared.compendium.paths import SCALES, atomic_path, cache_dir, output_dir
from shared.compendium.report import printed, report
from shared.compendium.runinfo import Meter, git_state, resolve_device, seed_everything, versions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Paper:
    """A run of one paper's notebook: its card, scale, seeds and device; figures, claims and results.

    Parameters
    ----------
    notebook : the folder under `papers/`; for a further notebook of the paper `slug/more_topic`.
    namespace : the notebook's `globals()`. What its parameters cell assigns is recorded in results.json; `scale`
        ("small", "paper"), `seed` (python, numpy and torch are seeded with it; kernels are deterministic where torch
        has such) and `device` ("auto", "cpu", or any device that torch can use here) are among them.

    Raises
    ------
    UnknownNameError
        for an unknown paper, scale or device, and for a parameter that papermill was given and the notebook lacks.

    Notes
    -----
    Figures and results.json go to `figures/<slug>/` when the runner (`make figures`) runs the notebook with its own
    parameters, else to `figures/<slug>/runs/<hash of the parameters>/`. With the environment variable REPRISE_DRY_RUN
    set, numbers mean nothing (random weights), so a void claim is recorded and not raised.
    """

    def __init__(self, notebook: str, namespace: Mapping[str, Any]) -> None:
        self._meter = Meter()
        self.notebook = notebook
        self.card = load_card(notebook.partition("/")[0])
        self.parameters = recorded(notebook, namespace)
        self.scale = check_choice("scale", self.parameters["scale"], SCALES)
        self.seed = self.parameters["seed"]
        seed_everything(self.seed)
        self.device = resolve_device(self.parameters["device"])
        self.dry_run = bool(os.environ.get("REPRISE_DRY_RUN"))
        self.folder = output_dir(notebook, self.scale, self.parameters)
        self._figures: dict[str, str] = {}
        self._gates: dict[str, Gate] = {}
        self._claims: dict[str, Measurement] = {}

    def __repr__(self) -> str:
        return f"Paper({self.card.slug!r}, scale={self.scale!r}, seed={self.seed}, device={str(self.device)!r})"

    @property
    def small(self) -> bool:
        """Whether this run is at small scale."""
        return self.scale == "small"

    def rng(self, stream: int = 0) -> np.random.Generator:
        """A numpy generator of its own for each purpose.

        Parameters
        ----------
        stream : the purpose's number.

        Returns
        -------
        A generator that depends on the run's seed and `stream` only.
        """
        return np.random.default_rng([self.seed, stream])

    def generator(self, stream: int = 0, *, device: str | torch.device = "cpu") -> torch.Generator:
        """A torch generator of its own for each purpose.

        Parameters
        ----------
        stream : the purpose's number.
        device : where it draws; the numbers differ between kinds of device.

        Returns
        -------
        A generator that depends on the run's seed and `stream` only.
        """
        return torch.Generator(device).manual_seed(
            int(np.random.SeedSequence([self.seed, stream]).generate_state(1)[0])
        )

    def resume(self, name: str, compute: Callable[[], Any]) -> Any:
        """What a long part of a run gives, or gave before the run was killed.

        Parameters
        ----------
        name : lower-case letters, digits and underscores; says which part: method and seed, say.
        compute : without arguments; gives numbers, strings, lists and dictionaries (JSON).

        Returns
        -------
        The result. At paper scale under the runner it is kept in `data/cache` under the hash of code and parameters
        (the runner's key), so that the same run, started again, goes on from there; anywhere else it is computed.
        """
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise ValueError(f"name={name!r} must consist of a-z, 0-9 and _")
        key = os.environ.get("REPRISE_KEY")
        if self.small or self.dry_run or key is None:
            return compute()
        kept = cache_dir() / "resume" / key / f"{name}.json"
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(kept) as path:
                path.write_text(json.dumps(compute()), encoding="utf-8")
        return json.loads(kept.read_text(encoding="utf-8"))

    def figure(self, figure: Figure, name: str, caption: str) -> Figure:
        """Save a matplotlib figure as `<name>.png` (200 dpi) and `<name>.svg` (not in a dry run), whole or not at all.

        Parameters
        ----------
        figure : the figure.
        name : lower-case letters, digits and underscores; each name once in a run.
        caption : says in a sentence what to see; the gallery prints it.

        Returns
        -------
        The figure.

        Raises
        ------
        ValueError
            for a bad name, one that was used before in this run, or an empty caption.
        """
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise ValueError(f"name={name!r} must consist of a-z, 0-9 and _")
        if name in self._figures:
            raise ValueError(f"name={name!r} was used for another figure of this run; used: {', '.join(self._figures)}")
        if not caption.strip():
            raise ValueError(f"caption of figure {name!r} is empty; say in a sentence what to see")
        metadata_of = {"png": {"Software": None}, "svg": {"Date": None}}  # same run, same bytes
        for suffix in ("png",) if self.dry_run else metadata_of:
            with atomic_path(self.folder / f"{name}.{suffix}") as path, mpl.rc_context({"svg.hashsalt": name}):
                figure.savefig(path, dpi=200, metadata=metadata_of[suffix])
        self._figures[name] = caption
        return figure

    def gate(self, id: str, values: ArrayLike) -> bool:
        """Record whether the phenomenon that a claim is about exists here.

        Parameters
        ----------
        id : a gate of the card.
        values : one number per unit, measured on other seeds than the claims behind it.

        Returns
        -------
        Whether the whole interval satisfies the gate's check. Claims behind a gate that doesn't pass get the verdict
        *no test here*.
        """
        check_choice("gate", id, self.card.gates)
        if id in self._gates:
            raise ClaimError(f"gate {id!r} was already measured in this run")
        self._gates[id] = Gate(self.card.gates[id], per_unit("values", values))
        return self._gates[id].passes

    def claim(
        self,
        id: str,
        values: ArrayLike,
        *,
        null: ArrayLike,
        rival: ArrayLike | Mapping[str, ArrayLike] | None = None,
        paired: bool = True,
        note: str = "",
    ) -> str:
        """Record what was measured for a claim of the card, and return the verdict.

        Parameters
        ----------
        id : a claim of the card.
        values : (n,) one number per independent unit, in the card's measure; truth values are successes and failures,
            with intervals for shares and their differences.
        null : the same for the null version of the method: (n,) for the same units, which are then compared in pairs;
            one number that is known, such as a chance level; or another count of units.
        rival : the same for each rival by name, or of the only one. A check like `> rival` is held against the paired
            difference to the best of them.
        paired : False where null and rivals come from other units than the values, though they are as many.
        note : kept in results.json.

        Returns
        -------
        "held": the whole 95 % interval of the mean satisfies the check and the difference to the null excludes zero;
        "not reproduced": the whole interval fails the check; else "open"; "no test here" behind a closed gate. For our
        own claims "yes", "no", "open". A null that satisfies the check itself makes `report` raise.

        Raises
        ------
        ClaimError
            for a claim made twice, before its gate was measured, or in another notebook than its card says.
        """
        card = self.card.claims[check_choice("claim", id, self.card.claims)]
        if card.notebook != self.notebook.partition("/")[2]:
            raise ClaimError(f"claim {id!r} belongs to {card.notebook or 'the main notebook'}, says its card")
        if id in self._claims:
            raise ClaimError(f"claim {id!r} was already made in this run")
        if early := [gate for gate in card.gates if gate not in self._gates]:
            raise ClaimError(f"claim {id!r} comes before its gate {early[0]!r}; call paper.gate first")
        closed = [gate for gate in card.gates if not self._gates[gate].passes]
        no_test = f"gate {', '.join(closed)} did not pass" if closed else ""
        self._claims[id] = measurement(card, values, null, rival, paired=paired, note=note, no_test=no_test)
        return self._claims[id].answer

    def report(self) -> None:
        """Write results.json and print the gates, the paper's claims and our own questions.

        Raises
        ------
        ClaimError
            for a claim of the card that was due and not made, and (after writing and printing) for a claim whose null
            satisfies its check. A claim is due in the notebook that its card names.
        """
        here = self.notebook.partition("/")[2]
        due = [id for id, claim in self.card.claims.items() if claim.notebook == here]
        measurements = [self._claims.get(id) or self._not_made(id) for id in due]
        text = report(list(self._gates.values()), measurements)
        self._write(measurements, text)
        print(text)
        void = [m.card.id for m in measurements if m.verdict == VOID]
        if void and not self.dry_run:
            raise ClaimError(f"{', '.join(void)}: the null satisfies the check, so the claim shows nothing")

    def _not_made(self, id: str) -> Measurement:
        card = self.card.claims[id]
        closed = [gate for gate in card.gates if gate in self._gates and not self._gates[gate].passes]
        if self.small and card.only_at_paper_scale:
            return Measurement(card, (), no_test=card.only_at_paper_scale)
        if closed:
            return Measurement(card, (), no_test=f"gate {', '.join(closed)} did not pass")
        raise ClaimError(f"claim {id!r} of papers/{self.card.slug}/card.yml was not made in this run")

    def _write(self, measurements: Sequence[Measurement], text: str) -> None:
        results = {
            "slug": self.card.slug,
            "notebook": self.notebook,
            "title": self.card.title,
            "parameters": self.parameters,
            "key": os.environ.get("REPRISE_KEY"),
            "device": str(self.device),
            "dry_run": self.dry_run,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "cost": self._meter.read(),
            "versions": versions(),
            "git": git_state(),
            "figures": self._figures,
            "gates": [gate.as_json() for gate in self._gates.values()],
            "report": text,
            "claims": [{**m.as_json(), "printed": printed(m)} for m in measurements],
        }
        with atomic_path(self.folder / "results.json") as path:
            path.write_text(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
