"""The Makefile's targets; `-o .venv/.ready` keeps make from building an environment here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def make(*arguments):
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # `make test` runs us
    command = ["make", "-o", ".venv/.ready", *arguments]
    return subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [[], ["help"]])
def test_help_lists_every_target(arguments):
    done = make(*arguments)
    assert done.returncode == 0
    assert {"figures", "test", "paper", "store"} <= set(TARGETS)
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == sorted(TARGETS)
    assert all(len(line.split(maxsplit=1)) == 2 for line in done.stdout.splitlines())


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="make uses .venv")
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["paper", "P=nope"], "P='nope' is unknown; known: {first},"),
        (["paper"], "which paper? P=SLUG; known: {first},"),
        (["figures", "SCALE=huge"], "scale='huge' is unknown; known: small, paper"),
        (["new"], "which paper? make new P=SLUG"),
        (["store", "P=nope"], "paper='nope' is unknown; known: {first},"),
        (["store"], "which paper? make store P=SLUG; known: {first},"),
    ],
)
def test_wrong_names_get_one_line(arguments, line):
    done = make(*arguments)
    assert done.returncode == 2
    said, *rest = done.stderr.splitlines()
    assert said.startswith(line.replace("{first}", sorted(p.parent.name for p in ROOT.glob("papers/*/card.yml"))[0]))
    assert all(more.startswith("make: ") for more in rest)
