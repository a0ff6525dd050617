"""What a run depends on: the code of its notebook, the checks of its card, the modules and assets it reaches."""

import ast
import json
import shutil

import pytest
import yaml

from shared.compendium import dependencies, imports
from shared.compendium.dependencies import asset_names, notebook_source
from shared.compendium.imports import imported_names, reached_files
from shared.compendium.parameters import notebook_path
from shared.compendium.paths import PAPERS, known_notebooks

FILES = {
    "__init__.py": "",
    "_checks.py": "",
    # a room whose names come from modules and from a package of its own
    "a/__init__.py": "from shared.a._x import x\nfrom shared.a._y import y, z\nfrom shared.a.inner import deep\n"
    "HERE = 1",
    "a/_x.py": "def x():\n    from ..b import late",
    "a/_y.py": "import shared._checks\ny = z = 1",
    "a/inner/__init__.py": "from shared.a.inner._deep import *",
    "a/inner/_deep.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shared.a import x\ndeep = 1",
    "a/unused.py": "",
    # a lazy one
    "b/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shared.b._late import late\n"
    "def __getattr__(name):\n    ...",
    "b/_late.py": "",
    "b/_other.py": "",
    # one where others register
    "c/__init__.py": "from shared.c._rules import lookup\nfrom shared.c._more import more",
    "c/_rules.py": "def register(rule):\n    return rule\ndef lookup(): ...",
    "c/_more.py": "from shared.c._rules import register\n@register\ndef more(): ...",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, text in FILES.items():
        path = tmp_path / "shared" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(imports, "SHARED", tmp_path / "shared")
    return tmp_path / "shared"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import numpy", ""),
        ("from shared.a import y", "_checks.py a/_y.py"),
        ("def f():\n    from shared.a import x", "a/_x.py b/_late.py"),
        ("from shared import a\na.y", "_checks.py a/_y.py"),
        ("from shared import a as room\nroom.deep + room.x", "a/inner/_deep.py a/_x.py b/_late.py"),
        ("from shared.a import inner\ninner.deep", "a/inner/_deep.py"),
        ("from shared import a\na.inner.deep", "a/inner/_deep.py"),
        ("from shared.a import unused", "a/unused.py"),
        ("import shared.a.unused as u\nu", "a/unused.py"),
        ("from shared import b\nb.late()", "b/_late.py"),
        ("from shared import b\nprint(b)", "b/__init__.py b/_late.py b/_other.py"),
        ("from shared.b import unknown", "b/__init__.py b/_late.py b/_other.py"),
        ("from shared.c import lookup", "c/_rules.py c/_more.py"),
        (
            "from shared import a\nf(a)",  # handed around: all of the room
            "_checks.py a/__init__.py a/_x.py a/_y.py a/inner/_deep.py b/_late.py",
        ),
        ("from shared.a import HERE", "_checks.py a/__init__.py a/_x.py a/_y.py a/inner/_deep.py b/_late.py"),
        ("from importlib import import_module\nimport_module('shared.a.unused')", "a/unused.py"),
    ],
)
def test_follows_a_name_to_the_module_that_defines_it(package, source, expected):
    assert {path.relative_to(package).as_posix() for path in reached_files(source)} == set(expected.split())


def test_relative_imports_are_resolved():
    assert set(imported_names("from . import x\nfrom ..b import y", "shared.a")) == {
        *("shared.a", "shared.a.x", "shared.b", "shared.b.y")
    }


def test_magics_are_left_out(checkout):
    folder = checkout.add("tiny", "%matplotlib inline\n!ls\nimport shared.lrp", "%%bash\nfor x in y; do")
    source = notebook_source(folder / "tiny.ipynb")
    assert "import shared.lrp" in source
    ast.parse(source)


def test_the_paper_object_doesn_t_depend_on_the_tools_around_it():
    names = {path.name for path in reached_files("from shared.compendium import Paper")}
    assert {"paper.py", "claims.py"} <= names
    assert not {"runner.py", "execute.py", "new.py", "dependencies.py"} & names


