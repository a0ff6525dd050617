"""Runs a notebook's code in this process, as papermill would in a kernel: what a dry run does in a forked child."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Imported once by the server that every dry run is forked from; kernels would import them anew, notebook by notebook.
PRELOADED = [
    *("matplotlib.pyplot", "IPython.core.interactiveshell", "captum.attr", "openTSNE", "umap", "diffusers"),
    *("sklearn.linear_model", "sklearn.svm", "sklearn.manifold", "sklearn.ensemble", "transformers"),
    *("shared.attribution", "shared.compendium.paper", "shared.concepts", "shared.embeddings", "shared.federated"),
    *("shared.generative", "shared.influence", "shared.lm", "shared.lrp", "shared.metrics", "shared.patterns"),
    *("shared.plots", "shared.probes", "shared.sae", "shared.vision", "shared.worlds", "shared.zoo"),
]


class DryRunError(AssertionError):
    """A notebook's code failed; the message is its traceback."""


def run_forked(path: Path, parameters: Mapping[str, Any], environment: Mapping[str, str], limit: float = 600) -> None:
    """Run a notebook in a child of the preloaded server; `DryRunError` with the traceback of the cell that failed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(theirs, path, dict(parameters), dict(environment)))
    child.start()
    theirs.close()
    try:
        problem = ours.recv() if ours.poll(limit) else f"no answer within {limit:g} s"
    except EOFError:
        problem = f"the process ended with exit status {child.exitcode}"
    finally:
        child.kill()
        child.join()
    if problem:
        raise DryRunError(problem)


def _report(answer: Any, path: Path, parameters: dict[str, Any], environment: dict[str, str]) -> None:
    try:
        run(path, parameters, environment)
        answer.send("")
    except BaseException:
        answer.send(traceback.format_exc())


def run(path: Path, parameters: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Run the code cells of a notebook in its folder, `parameters` injected below the tagged cell."""
    os.environ.update(environment)
    os.chdir(path.parent)
    sys.stdout = sys.stderr = open(os.devnull, "w")
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    for number, cell in enumerate(_code_cells(path), start=1):
        _run_cell(shell, "".join(cell["source"]), f"cell [{number}]")
        if "parameters" in cell["metadata"].get("tags", []):
            injected = "".join(f"{name} = {value!r}\n" for name, value in parameters.items())
            _run_cell(shell, f"# Parameters\n{injected}", "the injected parameters")


def _code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def _run_cell(shell: Any, source: str, name: str) -> None:
    result = shell.run_cell(source, store_history=True, silent=False)
    if error := result.error_before_exec or result.error_in_exec:
        raise RuntimeError(f"{name} failed:\n{source}") from error
