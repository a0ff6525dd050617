"""dtSNE beside openTSNE, UMAP and densMAP as n grows, in CPU seconds and memory; Mercat's growth with n.

Data: ten Gaussians of ten spreads in 50 dimensions; the packages' defaults, 750 steps of both t-SNE kinds. Each fit is
made in a process of its own on one thread, after a small fit that compiles what must be compiled. CPU seconds are
compared because the machine may be shared; the notes give peak memory. `run(quick=False)` also draws
`figures/benchmarks/embeddings.png`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

SIZES = (1_000, 3_000, 10_000, 30_000, 70_000)
MERCAT_SIZES = (1_000, 2_000, 4_000, 8_000)
PEERS = {"openTSNE": "openTSNE", "UMAP": "umap", "densMAP": "umap"}
AIMS = {"openTSNE": 2.0}


def _fit(method: str, n: int) -> None:
    """One fit of n points."""
    from shared.embeddings import DTSNE, Mercat
    from shared.worlds import gaussian_clusters

    X, _ = gaussian_clusters([n // 10] * 10, list(range(1, 11)), 50, generator=np.random.default_rng(0))
    if method in ("dtSNE", "t-SNE"):
        DTSNE(density=method == "dtSNE", method="approximate", random_state=0).fit(X)
    elif method == "Mercat":
        Mercat(rank=10, random_state=0).fit(X)
    elif method == "openTSNE":
        import openTSNE

        openTSNE.TSNE(n_jobs=1, random_state=0).fit(X)
    else:
        from umap import UMAP

        UMAP(densmap=method == "densMAP", n_jobs=1, random_state=0).fit_transform(X)


@functools.cache
def _measure(method: str, n: int, repeat: int) -> tuple[float, float]:
    """CPU seconds and peak memory in MB of one fit, in a fresh process."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "NUMBA", "MKL", "OPENBLAS")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, method, str(n)],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{method} at n={n}: {done.stderr.strip().splitlines()[-1]}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


_calls = 0


def run(quick: bool = False) -> list[dict]:
    """dtSNE against each peer at each size, and Mercat's seconds per point against those at the smallest size."""
    global _calls
    _calls += 1
    sizes, rows = SIZES[:2] if quick else SIZES, []
    seconds: dict[str, dict[int, float]] = {}
    memory: dict[str, dict[int, float]] = {}

    def measure(method: str, n: int) -> float:
        found = _measure(method, n, 0 if n > 3_000 else _calls)  # large sizes once, whatever the repeats
        seconds.setdefault(method, {})[n], memory.setdefault(method, {})[n] = found
        return found[0]

    for n in sizes:
        ours = measure("dtSNE", n)
        for peer, module in PEERS.items():
            if importlib.util.find_spec(module) is None:
                rows.append(_row(f"dtSNE, n={n}", ours, peer, None, None, "peer not installed"))
                continue
            theirs = measure(peer, n)
            note = f"CPU seconds; {memory['dtSNE'][n]:.0f} and {memory[peer][n]:.0f} MB"
            rows.append(_row(f"dtSNE, n={n}", ours, peer, theirs, AIMS.get(peer) if n >= 10_000 else None, note))
    first = MERCAT_SIZES[0]
    for n in MERCAT_SIZES[:2] if quick else MERCAT_SIZES:
        took = measure("Mercat", n)
        if n > first:
            linear = seconds["Mercat"][first] * n / first
            rows.append(_row(f"Mercat, n={n}", took, f"linear growth from {first}", linear, 1.2, "CPU seconds"))
    if not quick:
        _plot(seconds, memory)
    return rows


def _row(name: str, ours: float, reference: str, seconds: float | None, aim: float | None, note: str) -> dict:
    return {
        "benchmark": name,
        "ours_s": ours,
        "reference": reference,
        "reference_s": seconds,
        "ratio": None if seconds is None else ours / seconds,
        "aim": aim,
        "note": note,
    }


def _plot(seconds: dict[str, dict[int, float]], memory: dict[str, dict[int, float]]) -> None:
    from shared.compendium.paths import atomic_path, figures_dir
    from shared.plots import color, figure

    fig, axes = figure(1, 2, height=3.0)
    for ax, values, text in ((axes[0], seconds, "CPU seconds"), (axes[1], memory, "peak memory (MB)")):
        for index, (method, points) in enumerate(values.items()):
            ax.plot(list(points), list(points.values()), marker="o", markersize=4, color=color(index), label=method)
        ax.set(xscale="log", yscale="log", xlabel="points", ylabel=text)
    axes[0].legend()
    with atomic_path(figures_dir() / "benchmarks" / "embeddings.png") as path:
        fig.savefig(path, dpi=200)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    name, count = sys.argv[1], int(sys.argv[2])
    if name == "Mercat":
        _fit(name, 50)
    else:
        _fit(name, 500)
        if count > 4096:  # UMAP and the neighbour search take other routes beyond; compile them too
            _fit(name, 6_000)
    began = time.process_time()
    _fit(name, count)
    spent = time.process_time() - began
    print(json.dumps([spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
