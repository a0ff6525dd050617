"""Execute a notebook in a fresh kernel and store it with light outputs, as the repository keeps it."""

from __future__ import annotations

import argparse
import base64
import io
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from shared._checks import UnknownNameError
from shared.compendium.card import CardError, load_card
from shared.compendium.parameters import notebook_path
from shared.compendium.paths import PAPERS, atomic_path, known_notebooks, known_papers
from shared.compendium.report import same_table

COMPARED = "# NBVAL_CHECK_OUTPUT"
START_UP = 10  # CPU seconds for a kernel and its imports
# What every x86-64 processor since 2009 has: results under these differ from a newer one's as another machine's would.
BASELINE = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",
    "NUMBA_CPU_NAME": "generic",
}

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class DisagreementError(RuntimeError):
    """Two runs whose reports don't agree; the message holds both."""


class BudgetError(RuntimeError):
    """A main notebook that costs more than its card says; it is stored all the same."""


def store(slug: str, *, once: bool = False) -> list[Path]:
    """Run a paper's notebooks top to bottom with their own parameters and write them back with their outputs.

    Parameters
    ----------
    slug : the paper.
    once : False runs each a second time under baseline instruction sets (on x86-64), as another processor would.

    Returns
    -------
    The paths of the notebooks. Nothing is written if a cell of one fails.

    Raises
    ------
    UnknownNameError
        for an unknown paper.
    CardError
        for a card that breaks its schema.
    DisagreementError
        if the two runs' reports don't agree; nothing is written.
    BudgetError
        if the main notebook took over 1.25 times its card's `budget.core_seconds`; all are written.
    """
    load_card(slug)  # a slip in it is told now, not after the run
    paths = [notebook_path(name) for name in known_notebooks(slug)]
    executed, spent = {}, {}
    for path in paths:
        before = _children_cpu()
        executed[path] = _execute(path)
        spent[path] = _children_cpu() - before
    if not once and platform.machine().lower() in {"x86_64", "amd64"}:
        for path, notebook in executed.items():
            _compare(path, notebook, _execute(path, BASELINE))
    elif not once:
        print(f"{platform.machine()} has no baseline instruction sets to compare with; stored after one run")
    for path, notebook in executed.items():
        with atomic_path(path) as temporary:
            nbformat.write(_light(notebook), temporary)
    _check_budget(slug, spent[notebook_path(slug)])
    return paths


def _children_cpu() -> float:
    """CPU seconds of the kernels that have ended, their start-up and imports included."""
    times = os.times()
    return times.children_user + times.children_system


def _check_budget(slug: str, spent: float) -> None:
    allowed = 1.25 * load_card(slug).raw["budget"]["core_seconds"] + START_UP
    if spent > allowed:
        raise BudgetError(
            f"{slug}.ipynb is stored, but took {spent:.0f} CPU seconds; its card's budget allows {allowed:.0f} "
            f"(1.25 x core_seconds + {START_UP} to start). Another run on an idle machine may tell less."
        )


def _execute(
    path: Path, environment: Mapping[str, str] | None = None, *, given: nbformat.NotebookNode | None = None
) -> nbformat.NotebookNode:
    """Run the file, or the notebook `given` in its place."""
    notebook = given or nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources=folder)
    return client.execute(env={**os.environ, **(environment or {})})


def _compare(path: Path, one: nbformat.NotebookNode, other: nbformat.NotebookNode) -> None:
    ours, theirs = _report(one), _report(other)
    if ours and theirs and not same_table(ours, theirs):
        raise DisagreementError(
            f"{path.name}: two runs disagree, so nothing was stored. On this processor:\n{ours}\n"
            f"Under baseline instruction sets:\n{theirs}\n"
            "More units, or a check that chance doesn't decide, make a claim that holds elsewhere too."
        )


def _report(notebook: nbformat.NotebookNode) -> str:
    """What the compared cell printed."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code" and COMPARED in cell.source)
    return "".join(output.text for cell in cells for output in cell.outputs if output.get("name") == "stdout")


def _light(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what a run leaves in metadata but its day and kind of machine, and with light outputs."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    run = {"stored": datetime.now(UTC).date().isoformat(), "machine": machine}
    notebook.metadata = nbformat.from_dict({**METADATA, "reprise": run})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = [output for output in map(_lighten, cell.outputs) if output is not None]
    return notebook


def _lighten(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Drop progress bars and warnings (stderr, widgets) and reduce pictures to a palette of 256 colours."""
    if output.get("name") == "stderr":
        return None
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data:
        return None
    if "image/png" in data:
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        buffer = io.BytesIO()
        picture.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    return output


def main() -> None:
    parser = argparse.ArgumentParser(prog="make store P=SLUG", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    parser.add_argument("--once", action="store_true", help="without the second run under baseline instruction sets")
    given = parser.parse_args()
    if not given.slugs:
        sys.exit(f"which paper? make store P=SLUG; known: {', '.join(known_papers()) or 'none'}")
    try:
        for slug in given.slugs:
            for path in store(slug, once=given.once):
                print(path.relative_to(PAPERS.parent))
    except (UnknownNameError, CardError, DisagreementError, BudgetError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
