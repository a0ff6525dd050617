"""What this machine offers to a run: cores, memory, accelerators, and locks between processes."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

try:
    import fcntl
except ImportError:  # Windows, where notebooks and `shared` work and the runner doesn't
    fcntl = None

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_memory_mb() -> int:
    """Memory that is free for us, in MB: the machine's, or what a container leaves; a tenth stays free."""
    free = psutil.virtual_memory().available
    try:
        limit, used = ((_CGROUP / f"memory.{name}").read_text(encoding="utf-8").strip() for name in ("max", "current"))
        free = min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        pass
    return max(1, int(0.9 * free / 1e6))


def accelerators() -> int:
    """How many devices torch can compute on besides the CPU."""
    import torch  # here: only runs at paper scale need to know

    return torch.accelerator.device_count() if torch.accelerator.is_available() else 0


def take_accelerator(count: int, folder: Path) -> None:
    """Of `count` CUDA devices, see only one that no other process took in `folder`, until this process ends."""
    if count < 2:
        return
    names = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")
    for name in names[:count]:
        if lock(folder / f".device-{name}", wait=False):
            os.environ["CUDA_VISIBLE_DEVICES"] = name
            return
    raise RuntimeError(f"none of the devices {', '.join(names)} is free")


def lock(path: Path, wait: bool) -> bool:
    """Hold `path` against other processes until this one ends, however it ends, also through `exec`.

    Returns False, without waiting, if another holds it.
    """
    if fcntl is None:
        raise OSError("the runner works on Linux and macOS")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(handle, True)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        return False
    return True