def test_papers_of_one_room_don_t_depend_on_each_other_s_modules():
    reached = {slug: reached_files(notebook_source(notebook_path(slug))) for slug in ("premise", "diffnaps")}
    assert not any("diffnaps" in path.as_posix() for path in reached["premise"])
    assert any("diffnaps" in path.as_posix() for path in reached["diffnaps"])


# --- assets -------------------------------------------------------------------------------------------------------


@pytest.fixture
def assets(tmp_path, monkeypatch):
    for name in ("digits", "net-shapes", "net-shapes-patches"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.yml").touch()
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    return {"digits", "net-shapes", "net-shapes-patches"}


@pytest.mark.parametrize(
    ("source", "parameters", "expected"),
    [
        ("load_model('net-shapes')", {}, {"net-shapes"}),
        ("model = 'digits'\nzoo.load_data(model)", {}, {"digits"}),
        ("for name in ('digits', 'net-shapes'):\n    load_model(name)", {}, {"digits", "net-shapes"}),
        ("load_model(model)", {"model": ["org/net", {"small": "net-shapes"}]}, {"net-shapes"}),
        ("sae.load(zoo.dictionary_folder('net-shapes/layer_3'))", {}, {"net-shapes"}),
        ("print(f'{digits} right'); np.load(folder / 'x.npy')", {}, set()),
    ],
)
def test_only_the_assets_that_are_named_count(assets, source, parameters, expected):
    assert asset_names(source, parameters) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("load_model(f'{base}-patches')", {"net-shapes-patches"}),
        ("zoo.load_data(base + '-patches')", {"net-shapes-patches"}),
        ("name = 'net-%s' % kind\nload_model(name)", {"net-shapes", "net-shapes-patches"}),
        (
            "for name in [f'net-{kind}' for kind in kinds]:\n    zoo.load_model(name)",
            {"net-shapes", "net-shapes-patches"},
        ),
        ("load_model('net-{}'.format(kind))", {"net-shapes", "net-shapes-patches"}),
        ("load_model('-'.join(parts))", {"net-shapes", "net-shapes-patches"}),
        ("load_model(base + suffix)", {"digits", "net-shapes", "net-shapes-patches"}),
        ("zoo.dictionary_folder(f'{name}/layer-{i}')", set()),  # what `name` is stands elsewhere
        ("label = f'{share} right'\nprint(label)\nload_data(x)", set()),
    ],
)
def test_a_name_that_is_put_together_may_be_any_that_fits(assets, source, expected):
    assert asset_names(source, {}) == expected


# --- the key ------------------------------------------------------------------------------------------------------

