"""`make new P=SLUG`: start a paper from the template."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from shared.compendium.paths import PAPERS

TEMPLATE = Path(__file__).parent / "template"


def new(slug: str) -> Path:
    """Create `papers/<slug>` with a notebook, a card and a paper.yml that already run; returns the folder.

    `ValueError` for a bad slug, `FileExistsError` for one that is taken. The folder appears whole or not at all.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug):
        raise ValueError(f"P={slug!r} is no slug; it must consist of a-z, 0-9 and _, and start with a letter")
    folder = PAPERS / slug
    if folder.exists():
        raise FileExistsError(f"papers/{slug} exists already")
    with tempfile.TemporaryDirectory(dir=PAPERS, prefix=".new-") as temporary:
        made = Path(temporary) / slug
        made.mkdir()
        for name in TEMPLATE.iterdir():
            text = name.read_text(encoding="utf-8").replace("SLUG", slug)
            (made / name.name.replace("notebook", slug)).write_text(text, encoding="utf-8")
        made.rename(folder)
    return folder


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise ValueError("which paper? make new P=SLUG")
        new(sys.argv[1])
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f"papers/{sys.argv[1]} is there; fill in its card first, then: make paper P={sys.argv[1]}")
    print(f"it also needs tests/papers/stand_ins/{sys.argv[1]}.py (build, PARAMETERS) for its dry run")
