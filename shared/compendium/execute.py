"""Run one notebook headlessly through papermill: what a job of papers/Snakefile does.

`python -m shared.compendium.execute NOTEBOOK [--scale small|paper] [--limit CPU_S] [--wall S] [-p NAME VALUE] …`
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import papermill
import psutil
import yaml
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from shared._checks import UnknownNameError
from shared.compendium.dependencies import run_key
from shared.compendium.machine import take_accelerator
from shared.compendium.parameters import check_parameter, notebook_parameters, notebook_path
from shared.compendium.paths import SCALES, atomic_path, figures_dir, output_dir, run_dir
from shared.compendium.results import given_parameters, sweep

OVER_LIMIT = 124  # exit status, as of `timeout`
_GRACE = 20.0  # seconds between the kernel's end and ours


class _Engine(NBClientEngine):
    """papermill's engine, which knows the running cell by the number Jupyter shows for it."""

    cell = 0

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
        start = nb_man.cell_start
        nb_man.log_output = False  # its own lines count Markdown cells too

        def cell_start(cell: Any, cell_index: int | None = None, **more: Any) -> None:
            if cell.cell_type == "code" and cell.source.strip():
                cls.cell += 1
                logging.info("cell [%d]", cls.cell)
            start(cell, cell_index, **more)

        nb_man.cell_start = cell_start
        return super().execute_managed_notebook(nb_man, kernel_name, **options)


class _Watch(threading.Thread):
    """Ends the kernel at a limit of CPU or wall seconds, and everything when the process that started us is gone.

    CPU time counts this process and all below it: on a busy machine a notebook finishes late and isn't killed.
    """

    def __init__(self, cpu: float, wall: float) -> None:
        super().__init__(daemon=True)
        self.cpu, self.wall = cpu, wall
        self.stopped: str | None = None
        self._parent, self._start = os.getppid(), time.monotonic()

    def run(self) -> None:
        while self.stopped is None:
            time.sleep(0.2)
            if os.getppid() != self._parent:
                _kill_children()
                os._exit(OVER_LIMIT)
            if cpu_seconds() > self.cpu:
                self.stopped = f"stopped at its limit of {self.cpu:g} CPU seconds"
            elif time.monotonic() - self._start > self.wall:
                self.stopped = f"stopped after {self.wall:g} seconds"
        _kill_children()  # the main thread notices and says what happened
        time.sleep(_GRACE)
        os._exit(OVER_LIMIT)


def cpu_seconds() -> float:
    """CPU time of this process and of all it started, ended ones included."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])  # user, system, and those of children it waited for
        except psutil.Error:
            continue
    return total


def execute(
    notebook: str,
    scale: str = "small",
    *,
    parameters: Mapping[str, Any] | None = None,
    cpu_limit: float = 600,
    wall_limit: float = 6000,
) -> tuple[str, int] | None:
    """Run a notebook; results, log and the executed notebook land in one folder, each whole or not at all.

    Official results, without `parameters`, go to `run_dir`, where nothing else writes; a run with `parameters` of its
    own goes to a folder of its own beside them. Returns None, or why the run failed, in a line that names the cell, the
    log and the notebook as far as it came, with an exit status. Raises `UnknownNameError` for a parameter that the
    notebook doesn't have.
    """
    source = notebook_path(notebook)
    given = {**given_parameters(notebook, scale), **(parameters or {})}
    names = list(notebook_parameters(notebook))
    for name in given:
        check_parameter(name, names)
    os.environ.pop("REPRISE_RUN", None)
    folder = output_dir(notebook, scale, given).absolute() if parameters else run_dir(notebook, scale).absolute()
    os.environ["REPRISE_RUN"] = str(folder)
    os.environ["REPRISE_KEY"] = run_key(notebook, {"scale": scale, **given})
    failed = folder / f"{source.stem}.failed.ipynb"
    _clear(folder, failed)
    _log_to(folder / "run.log")
    watch = _Watch(cpu_limit, wall_limit)
    watch.start()
    try:
        with atomic_path(folder / source.name) as output:
            try:
                _run(source, output, given)
            except BaseException:
                shutil.copyfile(output, failed)
                raise
    except Exception as error:  # a cell's error, a kernel that died, a notebook that can't be read
        _log_error(error)
        what = watch.stopped or _one_line(error)
        where = f"log: {folder / 'run.log'}; the notebook as far as it came: {failed}"
        return f"cell [{_Engine.cell}]: {what} ({where})", OVER_LIMIT if watch.stopped else 1
    for name in sweep(folder):
        logging.info("removed %s: no figure of this run", name)
    return None


def _run(source: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    papermill_engines.register("reprise", _Engine)
    _Engine.cell = 0
    papermill.execute_notebook(
        source,
        output,
        dict(parameters),
        engine_name="reprise",
        kernel_name="python3",
        language="python",
        cwd=source.parent,
        progress_bar=False,
        log_output=True,
    )


def _clear(folder: Path, failed: Path) -> None:
    """Make the folder, without what an earlier run or a killed one left that could pass for this one's."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (*folder.glob(".*"), failed, folder / "results.json"):
        if not stale.is_dir():  # .ipynb_checkpoints, of somebody who looked at a notebook here
            stale.unlink(missing_ok=True)


def _log_to(path: Path) -> None:
    """Everything on stderr, the kernel's included, goes to `path`."""
    sys.stderr.flush()
    with path.open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)


def _log_error(error: Exception) -> None:
    if isinstance(error, PapermillExecutionError):
        text = "\n".join(error.traceback)
        print(re.sub(r"\x1b\[[0-9;]*m", "", text), file=sys.stderr)  # without the colours of a terminal
    else:
        traceback.print_exception(error)
    print(f"failed in cell [{_Engine.cell}]", file=sys.stderr, flush=True)


def _one_line(error: Exception) -> str:
    if isinstance(error, PapermillExecutionError):
        name, message = error.ename, error.evalue
    else:
        name, message = type(error).__name__, str(error)
    return " ".join(f"{name}: {message}".split())[:500]


def _kill_children() -> None:
    for child in psutil.Process().children(recursive=True):
        child.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebook")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--limit", type=float, default=600, help="CPU seconds it may take")
    parser.add_argument("--wall", type=float, help="seconds it may take, by default ten times as many")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    parser.add_argument("--devices", type=int, default=0, help="accelerators here, of which it takes one")
    given = parser.parse_args()
    take_accelerator(given.devices, figures_dir())
    if threads := os.environ.get("OMP_NUM_THREADS"):  # numba doesn't heed Snakemake's number by itself
        os.environ.setdefault("NUMBA_NUM_THREADS", threads)
    try:
        problem = execute(
            given.notebook,
            given.scale,
            parameters={name: yaml.safe_load(value) for name, value in given.p},
            cpu_limit=given.limit,
            wall_limit=given.wall or 10 * given.limit,
        )
    except UnknownNameError as error:
        parser.exit(2, f"{error}\n")
    if problem:
        print(f"{given.notebook} failed in {problem[0]}", flush=True)
        sys.exit(problem[1])
    elif given.p:
        print(f"{given.notebook}: results in {os.environ['REPRISE_RUN']}")


if __name__ == "__main__":
    main()
