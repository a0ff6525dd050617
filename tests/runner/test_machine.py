"""What a machine offers, official results on disk, and the Snakemake call made of both: functions, no runs."""

import json
import os
import subprocess
import sys

import pytest

from shared.compendium import machine, results, runner
from shared.compendium.paths import run_dir

HOLDS = """
import os, sys
from pathlib import Path
from shared.compendium.machine import take_accelerator
take_accelerator(2, Path(sys.argv[1]))
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


def hold(folder):
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDS, str(folder)]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "3,GPU-5"}
    return subprocess.Popen(command, env=env, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def test_each_process_sees_one_accelerator_of_its_own(tmp_path):
    first, second = hold(tmp_path), hold(tmp_path)
    assert {first.stdout.readline(), second.stdout.readline()} == {"3\n", "GPU-5\n"}
    with hold(tmp_path) as third:
        assert "none of the devices 3, GPU-5 is free" in third.stderr.read()
    first.kill()  # however it ends, its device is free again
    first.communicate()
    with hold(tmp_path) as again:
        assert again.stdout.readline() in {"3\n", "GPU-5\n"}
        again.communicate("")
    second.communicate("")


def test_one_device_or_none_needs_no_choice(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine.take_accelerator(1, tmp_path)
    machine.take_accelerator(0, tmp_path)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(("limit", "used"), [("3000000000", "1000000000"), ("max", "1000000000"), (None, None)])
def test_a_container_s_memory_is_the_limit(tmp_path, monkeypatch, limit, used):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    for name, text in {"max": limit, "current": used}.items():
        if text:
            (tmp_path / f"memory.{name}").write_text(text + "\n")
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 16e9}))
    assert machine.usable_memory_mb() == (1800 if limit == "3000000000" else 14400)


def test_cores_are_those_we_may_use(monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    assert machine.usable_cores() == 3
    monkeypatch.delattr(machine.os, "sched_getaffinity")
    assert machine.usable_cores() == os.cpu_count()


def test_where_files_can_t_be_locked_the_runner_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "fcntl", None)
    with pytest.raises(OSError, match="the runner works on Linux and macOS"):
        machine.lock(tmp_path / "lock", wait=False)


# --- the call -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "devices", "gpu"), [("small", 8, 1), ("paper", 8, 8), ("paper", 0, 1)])
def test_the_call_counts_memory_and_accelerators(monkeypatch, scale, devices, gpu):
    monkeypatch.setattr(runner, "accelerators", lambda: devices)
    monkeypatch.setattr(runner, "usable_memory_mb", lambda: 7000)
    call = runner.command(["tiny", "tiny/more_x"], scale, 3, None, None)
    assert {f"gpu={gpu}", "mem_mb=7000", f"scale={scale}", "notebooks=tiny,tiny/more_x"} <= set(call)
    assert f"devices={devices if scale == 'paper' else 0}" in call
    end = "paper/results.json" if scale == "paper" else "results.json"
    assert call[3:5] == [f"tiny/{end}", f"tiny/more_x/{end}"]


def test_a_cluster_counts_by_itself():
    call = runner.command(["tiny"], "paper", 3, 60, "papers/profiles/slurm")
    assert "--workflow-profile" in call
    assert not [part for part in call if part.startswith(("--cores", "mem_mb=", "gpu=", "devices="))]
    assert "limit=60" in call


# --- results on disk ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The official results of a paper: one figure, a key, and what an earlier version left."""
    monkeypatch.setenv("REPRISE_FIGURES", str(tmp_path))
    monkeypatch.setattr(results, "official_key", lambda notebook, scale: "k1")
    folder = run_dir("tiny")
    (folder / "runs").mkdir(parents=True)
    for name in ("fig1.png", "fig1.svg", "fig0_old.png", "fig0_old.svg", "tiny.ipynb"):
        (folder / name).touch()
    (folder / "results.json").write_text(json.dumps({"key": "k1", "figures": {"fig1": "A line."}}))
    return folder


def test_sweep_removes_figures_that_were_not_drawn(folder):
    assert results.sweep(folder) == ["fig0_old.png", "fig0_old.svg"]
    assert {path.name for path in folder.iterdir()} == {"fig1.png", "fig1.svg", "tiny.ipynb", "results.json", "runs"}
    (folder / "results.json").unlink()
    assert results.sweep(folder) == []


@pytest.mark.parametrize(
    ("change", "current"),
    [
        (lambda folder: None, True),
        (lambda folder: (folder / "fig1.svg").unlink(), False),
        (lambda folder: (folder / "results.json").unlink(), False),
        (lambda folder: (folder / "results.json").write_text("{"), False),
        (lambda folder: (folder / "results.json").write_text('{"key": null, "figures": {}}'), False),
        (lambda folder: (folder / "results.json").write_text('{"key": "k0", "figures": {}}'), False),
    ],
)
def test_the_key_file_is_newer_exactly_where_results_aren_t_current(folder, change, current):
    change(folder)
    assert results.is_current("tiny") == current
    key_file = results.key_file("tiny")
    first = key_file.read_text()
    written = folder / "results.json"
    if written.exists():
        assert (key_file.stat().st_mtime < written.stat().st_mtime) == current
    assert (results.key_file("tiny").read_text() == first) == current  # Snakemake compares contents, too
