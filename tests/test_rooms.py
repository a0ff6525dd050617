"""Rooms of `shared` import only what shared/rooms.yml allows, and README's table says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from shared.compendium.imports import imported_names

SHARED = Path(__file__).resolve().parents[1] / "shared"
TABLE = yaml.safe_load((SHARED / "rooms.yml").read_text(encoding="utf-8"))["rooms"]
ROOMS = sorted(path.name for path in SHARED.iterdir() if (path / "__init__.py").is_file())
README = SHARED / "README.md"
MARKED = re.compile(r"(?<=<!-- rooms -->\n).*?(?=<!-- end of rooms -->)", re.DOTALL)


def may_import(room: str) -> set[str]:
    """What the table lets a room import; nested lists come from YAML's anchors."""
    flat: set[str] = set()
    for entry in TABLE[room]["may_import"]:
        flat |= {entry} if isinstance(entry, str) else set(entry)
    return flat


def table() -> str:
    """README's table of the rooms that exist, from rooms.yml."""
    lines = ["| tier | room | holds | may import |", "|---|---|---|---|"]
    tier0 = {"hooks", "stats", "nets", "worlds", "plots"}
    for room, row in TABLE.items():
        may = may_import(room)
        words = [*sorted(may - tier0), *(["tier 0"] if tier0 <= may else sorted(may & tier0))]
        name = f"`{room}`{' *' if row.get('planned') else ''}"
        lines.append(f"| {row['tier']} | {name} | {row['holds']} | {', '.join(words) or '–'} |")
    return "\n".join(lines) + "\n"


def test_the_table_lists_every_room():
    built = {room for room, row in TABLE.items() if not row.get("planned")}
    assert set(ROOMS) == built


def test_readme_has_the_table():
    assert MARKED.search(README.read_text(encoding="utf-8"))[0] == table(), "run `python -m tests.test_rooms`"


@pytest.mark.parametrize("room", TABLE)
def test_imports_go_downward(room):
    known = {name.split(".")[0] for name in may_import(room)}
    assert known <= TABLE.keys()
    assert all(TABLE[name]["tier"] <= TABLE[room]["tier"] for name in known)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_only_what_the_table_allows(room):
    may = may_import(room) | {room, "_checks"}
    broken = []
    for path in sorted((SHARED / room).rglob("*.py")):
        if room == "zoo" and path.parent.name == "recipes":
            continue  # recipes may import any room
        package = ".".join(path.parent.relative_to(SHARED.parent).parts)
        for name in imported_names(path.read_text(encoding="utf-8"), package):
            root, _, rest = name.partition(".")
            allowed = any(rest == entry or rest.startswith(f"{entry}.") for entry in may)
            if root == "shared" and rest and not allowed and rest.split(".")[0] not in ("_checks",):
                if any(entry.startswith(f"{rest}.") for entry in may):  # the package on the way to an allowed module
                    continue
                broken.append(f"{path.relative_to(SHARED)} imports {name}")
            if root == "shared" and rest.split(".")[0] not in (room, "") and rest.count("._"):
                broken.append(f"{path.relative_to(SHARED)} imports the private {name}")
    assert broken == []


if __name__ == "__main__":
    README.write_text(MARKED.sub(lambda _: table(), README.read_text(encoding="utf-8")), encoding="utf-8")
