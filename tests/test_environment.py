"""pyproject.toml, the lock file, environment.yml and what is installed agree."""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PINNED = {canonicalize_name(name): Version(version) for name, _, version in (line.partition("==") for line in LOCK)}
EXTRAS = re.search(r'"\.\[(.*?)\]"', (ROOT / "Makefile").read_text(encoding="utf-8"))[1].split(",")  # of `make lock`
USED = [*PROJECT["dependencies"], *(line for extra in EXTRAS for line in PROJECT["optional-dependencies"][extra])]


@pytest.mark.parametrize("requirement", [Requirement(line) for line in USED], ids=str)
def test_the_lock_satisfies_pyproject(requirement):
    name = canonicalize_name(requirement.name)
    assert name in PINNED, f"{requirement} isn't pinned; run `make lock`"
    assert PINNED[name] in requirement.specifier


def test_every_line_of_the_lock_pins_one_package():
    assert all(line.count("==") == 1 and " " not in line for line in LOCK)
    assert len(PINNED) == len(LOCK)


def test_environment_yml_gives_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, from_pip = environment["dependencies"]
    name, _, version = python.partition("=")
    assert (name, pip) == ("python", "pip")
    assert version in SpecifierSet(PROJECT["requires-python"])
    assert from_pip == {"pip": ["-r requirements.lock", "-e ."]}


def installed():
    found = {}
    for distribution in importlib.metadata.distributions():
        version = Version(distribution.version)
        found.setdefault(
            canonicalize_name(distribution.name), Version(version.public)
        )  # torch's +cpu is ours to ignore
    return found


def test_what_is_locked_is_installed():
    have = installed()
    assert {name: have.get(name) for name in PINNED} == PINNED


@pytest.mark.skipif(Path(sys.prefix).name != ".venv", reason="only the environment that make builds is ours alone")
def test_nothing_else_is_installed():
    assert installed().keys() - PINNED.keys() <= {"pip", "wheel", "reprise"}
