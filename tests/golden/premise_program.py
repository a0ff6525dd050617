"""Golden results of the authors' Premise program (bundled in `pypremise`), and the script that made them.

    python tests/golden/premise_program.py <path of the program>

`pip install pypremise` in a throw-away environment brings the program (`pypremise/Premise_Linux`). It runs on small
data made here; premise_program.npz keeps the data,
premise_program.json what it found: clauses, supports, direction, p, gain, origin, and the total code length.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def drawn(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def cases() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None, int]]:
    """Per case: dense X, labels, item vectors or None, number of neighbours."""
    from shared.worlds import plant_clauses, plant_conjunctions

    made = {}
    for seed, (share, noise) in enumerate([(0.5, 0.0), (0.2, 0.1), (0.05, 0.1)]):
        p = plant_conjunctions(generator=drawn(seed), n_rows=1000, n_items=100, minority=share, noise=noise)
        made[f"planted_{seed}"] = (p.X.toarray(), p.y, None, 0)
    for seed in range(6):  # dense data with dependent columns: extensions, merges and replacements happen
        rng = drawn(100 + seed)
        y = (rng.random(400) < 0.4).astype(int)
        factors = rng.random((400, 6)) < 0.15 + 0.25 * (rng.random(6) < 0.5) * y[:, None]
        loads = rng.random((6, 24)) < 0.35
        X = ((factors.astype(int) @ loads) > 0) & (rng.random((400, 24)) < 0.85) | (rng.random((400, 24)) < 0.04)
        X[~X.any(1), 0] = True  # the program can't read empty rows
        made[f"dense_{seed}"] = (X, y, None, 0)
    for seed in range(3):
        p = plant_clauses(generator=drawn(seed), n_rows=1500, n_items=200, background=0.008, n_patterns=6)
        made[f"clauses_{seed}"] = (p.X.toarray(), p.y, p.vectors, 4)
    for seed in range(3):
        p = plant_clauses(generator=drawn(10 + seed), n_rows=800, n_items=60, background=0.02, n_patterns=4)
        made[f"crowded_{seed}"] = (p.X.toarray(), p.y, np.round(p.vectors, 6), 2)
    return made


def run_program(program: str, X: np.ndarray, y: np.ndarray, vectors: np.ndarray | None, k: int) -> dict:
    """What the program finds. The last column must not be empty: the program counts columns by the largest item."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "x").write_text("\n".join(" ".join(map(str, np.flatnonzero(r))) for r in X) + "\n")
        (path / "y").write_text("\n".join(map(str, y.tolist())) + "\n")
        lines = [] if vectors is None else [" ".join(repr(float(v)) for v in row) for row in vectors]
        (path / "v").write_text("\n".join(lines) + ("\n" if lines else ""))
        width = 0 if vectors is None else vectors.shape[1]
        command = [program, path / "x", path / "y", path / "out", path / "v", str(width), str(k)]
        log = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True, cwd=folder).stdout
        patterns = []
        for line in (path / "out").read_text().splitlines():
            text, counts, direction, p, gain, origin = line.split(";")
            clauses = [sorted(map(int, c.split("-or-"))) for c in text.split(" and ")]
            support = list(map(int, counts.split(":")))
            patterns.append([sorted(clauses), support, int(direction), float(p), float(gain), origin])
    lengths = [float(v) for v in re.findall(r"Code length: (\S+)", log)]
    return {"patterns": patterns, "code_length": lengths[-1] if lengths else None}


def main() -> None:
    arrays, results = {}, {}
    for name, (X, y, vectors, k) in cases().items():
        used = np.flatnonzero(X.any(0))
        X, vectors = X[X.any(1)][:, used], None if vectors is None else vectors[used]
        y = y[cases()[name][0].any(1)]
        arrays[f"{name}/x"] = np.packbits(X, axis=1)
        arrays[f"{name}/y"] = y.astype(np.int8)
        if vectors is not None:
            arrays[f"{name}/v"] = vectors = vectors.astype(np.float32)
        results[name] = {"items": X.shape[1], "neighbours": k, **run_program(sys.argv[1], X, y, vectors, k)}
        print(name, X.shape, len(results[name]["patterns"]), results[name]["code_length"])
    np.savez_compressed(HERE / "premise_program.npz", **arrays)
    (HERE / "premise_program.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))
    main()
