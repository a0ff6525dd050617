"""pyproject.toml, the lock file, environment.yml and what is installed agree."""

import ast
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


def installed(path=None):
    """Version and requirements of each distribution; torch's +cpu is ours to ignore."""
    found = {}
    for distribution in importlib.metadata.distributions(**({"path": path} if path else {})):
        version = Version(Version(distribution.version).public)
        found.setdefault(canonicalize_name(distribution.name), (version, distribution.requires or []))
    return found


def needed_by(name, have):
    """What a distribution needs here, directly or through others, with the extras they ask for."""
    found = set()
    queue = [(name, frozenset())]
    while queue:
        name, extras = queue.pop()
        for line in have.get(name, (None, []))[1]:
            requirement = Requirement(line)
            wanted = [{"extra": extra} for extra in ("", *extras)]
            if requirement.marker and not any(map(requirement.marker.evaluate, wanted)):
                continue
            step = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if step not in found:
                found.add(step)
                queue.append(step)
    return {name for name, _ in found}


def surplus(have):
    """Installed and neither ours nor locked. Which build of torch it is, with NVIDIA's packages or without, is free."""
    return have.keys() - PINNED.keys() - needed_by("torch", have) - {"pip", "wheel", "reprise"}


def test_what_is_locked_is_installed():
    have = installed()
    assert {name: have[name][0] if name in have else None for name in PINNED} == PINNED


@pytest.mark.skipif(Path(sys.prefix).name != ".venv", reason="only the environment that make builds is ours alone")
def test_nothing_else_is_installed():
    assert surplus(installed()) == set()


def test_the_cuda_build_of_torch_brings_its_own(tmp_path):
    """From an ordinary index torch comes with NVIDIA's packages, some only by an extra; another's stay a surplus."""
    fakes = {
        "torch": ["filelock", "cuda-toolkit[cublas]==13; python_version > '3'", "absent; platform_system == 'Plan 9'"],
        "cuda-toolkit": ["nvidia-cublas==13.*; extra == 'cublas'", "nvidia-nvtx; extra == 'nvtx'"],
        "nvidia-cublas": ["Nvidia_Runtime"],
        **{name: [] for name in ("nvidia-runtime", "nvidia-nvtx", "absent", "torchvision", "filelock", "pip")},
    }
    for name, requires in fakes.items():
        folder = tmp_path / f"{name.replace('-', '_')}-13.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 13+cu130"]
        (folder / "METADATA").write_text("\n".join(lines + [f"Requires-Dist: {line}" for line in requires]) + "\n")
    assert surplus(installed([str(tmp_path)])) == {"nvidia-nvtx", "absent", "torchvision"}


POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def test_modules_of_posix_are_guarded():
    """`shared` and the notebooks work elsewhere too: such a module is imported where its absence is caught."""
    bare = []
    for path in sorted((ROOT / "shared").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                bare += [f"{path.relative_to(ROOT)} imports {name}" for name in names & POSIX_ONLY]
    assert bare == []


def test_the_python_versions_we_name_are_one_list():
    named = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line}
    minors = [f"3.{minor}" for minor in range(30) if f"3.{minor}" in SpecifierSet(PROJECT["requires-python"])]
    assert sorted(named) == sorted(minors)
    assert f"3.{sys.version_info.minor}" in named
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    low, high = (tuple(map(int, version.split("."))) for version in (minors[0], minors[-1]))
    assert f"{low} <= sys.version_info[:2] <= {high}" in makefile
