"""`make bench`: every `bench_*.py` beside this file, as ratios to its references; build/bench.json keeps the numbers.

`python tests/benchmarks/run.py [--quick] [--repeats 3] [ROOM …]`. One torch thread; each number is the median over
repeats of a bench's own measurement, with ours and the reference timed in the same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything loads a BLAS

import torch

from shared.compendium.paths import ROOT, atomic_path
from shared.compendium.runinfo import git_state, versions

HERE = Path(__file__).parent
COLUMNS = ("benchmark", "ours", "reference", "", "ratio", "aim", "note")


def measure(path: Path, quick: bool, repeats: int) -> list[dict[str, Any]]:
    """Rows of one bench, medians over the repeats; a bench that fails gives one row that says so."""
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        rounds = [module.run(quick=quick) for _ in range(repeats)]
    except Exception as error:
        traceback.print_exc()
        return [{"benchmark": path.stem, "note": f"failed: {type(error).__name__}: {error}"}]
    return [median(rows) for rows in zip(*rounds, strict=True)]


def median(rows: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """One row whose times are medians and whose ratio is the median of the ratios."""
    merged = dict(rows[0])
    for key in ("ours_s", "reference_s", "ratio"):
        values = [row[key] for row in rows if row.get(key) is not None]
        merged[key] = statistics.median(values) if values else None
    return merged


def table(rows: list[dict[str, Any]]) -> str:
    """Aligned text; the ratio is ours / reference, so below 1 is faster."""
    cells = [COLUMNS]
    for row in rows:
        seconds = [f"{row[key]:.3g} s" if row.get(key) is not None else "–" for key in ("ours_s", "reference_s")]
        ratio = f"{row['ratio']:.2f}" if row.get("ratio") is not None else "–"
        aim = f"≤ {row['aim']:g}" if isinstance(row.get("aim"), int | float) else str(row.get("aim") or "")
        reference = str(row.get("reference", ""))
        cells.append((row["benchmark"], seconds[0], reference, seconds[1], ratio, aim, str(row.get("note") or "")))
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells)


def main() -> int:
    benches = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rooms", nargs="*", metavar="ROOM")
    parser.add_argument("--quick", action="store_true", help="smaller inputs, one repeat")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if unknown := [room for room in given.rooms if room not in benches]:
        parser.exit(2, f"no benchmark {', '.join(unknown)}; known: {', '.join(benches) or 'none'}\n")
    torch.set_num_threads(1)
    rows = []
    for room in given.rooms or benches:
        print(f"{room} ...", file=sys.stderr, flush=True)
        found = measure(benches[room], given.quick, 1 if given.quick else given.repeats)
        rows += [{"room": room, **row} for row in found]
    print(table(rows))
    print(f"ratio: ours / reference; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    run = {"quick": given.quick, "machine": platform.machine(), "load": os.getloadavg()[0], "threads": 1}
    content = {**run, "versions": versions(), "git": git_state(), "rows": rows}
    with atomic_path(ROOT / "build" / "bench.json") as path:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return any(str(row.get("note", "")).startswith("failed") for row in rows)


if __name__ == "__main__":
    sys.exit(main())
