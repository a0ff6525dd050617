"""`make figures` and `make paper`: hand the papers to Snakemake, one call at a time.

`python -m shared.compendium.runner --all | SLUG … [--scale small|paper] [--cores N] [--limit S] [--profile DIR]`
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from shared._checks import check_choice
from shared.compendium.paths import PAPERS, SCALES, figures_dir, known_papers, run_dir


def command(slugs: list[str], scale: str, cores: int, limit: int | None, profile: str | None) -> list[str]:
    """The Snakemake call. A job left incomplete by a kill is run again; our own lock replaces Snakemake's, which
    outlives a killed process."""
    figures = figures_dir().absolute()
    targets = [str(run_dir(slug, scale).absolute().relative_to(figures) / "results.json") for slug in slugs]
    where = (
        ["--workflow-profile", str(Path(profile).absolute())]
        if profile
        else ["--cores", str(cores), "--resources", "gpu=1"]
    )
    config = [f"scale={scale}"] + ([f"limit={limit}"] if limit else [])
    return [
        *(sys.executable, "-m", "snakemake", *targets, "--snakefile", str(PAPERS / "Snakefile"), *where),
        *("--keep-going", "--rerun-incomplete", "--nolock", "--quiet", "host", "reason", "--config", *config),
    ]


def hold_lock() -> None:
    """Wait until no other run writes to figures/, and keep others out until this process ends, however it ends."""
    figures_dir().mkdir(parents=True, exist_ok=True)
    lock = os.open(figures_dir() / ".lock", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(lock, True)  # survives exec
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another run writes to {figures_dir()}; waiting until it ends ...", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def summary(scale: str = "small") -> str:
    """On all papers: how many have results, the verdicts of their claims, and which have none."""
    results = {slug: run_dir(slug, scale) / "results.json" for slug in known_papers()}
    missing = [slug for slug, path in results.items() if not path.is_file()]
    verdicts: Counter[str] = Counter()
    for slug in results.keys() - missing:
        verdicts.update(claim["verdict"] for claim in json.loads(results[slug].read_text(encoding="utf-8"))["claims"])
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "none"
    line = f"{len(results) - len(missing)} of {len(results)} papers have results in {figures_dir()}; claims: {counts}"
    return line + (f"\nwithout results: {', '.join(missing)}" if missing else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make paper P=SLUG", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    parser.add_argument("--all", action="store_true", help="every paper")
    parser.add_argument("--scale", default="small", help="small or paper")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="notebooks at once")
    parser.add_argument("--limit", type=int, help="seconds a notebook may take")
    parser.add_argument("--fetch", action="store_true", help="first fetch the zoo's models, unless they are there")
    parser.add_argument("--profile", help="a Snakemake profile such as papers/profiles/slurm")
    given = parser.parse_args()
    slugs = known_papers() if given.all else given.slugs
    try:
        check_choice("scale", given.scale, SCALES)
        for slug in slugs:
            check_choice("P", slug, known_papers())
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    if not slugs:
        parser.exit(2, f"which paper? P=SLUG; known: {', '.join(known_papers()) or 'none'}\n")
    if given.fetch and subprocess.run([sys.executable, "-m", "shared.zoo", "fetch"]).returncode:
        parser.exit(1)
    try:
        hold_lock()
    except OSError as error:
        parser.exit(1, f"can't write to {figures_dir()} ({error.strerror}); REPRISE_FIGURES can name another folder\n")
    call = command(slugs, given.scale, given.cores, given.limit, given.profile)
    os.chdir(figures_dir())  # Snakemake keeps its records where it starts
    os.execv(call[0], call)  # one process: the lock is held by whoever runs


if __name__ == "__main__":
    main()
