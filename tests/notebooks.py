"""One execution of a paper's notebook serves its figures, its results and nbval's comparison.

An official run whose key still fits (same code, data, packages, parameters) isn't made again: its report is compared
with the stored one. Otherwise nbval executes the notebook, as the official run. REPRISE_ALL=1 executes in any case.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbval import plugin

from shared.compendium.dependencies import run_key
from shared.compendium.ledger import fresh_results
from shared.compendium.paths import PAPERS, ROOT, run_dir
from shared.compendium.report import same_table

_COMPARED = "# NBVAL_CHECK_OUTPUT"
OFFICIAL = {"REPRISE_FIGURES": str(ROOT / "figures")}


def install() -> None:
    """Change nbval's collector and cells accordingly; notebooks outside `papers/` stay as they are."""
    plugin.IPyNbFile.setup = _setup(plugin.IPyNbFile.setup)
    plugin.IPyNbCell.runtest = _runtest(plugin.IPyNbCell.runtest)
    plugin.IPyNbCell.compare_outputs = _compare_outputs(plugin.IPyNbCell.compare_outputs)


def notebook_name(path: Path) -> str | None:
    """`slug`, or `slug/more_topic`, of a notebook of the papers; None for any other file."""
    if path.parent.parent != PAPERS:
        return None
    slug = path.parent.name
    return slug if path.stem == slug else f"{slug}/{path.stem}"


def _setup(start_kernel: Callable[[Any], None]) -> Callable[[Any], None]:
    def setup(self: Any) -> None:
        name, self.replayed = notebook_name(Path(self.path)), None
        if name is None:
            return start_kernel(self)
        kept = {variable: os.environ.get(variable) for variable in ("REPRISE_RUN", "REPRISE_KEY", *OFFICIAL)}
        try:
            os.environ.update(OFFICIAL)
            key = run_key(name, {"scale": "small"})
            found = {} if os.environ.get("REPRISE_ALL") else fresh_results(name)
            if found.get("key") == key:
                self.replayed = found["report"]
                return None
            os.environ.update(REPRISE_RUN=str(run_dir(name)), REPRISE_KEY=key)
            return start_kernel(self)
        finally:
            for variable, value in kept.items():
                os.environ.pop(variable, None) if value is None else os.environ.update({variable: value})

    return setup


def _runtest(execute: Callable[[Any], None]) -> Callable[[Any], None]:
    def runtest(self: Any) -> None:
        report = getattr(self.parent, "replayed", None)
        if report is None:
            execute(self)
        elif _COMPARED in self.cell.source:
            stored = "".join(output.get("text", "") for output in self.cell.outputs)
            if not same_table(report, stored):
                self.comparison_traceback = [f"the official run says\n{report}\nthe notebook is stored with\n{stored}"]
                self.raise_cell_error("Cell outputs differ", "\n".join(self.comparison_traceback))

    return runtest


def _compare_outputs(exactly: Callable[..., bool]) -> Callable[..., bool]:
    """Reports of claims agree by their intervals: numbers depend on the processor."""

    def compare_outputs(self: Any, test: list[Any], ref: list[Any], skip_compare: Any = None) -> bool:
        tables = all([output.get("name") for output in outputs] == ["stdout"] for outputs in (test, ref))
        if tables and _COMPARED in self.cell.source:
            try:
                if same_table(test[0]["text"], ref[0]["text"]):
                    return True
            except ValueError:  # no report
                pass
        return exactly(self, test, ref, skip_compare)

    return compare_outputs
