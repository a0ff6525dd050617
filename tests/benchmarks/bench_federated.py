"""Rounds of the batched simulation beside a loop over clients and Flower's simulation engine, and how they grow.

Each client has 16 digits and takes two SGD steps in an MLP 64-64-10 per round; all clients take part. Seconds are per
round, start-up left out. Memory and bytes are in the notes. `run(quick=False)` also draws
`figures/benchmarks/federated.png`.
"""

from __future__ import annotations

import logging
import time

import numpy as np
import torch
from sklearn.datasets import load_digits

from shared.federated import Clients, LocalTraining, Strategy, payload_bytes, simulate, state_of
from shared.nets import build_net

LOCAL = LocalTraining(lr=0.1, steps=2, batch_size=8)
PER_CLIENT = 16


def _federation(clients: int) -> tuple[torch.nn.Module, Clients]:
    data = load_digits()
    rng = np.random.default_rng(0)
    parts = [rng.choice(len(data.target), PER_CLIENT, replace=False) for _ in range(clients)]
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    return build_net("mlp", (64,), 10, generator=torch.Generator().manual_seed(0), hidden=[64]), Clients(x, y, parts)


def _ours(clients: int, rounds: dict[str, int], repeats: int = 3) -> dict[str, float]:
    """Seconds per round of our executors: smallest of alternating runs of the given numbers of rounds."""
    net, data = _federation(clients)
    best: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for executor, count in rounds.items():
            start = time.perf_counter()
            simulate(net, data, Strategy(), count if repeat else 1, local=LOCAL, executor=executor)
            if repeat:  # the first warms up
                best[executor] = min(best.get(executor, np.inf), (time.perf_counter() - start) / count)
    return best


def _flower(clients: int, rounds: int) -> tuple[float, int]:
    """Seconds per round after the first in Flower's simulation engine, and the bytes of one model as it is sent."""
    from flwr.app import ArrayRecord, Context
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    from shared.federated.flower import FlowerStrategy, client_app

    logging.getLogger("flwr").setLevel(logging.ERROR)
    net, data = _federation(clients)

    def load(context: Context):
        part = torch.tensor(data.parts[context.node_config["partition-id"]])
        return net, data.inputs[part], data.targets[part], LOCAL

    server, found = ServerApp(), {}

    @server.main()
    def main(grid, context):
        stamps = []
        arrays = ArrayRecord(net.state_dict())
        FlowerStrategy(Strategy(), clients=clients).start(
            grid,
            arrays,
            num_rounds=rounds + 1,
            timeout=3600,
            evaluate_fn=lambda rnd, a: stamps.append(time.perf_counter()),
        )
        found["seconds"] = (stamps[-1] - stamps[1]) / rounds
        found["bytes"] = sum(len(array.data) for array in arrays.values())

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server, client_app(load), clients, backend_config=resources)
    return found["seconds"], found["bytes"]


def run(quick: bool = False) -> list[dict]:
    """Rows as the runner of the benchmarks wants them."""
    rows, growth = [], {"batched": {}, "loop": {}, "Flower simulation": {}}
    size = payload_bytes(state_of(build_net("mlp", (64,), 10, hidden=[64])))
    for clients in (10, 100) if quick else (10, 100, 1000):
        found = _ours(clients, {"vmap": 20, "loop": 10} if clients < 1000 else {"vmap": 5, "loop": 2})
        ours, loop = growth["batched"][clients], growth["loop"][clients] = found["vmap"], found["loop"]
        note = f"{2 * clients * size / 1e6:.2f} MB of models per round, both ways"
        rows.append(_row(f"federated round, {clients} clients, against a loop", ours, "loop over clients", loop, note))
        try:
            flower, sent = _flower(clients, 3 if clients < 1000 else 1)
        except ImportError:
            rows.append(
                _row(
                    f"federated round, {clients} clients, against Flower",
                    ours,
                    "Flower simulation",
                    None,
                    "peer not installed",
                )
            )
            continue
        growth["Flower simulation"][clients] = flower
        note = f"Flower sends {sent / size:.3f} times the bytes of a bare model"
        rows.append(
            _row(f"federated round, {clients} clients, against Flower", ours, "Flower simulation", flower, note)
        )
    if not quick:
        _plot(growth)
    return rows


def _row(name: str, ours: float, reference: str, seconds: float | None, note: str) -> dict:
    ratio = None if seconds is None else ours / seconds
    return {
        "benchmark": name,
        "ours_s": ours,
        "reference": reference,
        "reference_s": seconds,
        "ratio": ratio,
        "aim": 0.2,
        "note": note,
    }


def _plot(growth: dict[str, dict[int, float]]) -> None:
    from shared.compendium.paths import atomic_path, figures_dir
    from shared.plots import color, figure

    fig, axes = figure(height=3.2, width=6.5)
    for index, (name, seconds) in enumerate(growth.items()):
        axes[0].plot(list(seconds), list(seconds.values()), marker="o", color=color(index), label=name)
    axes[0].set(xscale="log", yscale="log", xlabel="clients, all take part", ylabel="seconds per round")
    axes[0].legend()
    with atomic_path(figures_dir() / "benchmarks" / "federated.png") as path:
        fig.savefig(path, dpi=200)


if __name__ == "__main__":
    for row in run(quick=True):
        print(row)
