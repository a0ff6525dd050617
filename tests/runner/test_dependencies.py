"""What a notebook depends on: its own files and, through imports, the modules of `shared`."""

import ast

import pytest

from shared.compendium import dependencies
from shared.compendium.dependencies import imported_names, inputs, notebook_source, shared_files
from shared.compendium.paths import ROOT


@pytest.fixture
def package(tmp_path, monkeypatch):
    """shared/{_checks,a/{__init__,_x,unused},b/{__init__,table.json}}: a imports b inside a function."""
    files = {
        "_checks.py": "",
        "__init__.py": "",
        "a/__init__.py": "from shared.a._x import x",
        "a/_x.py": "def x():\n    from ..b import y",
        "a/unused.py": "",
        "b/__init__.py": "import shared._checks",
        "b/table.json": "{}",
        "b/README.md": "",
        "b/__pycache__/z.pyc": "",
        "c/__init__.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "shared" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(dependencies, "_SHARED", tmp_path / "shared")
    return tmp_path / "shared"


@pytest.mark.parametrize("source", ["import shared.a", "from shared import a", "def f():\n    from shared.a import x"])
def test_follows_imports_and_brings_data_files(package, source):
    found = {str(path.relative_to(package)) for path in shared_files(source)}
    assert found == {"_checks.py", "__init__.py", "a/__init__.py", "a/_x.py", "b/__init__.py", "b/table.json"}


def test_checks_always_count(package):
    assert shared_files("import numpy") == {package / "_checks.py"}


def test_relative_imports_are_resolved():
    assert set(imported_names("from . import x\nfrom ..b import y", "shared.a")) == {
        *("shared.a", "shared.a.x", "shared.b", "shared.b.y")
    }


def test_magics_are_left_out(checkout):
    folder = checkout.add("tiny", "%matplotlib inline\n!ls\nimport shared.lrp", "%%bash\nfor x in y; do")
    source = notebook_source(folder / "tiny.ipynb")
    assert "import shared.lrp" in source
    ast.parse(source)


def test_a_paper_without_a_notebook_depends_on_its_card(checkout, monkeypatch):
    folder = checkout.add("tiny")
    (folder / "tiny.ipynb").unlink()
    monkeypatch.setattr(dependencies, "PAPERS", checkout.root / "papers")
    assert inputs("tiny") == [folder / "card.yml", folder / "paper.yml"]


def test_the_paper_object_doesn_t_depend_on_the_tools_around_it():
    names = {path.name for path in shared_files("from shared.compendium import Paper") if path.is_relative_to(ROOT)}
    assert {"paper.py", "card.schema.json"} <= names
    assert not {"runner.py", "execute.py", "new.py"} & names
