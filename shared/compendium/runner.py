"""`make figures` and `make paper`: hand the papers to Snakemake, one call at a time.

`python -m shared.compendium.runner --all | SLUG … [--scale small|paper] [--cores N] [--limit CPU_S] [--profile DIR]`
`python -m shared.compendium.runner NOTEBOOK -p NAME VALUE …` runs one with other parameters, beside official results.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from shared._checks import check_choice
from shared.compendium.card import load_card
from shared.compendium.machine import accelerators, lock, usable_cores, usable_memory_mb
from shared.compendium.paths import PAPERS, SCALES, figures_dir, known_notebooks, known_papers, run_dir
from shared.compendium.results import read_results


def command(notebooks: list[str], scale: str, cores: int, limit: int | None, profile: str | None) -> list[str]:
    """The Snakemake call. A job left incomplete by a kill is run again; our own lock replaces Snakemake's, which
    outlives a killed process."""
    figures = figures_dir().absolute()
    targets = [str(run_dir(name, scale).absolute().relative_to(figures) / "results.json") for name in notebooks]
    config = [f"scale={scale}", f"notebooks={','.join(notebooks)}"] + ([f"limit={limit}"] if limit else [])
    if profile:
        where = ["--workflow-profile", str(Path(profile).absolute())]
    else:
        devices = accelerators() if scale == "paper" else 0
        config.append(f"devices={devices}")
        where = ["--cores", str(cores), "--resources", f"gpu={max(devices, 1)}", f"mem_mb={usable_memory_mb()}"]
    return [
        *(sys.executable, "-m", "snakemake", *targets, "--snakefile", str(PAPERS / "Snakefile"), *where),
        *("--keep-going", "--rerun-incomplete", "--rerun-triggers", "mtime", "--nolock", "--quiet", "host", "reason"),
        *("--config", *config),
    ]


def hold_lock() -> None:
    """Wait until no other run writes to figures/, and keep others out until this process ends, however it ends."""
    if not lock(figures_dir() / ".lock", wait=False):
        print(f"another run writes to {figures_dir()}; waiting until it ends ...", flush=True)
        lock(figures_dir() / ".lock", wait=True)


def summary(scale: str = "small") -> str:
    """On all papers: how many have results, the verdicts of the papers' claims and of our own, and what has none."""
    results = {name: read_results(run_dir(name, scale)) for name in known_notebooks()}
    missing = [name for name, found in results.items() if found is None]
    verdicts: dict[str, Counter[str]] = {"paper": Counter(), "own": Counter()}
    for claim in (claim for found in results.values() if found for claim in found["claims"]):
        verdicts[claim.get("kind", "paper")][claim["verdict"]] += 1
    papers = known_papers()
    done = len(papers) - len(set(missing) & set(papers))
    line = f"{done} of {len(papers)} papers have results in {figures_dir()}; claims: {_counts(verdicts['paper'])}"
    line += f"; our own questions: {_counts(verdicts['own'])}" if verdicts["own"] else ""
    return line + (f"\nwithout results: {', '.join(missing)}" if missing else "")


def _counts(verdicts: Counter[str]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "none"


def _notebooks(names: list[str]) -> list[str]:
    """The notebooks meant: a slug stands for all of its paper's."""
    found: list[str] = []
    for name in names:
        check_choice("P", name, known_notebooks() if "/" in name else known_papers())
        found += [name] if "/" in name else known_notebooks(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="make paper P=SLUG", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    parser.add_argument("--all", action="store_true", help="every paper")
    parser.add_argument("--scale", default="small", help="small or paper")
    parser.add_argument("--cores", type=int, default=usable_cores(), help="notebooks at once")
    parser.add_argument("--limit", type=int, help="CPU seconds a notebook may take")
    parser.add_argument("--fetch", action="store_true", help="first fetch the zoo's models, unless they are there")
    parser.add_argument("--profile", help="a Snakemake profile such as papers/profiles/slurm")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    given = parser.parse_args()
    slugs = known_papers() if given.all else given.slugs
    try:
        check_choice("scale", given.scale, SCALES)
        notebooks = _notebooks(slugs)
        for slug in given.slugs:  # with --all a broken card is told by its own run, and the others go on
            load_card(slug.partition("/")[0])
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    if not slugs:
        parser.exit(2, f"which paper? P=SLUG; known: {', '.join(known_papers()) or 'none'}\n")
    if given.fetch and subprocess.run([sys.executable, "-m", "shared.zoo", "fetch"]).returncode:
        parser.exit(1)
    if given.p:
        if len(slugs) != 1:
            parser.exit(2, "-p goes with one notebook\n")
        pairs = [part for pair in given.p for part in ("-p", *pair)]
        call = [sys.executable, "-m", "shared.compendium.execute", slugs[0], "--scale", given.scale, *pairs]
        os.execv(call[0], call)
    try:
        hold_lock()
    except OSError as error:
        parser.exit(1, f"can't write to {figures_dir()} ({error.strerror}); REPRISE_FIGURES can name another folder\n")
    call = command(notebooks, given.scale, given.cores, given.limit, given.profile)
    os.chdir(figures_dir())  # Snakemake keeps its records where it starts
    os.execv(call[0], call)  # one process: the lock is held by whoever runs


if __name__ == "__main__":
    main()
