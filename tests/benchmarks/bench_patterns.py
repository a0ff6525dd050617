"""Premise: its cost by rows and vocabulary, beside the authors' program and frequent-itemset mining. CPU seconds.

`python tests/benchmarks/bench_patterns.py` prints the rows; `growth()` gives the curve over rows and vocabulary.
"""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shared.patterns import Premise, TransactionSet, significant_itemsets


def token_table(n_rows: int, n_items: int, tokens: int = 8, seed: int = 0) -> tuple[sp.csr_matrix, np.ndarray]:
    """Rows of about `tokens` tokens with Zipf frequencies, phrases, and 40 conjunctions of which half go with errors.

    The published LXMERT table (25,994 rows, 5,351 tokens, 7.1 tokens a row, 22 % errors) is the model.
    """
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(1, n_items + 1) ** 0.9
    columns = rng.choice(n_items, size=(n_rows, tokens), p=weight / weight.sum())
    y = (rng.random(n_rows) < 0.78).astype(np.int8)
    rows, items = [np.repeat(np.arange(n_rows), tokens)], [columns.ravel()]
    for k in range(40):
        phrase = rng.choice(np.arange(40, min(n_items, 2000)), size=int(rng.integers(2, 5)), replace=False)
        rate = np.where(y == 0, 0.02 if k % 2 else 0.006, 0.006)
        here = np.flatnonzero(rng.random(n_rows) < rate)
        rows.append(np.repeat(here, len(phrase)))
        items.append(np.tile(phrase, len(here)))
    row, item = np.concatenate(rows), np.concatenate(items)
    X = sp.csr_matrix((np.ones(len(row), dtype=np.int8), (row, item)), shape=(n_rows, n_items))
    X.data[:] = 1
    return X, y


def ours(X: sp.csr_matrix, y: np.ndarray) -> tuple[float, Premise]:
    """CPU seconds from matrix to patterns."""
    start = time.process_time()
    model = Premise().fit(X, y)
    return time.process_time() - start, model