SCRIPT = """
import json
from pathlib import Path
from shared.compendium import dependencies, imports
from shared.compendium.dependencies import run_key
from shared.compendium.paths import ROOT, known_notebooks

def keys(**parameters):
    for cached in (dependencies._digest, dependencies._assets_of_module, dependencies._asset_files,
                   imports._names, imports._file_references, imports._registrants, imports.module_nodes):
        cached.cache_clear()
    return {name: run_key(name, {"scale": "small", **parameters}) for name in known_notebooks()}

first = keys()
changed = {"nothing": []}
def edit(what, path, old, new):
    path = ROOT / path
    text = path.read_text(encoding="utf-8")
    assert old in text, (what, old)
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    changed[what] = sorted(name for name, key in keys().items() if key != first[name])
    path.write_text(text, encoding="utf-8")

EDITS
changed["nothing"] = [name for name, key in keys().items() if key != first[name]]
changed["parameter"] = sorted(name for name, key in keys(seed=1).items() if key != first[name])
print(json.dumps(changed))
"""
EDITS = [
    ("summary", "papers/uses/card.yml", "Measures one", "Counts one", []),
    ("statement", "papers/uses/card.yml", "The number is high", "The number is not low", []),
    ("budget", "papers/uses/card.yml", "core_seconds: 10", "core_seconds: 11", []),
    ("check", "papers/uses/card.yml", "'> 0.5'", "'> 0.6'", ["uses"]),
    ("prose", "papers/uses/uses.ipynb", "# uses", "# Uses it", []),
    ("code", "papers/uses/uses.ipynb", "size = 3", "size = 4", ["uses"]),
    ("more", "papers/uses/more_x.ipynb", "size = 3", "size = 4", ["uses/more_x"]),
    ("module", "shared/plots/_style.py", "annotations\n", "annotations\nimport sys\n", ["uses"]),
    ("docstring", "shared/plots/_style.py", '"""', '"""Much better. ', []),
    ("comment", "shared/plots/_style.py", "annotations\n", "annotations\n# why\n\n", []),
    ("other module", "shared/hooks/_core.py", "annotations\n", "annotations\nimport sys\n", []),
    ("room", "shared/plots/__init__.py", "\nfrom ", "\nimport sys\nfrom ", []),
    ("schema", "shared/compendium/card.schema.json", "card.yml of a paper", "card.yml", []),
    ("tools", "shared/compendium/runner.py", "annotations\n", "annotations\nimport sys\n", []),
    ("helper", "papers/uses/helper.py", "x = 1", "x = 2", ["uses", "uses/more_x"]),
    ("asset", "data/thing/card.yml", "a", "b", ["uses"]),
    ("recipe", "data/thing/recipe.py", "a", "b", []),
    ("unused asset", "data/other/card.yml", "a", "b", []),
    ("lock's head", "requirements.lock", "# Every", "# Each", []),
    ("lock", "requirements.lock", "\ntorch==", "\ntorch==9", ["plain", "uses", "uses/more_x"]),
]


@pytest.fixture(scope="module")
def changed(module_checkout):
    root = module_checkout.root
    folder = module_checkout.add("uses", "from shared.plots import figure\nload_data('thing')", set_up="")
    (folder / "helper.py").write_text("x = 1\n")
    module_checkout.add("plain", set_up="")
    (folder / "more_x.ipynb").write_text((root / "papers/plain/plain.ipynb").read_text())
    (root / "data").unlink()
    for name in ("thing", "other"):
        (root / "data" / name).mkdir(parents=True)
        for file in ("card.yml", "recipe.py"):
            (root / "data" / name / file).write_text("a\n")
    for room in (root / "shared").glob("*/"):  # those that matter here, for speed
        if room.name not in {"compendium", "plots", "hooks"}:
            shutil.rmtree(room)
    edits = "\n".join(f"edit({what!r}, {path!r}, {old!r}, {new!r})" for what, path, old, new, _ in EDITS)
    return json.loads(module_checkout.python(SCRIPT.replace("EDITS", edits)))


@pytest.mark.parametrize(("what", "papers"), [(what, papers) for what, *_, papers in EDITS])
def test_a_change_makes_stale_what_it_reaches(changed, what, papers):
    assert changed[what] == papers


def test_the_key_stays_and_hears_the_parameters(changed):
    assert changed["nothing"] == []
    assert changed["parameter"] == ["plain", "uses", "uses/more_x"]


def test_the_prose_of_cards_is_known():
    """Every text field of a gate or claim is prose, or decides what is printed."""
    schema = json.loads((PAPERS.parent / "shared/compendium/card.schema.json").read_text(encoding="utf-8"))
    claim = schema["$defs"]["claim"]["properties"]
    fields = claim.keys() | claim["reported"]["properties"].keys() | schema["$defs"]["gate"]["properties"].keys()
    assert dependencies.PROSE <= fields
    assert fields - dependencies.PROSE == {
        "id",
        "kind",
        "reported",
        "value",
        "unit",
        "check",
        "gate",
        "notebook",
        "timed",
    }


def test_real_cards_keep_their_checks():
    for card in PAPERS.glob("*/card.yml"):
        kept = [claim for name in known_notebooks(card.parent.name) for claim in dependencies._checks(name)["claims"]]
        raw = yaml.safe_load(card.read_text(encoding="utf-8"))["claims"]
        assert {claim["id"]: claim["check"] for claim in kept} == {claim["id"]: claim["check"] for claim in raw}
