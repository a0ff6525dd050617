"""The built wheel works away from any checkout: cards, schemas and assets come with it, a model is explained."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml

import shared
from shared.compendium import known_papers
from shared.compendium.paths import ROOT, data_dir

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCES = ("shared", "papers", "data", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
OFFLINE = ["--no-deps", "--no-index", "--no-build-isolation"]
LEFT = shutil.ignore_patterns("__pycache__", "cache", ".ipynb_checkpoints", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=LEFT)
        else:
            shutil.copy(ROOT / name, folder / name)
    subprocess.run([*PIP, "wheel", *OFFLINE, "--wheel-dir", str(folder), str(folder)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel):
    """A folder with nothing but the package."""
    folder = wheel.parent / "site"
    subprocess.run([*PIP, "install", *OFFLINE, "--target", str(folder), str(wheel)], check=True)
    return folder


def run(script, installed, tmp_path, **environment):
    """What a script prints in an empty folder, with the package ahead of the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", **environment}
    environment.pop("REPRISE_FIGURES", None)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_what_the_code_reads(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"shared/py.typed", "shared/rooms.yml", "shared/compendium/card.schema.json"} <= names
    assert {f"shared/_repository/papers/{slug}/card.yml" for slug in known_papers()} <= names
    assert {f"shared/_repository/data/{p.parent.name}/card.yml" for p in data_dir().glob("*/card.yml")} <= names
    assert not [name for name in names if "/cache/" in name or "__pycache__" in name or name.startswith("tests/")]


def test_the_package_says_one_version(wheel):
    assert wheel.name.startswith(f"reprise-{shared.__version__}-")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == shared.__version__


def test_readme_names_every_extra():
    section = README.partition("## Use `shared` as a library")[2].partition("\n## ")[0]
    assert set(PROJECT["optional-dependencies"]) <= set(re.findall(r"^\| `([a-z]+)` \|", section, flags=re.M))


EXPLAIN = """
import shared
from shared.attribution import gradient
from shared.compendium import known_papers, load_card
from shared.zoo import load_data, load_model

loaded, images = load_model("resnet-fashion"), load_data("fashion-mnist", split="test").x[:2]
heat = gradient(loaded.model, loaded.preprocess(images), 0)
print(shared.__file__, tuple(heat.shape), all(load_card(slug).claims for slug in known_papers()))
"""


@pytest.mark.slow
def test_a_model_is_explained_away_from_the_checkout(installed, tmp_path):
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    printed = run(EXPLAIN, installed, tmp_path, **home)
    assert printed.split() == f"{installed}/shared/__init__.py (2, 1, 28, 28) True".split()
    assert not [name for name in ("reprise", "figures", "data") if (tmp_path / name).exists()]


@pytest.mark.slow
def test_readme_s_example_runs_away_from_the_checkout(installed, tmp_path):
    example = README.partition("```python\n")[2].partition("```")[0]
    printed = run(example, installed, tmp_path, REPRISE_CACHE=str(ROOT / "data" / "cache"))
    assert "France" in printed