def program(X: sp.csr_matrix, y: np.ndarray) -> tuple[float, float]:
    """CPU seconds and final code length of the authors' program, as `pypremise` bundles it; empty rows left out."""
    spec = importlib.util.find_spec("pypremise")
    if spec is None:
        raise ImportError("pypremise")
    binary = Path(spec.origin).with_name("Premise_Linux")
    binary.chmod(0o755)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        kept = np.flatnonzero(np.diff(X.indptr))
        lines = [" ".join(map(str, sorted(X.indices[X.indptr[r] : X.indptr[r + 1]]))) for r in kept]
        (path / "x").write_text("\n".join(lines) + "\n")
        (path / "y").write_text("\n".join(map(str, y[kept])) + "\n")
        (path / "v").write_text("")
        command = [str(binary), "x", "y", "out", "v", "0", "0"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        log = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, float(log.rsplit("Code length: ", 1)[1].split()[0])


def fpgrowth(X: sp.csr_matrix, y: np.ndarray) -> float:
    """CPU seconds of mlxtend's fpgrowth with Fisher's test on what it finds, itemsets of up to three items."""
    import pandas as pd
    from mlxtend.frequent_patterns import fpgrowth as mine

    from shared.patterns import log_fisher

    start = time.process_time()
    table = pd.DataFrame.sparse.from_spmatrix(X.astype(bool), columns=[str(i) for i in range(X.shape[1])])
    found = mine(table, min_support=60 / X.shape[0], max_len=3)
    columns, n = X.astype(bool).tocsc(), (int((y == 0).sum()), int((y == 1).sum()))
    counts = []
    for items in found["itemsets"]:
        held = np.asarray(columns[:, sorted(items)].sum(1)).ravel() == len(items)
        counts.append(((held & (y == 0)).sum(), (held & (y == 1)).sum()))
    log_fisher(*np.array(counts).reshape(-1, 2).T, n)
    return time.process_time() - start


def eclat(X: sp.csr_matrix) -> float:
    """CPU seconds of pyfim's eclat alone, the same itemsets, without a test."""
    import fim

    start = time.process_time()
    rows = [X.indices[X.indptr[r] : X.indptr[r + 1]].tolist() for r in range(X.shape[0])]
    fim.eclat(rows, supp=-60, zmax=3)
    return time.process_time() - start


def growth(rows: tuple[int, ...] = (6500, 13000, 26000, 52000, 100_000), items: int = 5300) -> list[dict[str, Any]]:
    """CPU seconds over rows (at `items` tokens) and over the vocabulary (at 26,000 rows)."""
    points = [(n, items) for n in rows] + [(26_000, m) for m in (1300, 2600, 10_600, 21_200)]
    out = []
    for n, m in points:
        seconds, model = ours(*token_table(n, m))
        out.append({"rows": n, "items": m, "cpu_s": round(seconds, 3), "patterns": len(model.patterns_)})
    return out


def _row(
    name: str, seconds: float, reference: str, aim: str | float, peer: Any = None, note: str = ""
) -> dict[str, Any]:
    row = {"benchmark": name, "ours_s": round(seconds, 3), "reference": reference, "reference_s": None, "ratio": None}
    row["aim"] = aim
    try:
        spent = peer() if peer else None
    except ImportError:
        return {**row, "note": "peer not installed"}
    if spent is not None:
        row |= {"reference_s": round(spent, 3), "ratio": round(seconds / spent, 3)}
    return {**row, "note": note} if note else row


def dense_tables() -> list[tuple[str, sp.csr_matrix, np.ndarray]]:
    """Real tables of many items a row: tumours cut into sixths (569 x 180), genes expressed in cells (700 x 736)."""
    from sklearn.datasets import load_breast_cancer

    from shared.zoo import load_data

    tumours = load_breast_cancer()
    cuts = np.quantile(tumours.data, np.arange(1, 6) / 6, axis=0)  # (5, 30)
    sixth = (tumours.data[None] > cuts[:, None]).sum(0)
    X = (sixth[:, :, None] == np.arange(6)).reshape(len(sixth), -1)
    cells = load_data("pbmc68k_genes")
    genes = cells.x.numpy() > 0
    common = np.argsort(-(genes.sum(0) * (len(genes) - genes.sum(0))), kind="stable")[:736]
    lymphoid = np.array(["CD4" in name or "CD8" in name for name in cells.classes])[cells.y.numpy()]
    tables = [("tumours", X, tumours.target), ("cells", genes[:, np.sort(common)], lymphoid)]
    return [(name, sp.csr_matrix(table.astype(np.int8)), y.astype(np.int8)) for name, table, y in tables]


def dense_row(name: str, X: sp.csr_matrix, y: np.ndarray) -> dict[str, Any]:
    """One dense table beside the authors' program."""
    seconds, model = ours(X, y)
    note = ""

    def original() -> float:
        nonlocal note
        cpu, length = program(X, y)
        note = f"{len(model.patterns_)} patterns; code lengths differ by {abs(model.code_length_ / length - 1):.0e}"
        return cpu

    row = _row(f"Premise, {name} {X.shape[0]} x {X.shape[1]}, dense", seconds, "authors' program (C++)", 1, original)
    return {**row, "note": note or row.get("note", "")}


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the benchmark table; ratio = ours / reference (below 1: we are faster)."""
    X, y = token_table(5000, 1000) if quick else token_table(26_000, 5300)
    size = f"{X.shape[0]:,} x {X.shape[1]:,}"
    seconds, model = ours(X, y)
    rows = []

    def authors() -> float:
        spent, length = program(X, y)
        kept = np.flatnonzero(np.diff(X.indptr))
        same = Premise().fit(X[kept], y[kept]).code_length_
        authors.note = f"{len(model.patterns_)} patterns; code lengths differ by {abs(same - length) / length:.0e}"
        return spent

    authors.note = ""
    row = _row(f"Premise, {size} tokens", seconds, "authors' program (C++)", "< 15 s", authors)
    rows.append({**row, "note": authors.note or row.get("note", "")})
    rows += [dense_row(*table) for table in dense_tables()[: 1 if quick else 2]]
    start = time.process_time()
    found = significant_itemsets(TransactionSet.from_csr(X, y), min_support=60)
    itemsets = time.process_time() - start
    note = f"{len(found)} significant itemsets against {len(model.patterns_)} patterns"
    rows.append(
        _row(f"itemsets + Fisher, {size}", itemsets, "mlxtend fpgrowth + Fisher", 1, lambda: fpgrowth(X, y), note)
    )
    rows.append(_row(f"itemsets + Fisher, {size}", itemsets, "pyfim eclat (C), no test", "report", lambda: eclat(X)))
    X, y = token_table(20_000, 2000, 20) if quick else token_table(100_000, 10_000, 20)
    seconds, model = ours(X, y)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    note = f"{len(model.patterns_)} patterns, peak memory of the process {peak:.1f} GB"
    rows.append(_row(f"Premise, {X.shape[0]:,} x {X.shape[1]:,} tokens", seconds, "none", "< 300 s, < 4 GB", note=note))
    return rows


if __name__ == "__main__":
    for line in run(quick="--quick" in sys.argv):
        print(line)
    if "--growth" in sys.argv:
        for line in growth():
            print(line)
