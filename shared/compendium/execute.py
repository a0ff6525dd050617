"""Run one paper's notebook headlessly through papermill: what a job of papers/Snakefile does.

`python -m shared.compendium.execute SLUG [--scale small|paper] [--limit SECONDS]`
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import papermill
import psutil
import yaml
from papermill.exceptions import PapermillExecutionError

from shared.compendium.paths import PAPERS, SCALES, atomic_path, run_dir


def execute(slug: str, scale: str = "small", limit: float = 600) -> str | None:
    """Run `papers/<slug>/<slug>.ipynb`; the executed notebook lands beside its results, whole or not at all.

    At paper scale the parameters come from `paper.yml`. Returns None, or in one line why it failed; then the
    notebook as far as it came is `<slug>.failed.ipynb`. After `limit` seconds, and when the process that started
    this one is gone, the process ends with its kernel.
    """
    folder = run_dir(slug, scale)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(".*"):  # temporary files of a killed run
        stale.unlink()
    failed = folder / f"{slug}.failed.ipynb"
    failed.unlink(missing_ok=True)
    parameters = PAPERS / slug / "paper.yml" if scale == "paper" else None
    threading.Thread(target=_watch, args=(slug, limit), daemon=True).start()
    try:
        with atomic_path(folder / f"{slug}.ipynb") as output:
            try:
                papermill.execute_notebook(
                    PAPERS / slug / f"{slug}.ipynb",
                    output,
                    yaml.safe_load(parameters.read_text(encoding="utf-8")) if parameters else {},
                    kernel_name="python3",
                    language="python",
                    cwd=PAPERS / slug,
                    progress_bar=False,
                    log_output=True,
                )
            except PapermillExecutionError:
                shutil.copyfile(output, failed)
                raise
    except PapermillExecutionError as error:
        return f"cell [{error.exec_count}]: {error.ename}: {_one_line(error.evalue)}"
    except Exception as error:  # a kernel that died, a notebook that can't be read
        return f"{type(error).__name__}: {_one_line(error)}"
    return None


def _watch(slug: str, limit: float) -> None:
    parent, end = os.getppid(), time.monotonic() + limit
    while os.getppid() == parent and time.monotonic() < end:
        time.sleep(0.2)
    if os.getppid() == parent:
        print(f"{slug}: stopped at its time limit of {limit:g} s", flush=True)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(124)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())[:500]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("slug")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--limit", type=float, default=600)
    given = parser.parse_args()
    if threads := os.environ.get("OMP_NUM_THREADS"):  # numba doesn't heed Snakemake's number by itself
        os.environ.setdefault("NUMBA_NUM_THREADS", threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    problem = execute(given.slug, given.scale, given.limit)
    if problem:
        log = Path(run_dir(given.slug, given.scale) / "run.log")
        print(f"{given.slug} failed in {problem} (log: {log})", flush=True)
    sys.exit(problem is not None)
