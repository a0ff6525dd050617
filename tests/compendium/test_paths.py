"""Files are written whole or not at all, also when the writer is killed."""

import hashlib
import os
import signal
import stat
import subprocess
import sys

import pytest

from shared.compendium.paths import ROOT, atomic_path, cache_dir, output_dir, run_dir, sha256


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "new" / "file.json"
    with atomic_path(target) as path:
        path.write_text("old")
    with atomic_path(target) as path:
        path.write_text("ne")
        assert target.read_text() == "old"
        assert path.suffix == ".json"
        path.write_text("new")
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["file.json"]


def test_an_exception_inside_leaves_the_old_file(tmp_path):
    target = tmp_path / "file.json"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as path:
        path.write_text(f"ne{1 / 0}")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.json"]


def test_a_kill_inside_leaves_the_old_file(tmp_path):
    target = tmp_path / "file.json"
    target.write_text("old")
    script = (
        "import os, signal, sys\n"
        "from shared.compendium.paths import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path:\n"
        "    path.write_text('ne')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(target)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    left = [name for name in os.listdir(tmp_path) if name != "file.json"]
    assert all(name.startswith(".file-") for name in left)


def test_others_may_read_the_file(tmp_path):
    with atomic_path(tmp_path / "x") as path:
        path.write_text("")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask


def test_cache_can_lie_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("REPRISE_CACHE")
    assert cache_dir() == ROOT / "data" / "cache"


def test_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_only_the_runner_writes_official_results(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_FIGURES", str(tmp_path))
    monkeypatch.delenv("REPRISE_RUN", raising=False)
    own = [output_dir("tiny", "small", {"seed": seed, "size": 3}) for seed in (0, 1)]
    assert len({*own, output_dir("tiny", "paper", {"seed": 0, "size": 3})}) == 3
    assert own[0] == output_dir("tiny", "small", {"size": 3, "seed": 0})
    assert {path.parent for path in own} == {run_dir("tiny") / "runs"}
    monkeypatch.setenv("REPRISE_RUN", str(run_dir("tiny", "paper")))
    assert output_dir("tiny", "paper", {"seed": 1}) == tmp_path / "tiny" / "paper"


def test_more_notebooks_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_FIGURES", str(tmp_path))
    assert run_dir("tiny/more_costs") == tmp_path / "tiny" / "more_costs"
    assert run_dir("tiny/more_costs", "paper") == tmp_path / "tiny" / "more_costs" / "paper"
