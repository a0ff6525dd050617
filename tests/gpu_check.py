"""`make gpu-check`: what a CUDA device changes, in one run of a few minutes, as one JSON.

Every public function of every room on the device against the processor, by the good calls of tests/bad_input; every
landed notebook at small scale on the device against its stored report; ratios of the LRP, SAE, federated and DiffNaps
cores to plain arithmetic. Without a device the same code runs on the processor, on one notebook, and says so.

    python -m tests.gpu_check [--minutes 8] [--out build/gpu-check.json]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from shared.compendium.ledger import stored_report
from shared.compendium.paths import ROOT, atomic_path, known_papers
from shared.compendium.report import same_table
from shared.compendium.runinfo import git_state, versions
from tests.benchmarks import bench_diffnaps
from tests.test_bad_input import GOOD

CLOSE = {"rtol": 2e-3, "atol": 1e-4}
SHORT = "premise"  # the notebook of the dry run


def moved(value: Any, device: torch.device) -> Any:
    """`value` with every tensor, module and generator in it on the device."""
    if isinstance(value, Tensor | nn.Module):
        return value.to(device)
    if isinstance(value, torch.Generator):
        return torch.Generator(device).manual_seed(value.initial_seed())
    if isinstance(value, Mapping):
        return {key: moved(part, device) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(moved(part, device) for part in value)
    return value


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a result."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from (t for part in value.values() for t in tensors(part))
    elif isinstance(value, list | tuple):
        yield from (t for part in value for t in tensors(part))
    elif hasattr(value, "__dataclass_fields__"):
        yield from (t for name in value.__dataclass_fields__ for t in tensors(getattr(value, name)))


def check_call(key: str, device: torch.device) -> str:
    """`ok`, or how the function on the device differs from the processor."""
    room, name = key.split(".")
    function = getattr(importlib.import_module(f"shared.{room}"), name)
    found = []
    for where in (torch.device("cpu"), device):
        torch.manual_seed(0)  # the networks of the good calls are drawn
        arguments = moved(GOOD[key](), where)
        if not any(isinstance(part, Tensor | nn.Module) for part in arguments.values()):
            return "ok: takes no tensor"
        result = function(**arguments)
        if hasattr(result, "__enter__"):
            with result:
                result = arguments["model"](torch.ones(2, 3, 2, 2, device=where))
        found.append([t.detach().float().cpu() for t in tensors(result) if t.dtype != torch.bool])
        chance = any(isinstance(part, torch.Generator | np.random.Generator) for part in arguments.values())
    plt.close("all")
    if chance:
        return "ok: draws, so only run"
    here, there = found
    same = len(here) == len(there) and all(
        a.shape == b.shape and torch.allclose(a, b, **CLOSE, equal_nan=True) for a, b in zip(here, there)
    )
    return "ok" if same else "differs from the processor"


def check_calls(device: torch.device) -> dict[str, str]:
    """Every good call of every room."""
    found = {}
    for key in GOOD:
        try:
            found[key] = check_call(key, device)
        except Exception as error:
            found[key] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return found


def check_notebook(slug: str, device: torch.device, deadline: float) -> dict[str, Any]:
    """A notebook on the device: does its report say what the stored one says?"""
    left = deadline - time.monotonic()
    if left < 30:
        return {"verdict": "not run: no time left"}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "shared.compendium.execute", slug, "-p", "device", str(device), "--wall"]
        done = subprocess.run(
            [*command, str(int(left))],
            env={**os.environ, "REPRISE_FIGURES": folder, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        seconds = round(time.perf_counter() - start, 1)
        results = next(iter(Path(folder).rglob("results.json")), None)
        if done.returncode or results is None:
            return {"verdict": "failed", "seconds": seconds, "said": (done.stdout + done.stderr)[-600:]}
        content = json.loads(results.read_text(encoding="utf-8"))
    same = same_table(content["report"], stored_report(slug))
    verdict = "as stored" if same else "differs from the stored report"
    return {"verdict": verdict, "seconds": seconds, "cost": content["cost"], "report": content["report"]}


def timed(job: Callable[[], Any], device: torch.device, rounds: int = 5) -> float:
    """Median seconds of a call, after two to warm up."""
    times = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        job()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:]))


def lrp_ratio(device: torch.device, large: bool) -> dict[str, float]:
    """Epsilon-plus on a ResNet against its own forward and backward."""
    import transformers

    from shared.lrp import EpsilonPlus, attribute

    config = (
        transformers.ResNetConfig(num_labels=10)
        if large
        else transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=10)
    )
    net = transformers.ResNetForImageClassification(config).eval().requires_grad_(False).to(device)
    x = torch.randn(16 if large else 2, 3, 224 if large else 64, 224 if large else 64, device=device)

    def plain() -> None:
        inputs = x.clone().requires_grad_()
        net(inputs).logits[:, 0].sum().backward()

    ours = timed(lambda: attribute(net, x, 0, composite=EpsilonPlus()), device)
    return _ratio(ours, timed(plain, device))


def sae_ratio(device: torch.device, large: bool) -> dict[str, float]:
    """One TopK training step against its two matrix products, forward and backward."""
    from shared.sae import SAEConfig, SparseDict, fit

    d_in, d_sae, rows = (768, 24576, 4096) if large else (16, 64, 32)
    sae = SparseDict(SAEConfig("topk", d_in, d_sae, k=min(32, d_sae // 4))).to(device)
    x = torch.randn(rows, d_in, device=device)
    weights = torch.randn(d_in, d_sae, device=device, requires_grad=True)

    def bare() -> None:
        ((x @ weights) @ weights.T).sum().backward()
        weights.grad = None

    steps = 8
    ours = timed(lambda: fit(sae, iter([x] * steps), steps, initialise=False, progress=False), device) / steps
    return _ratio(ours, timed(bare, device))


def federated_ratio(device: torch.device, large: bool) -> dict[str, float]:
    """A round of 100 clients against a loop over the clients."""
    from shared.federated import Clients, FedAvg, LocalTraining, Strategy, simulate

    n_clients, size = (100, 6400) if large else (4, 64)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 64, generator=generator).to(device)
    y = (x[:, 0] > 0).long()
    parts = np.array_split(np.arange(size), n_clients)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)).to(device)
    local = LocalTraining(lr=0.1, steps=2, batch_size=8)

    def run(executor: str) -> float:
        clients = Clients(x, y, parts)
        return timed(
            lambda: simulate(net, clients, Strategy(aggregator=FedAvg()), 1, local=local, executor=executor), device, 3
        )

    return _ratio(run("auto"), run("loop"))


def diffnaps_ratio(device: torch.device, large: bool) -> dict[str, float]:
    """A training step against its matrix products alone."""
    ours, bare = bench_diffnaps.step(*((50_000, 3_500, 128) if large else (200, 20, 8)), device=str(device))
    return _ratio(timed(ours, device), timed(bare, device))


def _ratio(ours: float, reference: float) -> dict[str, float]:
    return {"ours_s": ours, "reference_s": reference, "ratio": ours / reference}


RATIOS = {"lrp": lrp_ratio, "sae": sae_ratio, "federated": federated_ratio, "diffnaps": diffnaps_ratio}


def check_ratios(device: torch.device, large: bool) -> dict[str, Any]:
    """All ratios; one that fails says why."""
    found: dict[str, Any] = {}
    for name, measure in RATIOS.items():
        try:
            found[name] = measure(device, large)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return found


def _counted(what: str, found: Mapping[str, Any], others: list[str]) -> str:
    return f"{what}: {len(found) - len(others)} of {len(found)}; others: {', '.join(others) or 'none'}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make gpu-check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8, help="what the whole run may take")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-check.json")
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    there = torch.cuda.is_available()
    device = torch.device("cuda" if there else "cpu")
    name = torch.cuda.get_device_name() if there else "none: a dry run on the processor"
    print(f"device: {name}", flush=True)
    slugs = known_papers() if there else [SHORT]
    workers = max(1, (os.cpu_count() or 2) // 2) if there else 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:  # the calls run here meanwhile
        running = {slug: pool.submit(check_notebook, slug, device, deadline) for slug in slugs}
        calls = check_calls(device)
        notebooks = {slug: job.result() for slug, job in running.items()}
    ratios = check_ratios(device, large=there)  # last, when nothing else runs
    content = {"device": name, "versions": versions(), "git": git_state(), "ratios": ratios}
    content |= {"calls": calls, "notebooks": notebooks}
    with atomic_path(given.out) as path:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    wrong = [key for key, said in calls.items() if not said.startswith("ok")]
    differing = [slug for slug, said in notebooks.items() if said["verdict"] != "as stored"]
    print(_counted("calls as on the processor", calls, wrong))
    print(_counted("notebooks as stored", notebooks, differing))
    print("\n".join(f"{name}: {said}" for name, said in ratios.items()))
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
