"""Rooms of `shared` import only what the table in shared/README.md allows."""

import re
from pathlib import Path

import pytest

from shared.compendium.dependencies import imported_names

SHARED = Path(__file__).resolve().parents[1] / "shared"
ROOMS = sorted(path.name for path in SHARED.iterdir() if (path / "__init__.py").is_file())


def allowed():
    """Room -> what it may import, read from the table: `a`, `b` | holds | x, y (but for brackets)."""
    rows = re.findall(r"^\| (`.*`) \|.*\| (.*) \|$", (SHARED / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {
        room: set(re.findall(r"compendium's paths|\w+", re.sub(r"\(.*\)", "", may)))
        for names, may in rows
        for room in re.findall(r"`(\w+)`", names)
    }


def test_the_table_lists_every_room():
    assert set(ROOMS) <= allowed().keys()
    assert all(may <= allowed().keys() | {"compendium's paths"} for may in allowed().values())


@pytest.mark.parametrize("room", ROOMS)
def test_imports_only_what_the_table_allows(room):
    may = allowed()[room] | {room, "_checks"}
    broken = []
    for path in sorted((SHARED / room).rglob("*.py")):
        package = ".".join(path.parent.relative_to(SHARED.parent).parts)
        for name in imported_names(path.read_text(encoding="utf-8"), package):
            root, _, rest = name.partition(".")
            if root != "shared" or not rest or rest.split(".")[0] in may:
                continue
            recipes = room == "zoo" and path.parent.name == "recipes"
            if recipes and rest.split(".")[0] in ("vision", "sae", "hooks", "lm"):
                continue
            if name.startswith("shared.compendium.paths") and "compendium's paths" in may:
                continue
            broken.append(f"{path.relative_to(SHARED)} imports {name}")
    assert broken == []
