"""`make check P=SLUG`: everything a program can say of one paper before it lands."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import nbformat
from nbclient.exceptions import CellExecutionError

from shared._checks import UnknownNameError, check_choice
from shared.compendium import notebook
from shared.compendium.card import CardError, read_yaml
from shared.compendium.contract import problems
from shared.compendium.exercises import exercise, passed, solved, stub_problems
from shared.compendium.ledger import generated
from shared.compendium.parameters import notebook_path
from shared.compendium.paths import PAPERS, ROOT, known_papers
from shared.compendium.report import same_table

DRY_RUN = "tests/papers/test_dry_run.py"


def contract(slug: str) -> Iterator[str]:
    """The contract of papers/README.md, and whether lessons and README's tables know the paper."""
    yield from problems(slug)
    lessons = PAPERS / "lessons.yml"
    if lessons.is_file() and slug not in read_yaml(lessons, "papers/lessons.yml")["notebooks"]:
        yield "papers/lessons.yml: no line for it: difficulty, minutes, a hint"
    readme = ROOT / "README.md"
    if readme.is_file() and generated(text := readme.read_text(encoding="utf-8")) != text:
        yield "README.md: its tables differ from the cards and stored runs; `make readme`"


def run(slug: str) -> Iterator[str]:
    """The notebook in a fresh kernel: its report against the stored one, its cost, its exercise with the solution."""
    path = notebook_path(slug)
    stored = nbformat.read(path, as_version=4)
    yield from (f"{path.name}: {problem}" for problem in stub_problems(stored))
    has_solution = bool(exercise(stored)[1])
    if has_solution:
        stored.cells.append(nbformat.v4.new_code_cell(solved(stored)))
    before = notebook._children_cpu()
    try:
        with tempfile.TemporaryDirectory(prefix="reprise-check-") as figures:
            done = notebook._execute(path, {"REPRISE_FIGURES": figures}, given=stored)
    except CellExecutionError as error:
        yield f"{path.name}: {str(error).splitlines()[-1]}"
        return
    try:
        notebook._check_budget(slug, notebook._children_cpu() - before)
    except notebook.BudgetError as error:
        yield str(error)
    if has_solution and not passed(done.cells[-1]):
        yield f"{path.name}: the stored solution doesn't pass the exercise's check"
    told = notebook._report(nbformat.read(path, as_version=4))
    if not told or not same_table(notebook._report(done), told):
        yield f"{path.name}: its report isn't the one it is stored with; `make store P={slug}`"


def dry_run(slug: str) -> Iterator[str]:
    """The paper's own scale on tiny stand-ins."""
    wanted = f"{DRY_RUN}::test_runs_at_paper_scale[{slug}]"
    options = ["-q", "-p", "no:cacheprovider", "--tb=short"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, wanted], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        yield done.stdout + done.stderr


def preflight(slug: str) -> Iterator[str]:
    """What the paper's own scale would fetch and need, printed."""
    from shared.compendium.preflight import preflight as said

    print(said(slug))
    yield from ()


STEPS: dict[str, Callable[[str], Iterator[str]]] = {
    "contract": contract,
    "run": run,
    "dry-run": dry_run,
    "preflight": preflight,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make check P=SLUG", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("slug", nargs="?", default="", help="the paper")
    parser.add_argument("--only", action="append", choices=STEPS, help="one step; may be given again")
    given = parser.parse_args()
    failed = 0
    try:
        check_choice("P", given.slug, known_papers())
        for name in given.only or STEPS:
            found = list(STEPS[name](given.slug))
            failed += len(found)
            print(f"{name}: {'fine' if not found else f'{len(found)} to mend'}", *found, sep="\n  ", flush=True)
    except (UnknownNameError, CardError) as error:
        sys.exit(str(error))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
