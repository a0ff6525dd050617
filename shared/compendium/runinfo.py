"""What a run was: versions, git commit, time and memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import random
import subprocess
import sys
import time

import numpy as np
import psutil
import torch

from shared._checks import UnknownNameError, check_range
from shared.compendium.paths import ROOT

try:
    import resource
except ImportError:  # Windows
    resource = None

_WITHOUT_FLOAT64 = {"mps"}  # many measures are computed in float64; asked for by name, such a device is used
_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "transformers", "captum", "matplotlib", "papermill")


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch, and ask torch for deterministic kernels (a warning where it has none).

    Parameters
    ----------
    seed : from 0 to 2**32 - 1.
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed must be an integer; got {seed!r}")
    check_range("seed", seed, 0, 2**32 - 1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries we call may use the global generator
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


def resolve_device(device: str) -> torch.device:
    """The torch device of a name.

    Parameters
    ----------
    device : "auto" for an accelerator if there is one, else the CPU; any other name must be a device torch has here.

    Returns
    -------
    The device.

    Raises
    ------
    UnknownNameError
        for a device that can't be used here; those that can are listed.
    """
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device("cpu") if found is None or found.type in _WITHOUT_FLOAT64 else found
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UnknownNameError(f"device={device!r} can't be used here ({reason}); accepted: {_devices()}") from error
    return resolved


def _devices() -> str:
    names = ["auto", "cpu"]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator().type
        names += [f"{kind}:{i}" for i in range(torch.accelerator.device_count())]
    return ", ".join(names)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that move numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state() -> dict[str, str | bool | None]:
    """The commit the code stands at and whether the tree differs from it; None outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


class Meter:
    """Wall and CPU time since its creation, and the process' peak memory."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> dict[str, float | None]:
        """Seconds, and memory in MB (10⁶ bytes)."""
        gpu = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None
        return {
            "wall_seconds": round(time.perf_counter() - self._wall, 2),
            "cpu_seconds": round(time.process_time() - self._cpu, 2),
            "peak_rss_mb": round(_peak_bytes() / 1e6, 1),
            "peak_gpu_mb": None if gpu is None else round(gpu, 1),
        }


def _peak_bytes() -> int:
    if resource is None:
        return psutil.Process().memory_info().peak_wset
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
