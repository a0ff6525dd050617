"""`make new P=SLUG`: start a paper from the template."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from shared.compendium.paths import PAPERS, ROOT, atomic_path

TEMPLATE = Path(__file__).parent / "template"
STAND_INS = ROOT / "tests" / "papers" / "stand_ins"


def new(slug: str) -> Path:
    """Create `papers/<slug>` with a notebook, a card and a paper.yml that already run, and its stand-in.

    Parameters
    ----------
    slug : the folder's name: a-z, 0-9 and _, a letter first.

    Returns
    -------
    The folder; it appears whole or not at all.

    Raises
    ------
    ValueError
        for a bad slug.
    FileExistsError
        for one that is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug):
        raise ValueError(f"P={slug!r} is no slug; it must consist of a-z, 0-9 and _, and start with a letter")
    folder, stand_in = PAPERS / slug, STAND_INS / f"{slug}.py"
    if taken := [path for path in (folder, stand_in) if path.exists()]:
        raise FileExistsError(f"{taken[0].relative_to(ROOT).as_posix()} exists already")
    with tempfile.TemporaryDirectory(dir=PAPERS, prefix=".new-") as temporary:
        made = Path(temporary) / slug
        made.mkdir()
        for name in ("notebook.ipynb", "card.yml", "paper.yml"):
            (made / name.replace("notebook", slug)).write_text(_filled(name, slug), encoding="utf-8")
        made.rename(folder)
    with atomic_path(stand_in) as path:
        path.write_text(_filled("stand_in.py", slug), encoding="utf-8")
    return folder


def _filled(name: str, slug: str) -> str:
    return (TEMPLATE / name).read_text(encoding="utf-8").replace("SLUG", slug)


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise ValueError("which paper? make new P=SLUG")
        new(sys.argv[1])
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f"papers/{sys.argv[1]} is there; fill in its card first, then: make paper P={sys.argv[1]}")
    print(f"tests/papers/stand_ins/{sys.argv[1]}.py builds the tiny models and data of its dry run")
