"""Sphinx extension: docstrings in the house style (CONTRIBUTING.md) as reStructuredText, and who uses a name.

The house style is numpydoc with `name : what it is` on one line, which numpydoc itself would read as a type.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FIELDS = {
    "Parameters": "param",
    "Other Parameters": "param",
    "Attributes": "ivar",
    "Raises": "raises",
    "Warns": "raises",
}
TEXTS = {"Returns": "returns", "Yields": "yields"}
_CODE = re.compile(r"(``.+?``|`[^`]*`)")
_ENTRY = re.compile(r"^([\w.*][\w.*, \\]*?)(?: : (.*))?$")


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}


def skip(app: Any, what: str, name: str, obj: object, skipped: bool, options: Any) -> bool:
    """Leave out what scikit-learn's metaclass adds to every estimator (`set_fit_request`, …)."""
    return skipped or bool(re.fullmatch(r"set_\w+_request", name))


def process(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Change a docstring's lines in place."""
    inherited = {inspect.getdoc(kind) or "" for kind in (type(obj), getattr(obj, "__origin__", None)) if kind}
    if what == "data" and " ".join(lines).split() in [text.split() for text in inherited]:  # no text of its own
        said = (
            ", ".join(getattr(part, "__name__", str(part)) for part in obj)
            if isinstance(obj, dict | list | tuple)
            else str(obj)
        )
        lines[:] = [_escaped(f"{said[:200].replace('`', '')}{' …' if len(said) > 200 else ''}")]
        return
    lines[:] = [*converted(lines, literal=what == "module"), *used_by(app.srcdir, name)]


def used_by(source: str | Path, name: str) -> list[str]:
    """A line with links to the papers whose cards name it."""
    path = Path(source) / "uses.json"
    found = json.loads(path.read_text(encoding="utf-8")).get(name, []) if path.is_file() else []
    links = ", ".join(f":doc:`{title.replace('<', '')} <{page}>`" for title, page in found)
    return ["", f"*Papers that use it:* {links}", ""] if links else []


def converted(lines: list[str], *, literal: bool = False) -> list[str]:
    """reStructuredText of a docstring; with `literal` an indented block after prose is code."""
    out: list[str] = []
    for heading, block in _sections(lines):
        if heading in FIELDS:
            out += ["", *_fields(FIELDS[heading], block), ""]
        elif heading in TEXTS:
            out += ["", *_text(TEXTS[heading], _prose(block)), ""]
        else:
            out += ["", f".. rubric:: {heading}", ""] if heading else []
            out += _prose(block, literal=literal)
    return out


def _sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    heading, block = "", []
    i = 0
    while i < len(lines):
        if i + 1 < len(lines) and lines[i].strip() and re.fullmatch(r"-{3,}", lines[i + 1].strip()):
            yield heading, _stripped(block)
            heading, block = lines[i].strip(), []
            i += 2
        else:
            block.append(lines[i])
            i += 1
    yield heading, _stripped(block)


def _stripped(block: list[str]) -> list[str]:
    while block and not block[-1].strip():
        block = block[:-1]
    return block


def _fields(kind: str, block: list[str]) -> Iterator[str]:
    for line, below in zip(block, [*block[1:], ""]):
        entry = _ENTRY.match(line) if line and not line.startswith(" ") else None
        if entry:
            names, said = entry[1].strip(), _escaped(entry[2] or "")
            if said and below.strip()[:1].isupper() and below.startswith("    "):
                said += " –"  # numpydoc's own style: the type, and below it the description
            yield f":{kind} {_escaped(names.replace(', ', '/'))}: {said}"
        else:
            yield f"    {_escaped(line.strip())}" if line.strip() else ""


def _text(kind: str, block: list[str]) -> list[str]:
    """What comes back: prose, or numpydoc's entries with indented descriptions, of several a list."""
    entries = [line for line in block if line and not line.startswith(" ")]
    listed = len(entries) > 1 and any(line.startswith("    ") for line in block)
    if not listed:
        return [f":{kind}: {block[0] if block else ''}", *(f"    {line.strip()}".rstrip() for line in block[1:])]
    marked = (f"    - {line}" if line in entries else f"      {line.strip()}".rstrip() for line in block)
    return [f":{kind}:", "", *marked]


def _prose(block: list[str], *, literal: bool = False) -> list[str]:
    """Escaped, examples left alone."""
    out, example, code = [], False, False
    for i, line in enumerate(block):
        starts = line.lstrip().startswith(">>>")
        example = starts or (example and bool(line.strip()))
        indented = line.startswith("    ")
        if literal and indented and not code and not example and (i == 0 or not block[i - 1].strip()):
            out, code = [*out, "::", ""], True
        code = code and (indented or not line.strip())
        out.append(line if example or code else _escaped(line))
    return out


def _escaped(text: str) -> str:
    """Marks that reStructuredText would read outside of code."""
    parts = _CODE.split(text)
    parts[::2] = [re.sub(r"(?<!\\)([*|]|_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
    for i in range(2, len(parts), 2):
        parts[i] = re.sub(r"^(?=\w)", r"\\ ", parts[i])  # `Part`s: a letter right behind code
    return "".join(parts)
