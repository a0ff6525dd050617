"""A throw-away checkout with tiny papers, on which the runner, the gallery and the faults are tested."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]

CARD = {
    "slug": "tiny",
    "title": "A tiny paper",
    "authors": ["A. Author", "B. Author"],
    "year": 2024,
    "venue": "Proceedings",
    "theme": "LRP & attribution",
    "summary": "Measures one number.",
    "reproduces": ["Figure 1"],
    "methods": ["shared.hooks.capture"],
    "claims": [
        {
            "id": "high",
            "kind": "paper",
            "statement": "The number is high.",
            "reported": {"value": 0.9, "source": "table 1"},
            "measures": "a number",
            "unit": "seeds",
            "check": "> 0.5",
            "null_version": "another number",
        }
    ],
    "budget": {"core_seconds": 10, "memory_gb": 1},
}
SET_UP = """from shared.compendium import Paper
paper = Paper("{slug}", globals())"""
CLAIM = 'paper.claim("high", [0.8, 0.81, 0.79], null=0.1);'
FIGURE = """import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(3, 2))
axes.plot(range(size))
paper.figure(figure, "fig1", "A line.")"""
# A notebook without torch, for what concerns the runner alone: it writes its results itself.
BARE = "import json, os, pathlib\nfolder = pathlib.Path(os.environ['REPRISE_RUN'])\nfigures = {{}}"
DRAWS = """import time
figures = {"fig1": "A line."}
for suffix in ("png", "svg"):
    (folder / f"fig1.{suffix}").write_text(str(time.time()))"""
RESULTS = """results = {"key": os.environ["REPRISE_KEY"], "parameters": {"scale": scale, "seed": seed, "size": size}}
(folder / "results.json").write_text(json.dumps({**results, "figures": figures, "claims": []}));"""
REPORT = "# NBVAL_CHECK_OUTPUT\npaper.report()"


class Checkout:
    """A copy of the code with papers of its own. `python -m shared…` run in it sees its files, not the repository's."""

    def __init__(self, root: Path) -> None:
        self.root, self.figures = root, root / "figures"
        shutil.copytree(ROOT / "shared", root / "shared", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "gallery", root / "gallery", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "papers").mkdir()
        shutil.copy(ROOT / "papers" / "Snakefile", root / "papers")
        shutil.copy(ROOT / "requirements.lock", root)
        (root / "data").symlink_to(ROOT / "data")
        self.env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        for name in ("REPRISE_FIGURES", "REPRISE_RUN", "REPRISE_KEY", "NUMBA_NUM_THREADS"):  # a job sets its own
            self.env.pop(name, None)
        self._started: list[subprocess.Popen] = []

    def add(
        self, slug: str, *cells: str, set_up: str = SET_UP, last: str = REPORT, prose: str = "", **card: Any
    ) -> Path:
        """A paper whose notebook runs `cells` between its set-up and its report; returns its folder."""
        folder = self.root / "papers" / slug
        folder.mkdir()
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {slug}\n\n$a^2 = b$\n\n{prose}")])
        for source in ('scale = "small"\nseed = 0\ndevice = "auto"\nsize = 3', set_up.format(slug=slug), *cells, last):
            notebook.cells.append(nbformat.v4.new_code_cell(source))
        notebook.cells[1].metadata.tags = ["parameters"]
        nbformat.write(notebook, folder / f"{slug}.ipynb")
        (folder / "card.yml").write_text(yaml.safe_dump({**CARD, "slug": slug, **card}, sort_keys=False))
        (folder / "paper.yml").write_text("scale: paper\nsize: 5\n")
        return folder

    def add_bare(self, slug: str, *cells: str) -> Path:
        """A paper whose notebook does without torch."""
        return self.add(slug, *cells, set_up=BARE, last=RESULTS)

    def start(self, *arguments: str, module: str = "shared.compendium.runner") -> subprocess.Popen:
        """Start a module of the checkout; its output can be read from the process."""
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            **{"cwd": self.root, "env": self.env, "text": True},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL},
        )
        self._started.append(process)
        return process

    def python(self, script: str) -> str:
        """What a script prints that sees the checkout's code and papers."""
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=self.root, env=self.env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """End what a failed test left running."""
        for process in self._started:
            process.kill()
            process.wait()
            process.stdout.close()

    def run(self, *arguments: str, module: str = "shared.compendium.runner") -> tuple[int, str]:
        """Run a module of the checkout to its end; returns its exit status and its output."""
        process = self.start(*arguments, module=module)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def results(self, slug: str) -> dict[str, Any]:
        """What the last run of a paper wrote."""
        return json.loads((self.figures / slug / "results.json").read_text(encoding="utf-8"))
