"""DiffNaps: a training step up to 100,000 features, and a whole run beside Premise and FP-growth. CPU seconds.

`python tests/benchmarks/bench_diffnaps.py` prints the rows; `recovery()` trains at 100,000 features (tens of minutes).
A step's reference is the arithmetic it can't do without: five matrix products and one uniform number per weight.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shared.patterns import (
    DiffNaps,
    DiffNapsNet,
    diffnaps_gradients,
    premise_patterns,
    soft_f1_by_class,
)
from shared.worlds import plant_class_patterns

Row = dict[str, Any]
SECONDS, BYTES = 60, 4_000_000_000  # what FP-growth gets


def run(quick: bool = False) -> list[Row]:
    """All rows; `quick` stops at 10,000 features and trains a smaller run."""
    return [*step_rows(quick), *gpu_rows(), *run_rows(quick)]


def step(d: int, h: int, batch: int, device: str = "cpu") -> tuple[Callable[[], None], Callable[[], None]]:
    """One training step on random rows with 3 % ones, and the arithmetic alone."""
    torch.manual_seed(0)
    net = DiffNapsNet(d, h, 2).to(device)
    x = (torch.rand(batch, d, device=device) < 0.03).float()
    y = torch.randint(0, 2, (batch,), device=device)
    optimizers = net.optimizers(0.01)
    noise = torch.Generator(device).manual_seed(0)
    z, weight = torch.rand(batch, h, device=device), torch.rand(h, d, device=device)

    def ours() -> None:
        diffnaps_gradients(net, x, y, net.sample(generator=noise), density=0.03)
        for optimizer in optimizers:
            optimizer.step()
        net.clamp_()

    def bare() -> None:
        torch.rand(h, d, device=device, generator=noise)
        _ = x @ weight.T, z @ weight, x @ weight.T, z.T @ x, z.T @ x

    return ours, bare


def seconds(job: Callable[[], None], rounds: int, device: str = "cpu") -> float:
    """Median of one call's CPU time (on other devices, wall time), after two to warm up."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    times = []
    for _ in range(rounds + 2):
        start = clock()
        job()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return float(np.median(times[2:]))


def row(benchmark: str, ours: float, reference: str, theirs: float | None, aim: float | None, note: str = "") -> Row:
    ratio = None if theirs is None else ours / theirs
    values = (benchmark, ours, reference, theirs, ratio, aim, note)
    return dict(zip(("benchmark", "ours_s", "reference", "reference_s", "ratio", "aim", "note"), values))


def step_rows(quick: bool) -> list[Row]:
    rows, per_item = [], {}
    for d in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
        ours, bare = step(d, 250, 128)
        rounds = 30 if d < 50_000 else 5
        mine, least = seconds(ours, rounds), seconds(bare, rounds)
        per_item[d] = mine / d
        rows.append(row(f"DiffNaps step, {d:,} features, 250 neurons", mine, "its arithmetic alone", least, 2.5))
    low, high = list(per_item)[-2:]
    name = f"DiffNaps step, {high:,} features"
    rows.append(row(name, per_item[high] * high, f"{high // low} × {low:,} features", per_item[low] * high, 1.5))
    return rows


def gpu_rows() -> list[Row]:
    name = "DiffNaps step, 100,000 features, 4,000 neurons, GPU"
    if not torch.cuda.is_available():
        return [{"benchmark": name, "note": "no GPU here"}]
    ours, bare = step(100_000, 4_000, 128, "cuda")
    return [row(name, seconds(ours, 20, "cuda"), "its arithmetic alone", seconds(bare, 20, "cuda"), 2.5)]


def planted(d: int) -> tuple[np.ndarray, np.ndarray, dict]:
    return plant_class_patterns(
        d, rows_per_class=1000, patterns_per_class=10, background=20, generator=np.random.default_rng(0)
    )


def run_rows(quick: bool) -> list[Row]:
    d, steps = (1000, 300) if quick else (2000, 2800)
    X, y, truth = planted(d)
    per_epoch = -(-1800 // 32)
    options = dict(epochs=-(-steps // per_epoch), batch_size=32, milestones=(2000 / per_epoch, 2500 / per_epoch))
    start = time.process_time()
    model = DiffNaps(n_hidden=300, **options, weight_decay=2.0, random_state=0).fit(X, y)
    mine = time.process_time() - start
    start = time.process_time()
    mined = premise_patterns(X, y)
    theirs = time.process_time() - start
    scores = [soft_f1_by_class(p, truth).f1 for p in (model.patterns_, mined)]
    note = f"soft F1 {scores[0]:.2f} and {scores[1]:.2f}; {model.n_steps_} steps"
    rows = [row(f"DiffNaps run, {d:,} features, 2,000 rows", mine, "Premise", theirs, None, note)]
    taken, note = fp_growth(X[y == 1])
    rows.append(
        row(f"DiffNaps run, {d:,} features, 2,000 rows", mine, "mlxtend fpgrowth, one class", taken, None, note)
    )
    return rows


def fp_growth(X: np.ndarray) -> tuple[float | None, str]:
    """CPU seconds of all sets in at least 5 % of the rows, in a process with limits on time and memory."""
    if importlib.util.find_spec("mlxtend") is None:
        return None, "peer not installed"
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_fp_growth, args=(X, send))
    process.start()
    send.close()
    try:
        used, count = receive.recv()
        note = f"{count:,} sets"
    except EOFError:
        used, note = None, f"stopped: over {SECONDS} s or {BYTES / 1e9:g} GB"
    process.join()
    return used, note


def _fp_growth(X: np.ndarray, send: Any) -> None:
    import pandas as pd
    from mlxtend.frequent_patterns import fpgrowth

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 10, SECONDS + 10))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    start = time.process_time()
    count = len(fpgrowth(pd.DataFrame(X.astype(bool)), min_support=0.05))
    send.send((time.process_time() - start, count))


def recovery(d: int = 100_000, h: int = 250, steps: int = 1500) -> Row:
    """Train at `d` features on fewer neurons than published, and score what comes back."""
    X, y, truth = planted(d)
    per_epoch = -(-1800 // 128)
    options = dict(epochs=-(-steps // per_epoch), batch_size=128, milestones=(0.7 * steps / per_epoch,))
    start = time.process_time()
    model = DiffNaps(n_hidden=h, **options, weight_decay=8.0, lambda_c=30.0, random_state=0, progress=True).fit(X, y)
    note = f"soft F1 {soft_f1_by_class(model.patterns_, truth).f1:.2f}; {model.n_steps_} steps"
    return row(f"DiffNaps run, {d:,} features, {h} neurons", time.process_time() - start, "", None, None, note)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in run(quick="--quick" in sys.argv):
        print(line)
    if "--recovery" in sys.argv:
        print(recovery())
