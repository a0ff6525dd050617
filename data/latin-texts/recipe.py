"""Latin and English texts before 1700 to learn the two languages from, and verses of Luke in both."""

from __future__ import annotations

import html
import re
import subprocess
from pathlib import Path

from shared.compendium.paths import cache_dir
from shared.zoo import AssetError
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_lines

LIBRARY = "cltk/lat_text_latin_library"
ANGLER = "GITenberg/The-Complete-Angler-1653_9198"
KING_JAMES = "GITenberg/The-King-James-Bible_10900"
LATIN = {  # prose that the pages' authors seldom quote: they quote poets
    "Caesar": ["caesar/gall1.txt", "caesar/gall2.txt"],
    "Sallust": ["sall.1.txt"],
    "Cicero": ["cicero/cat1.txt", "cicero/off1.txt"],
    "Livy": ["livy/liv.1.txt"],
    "Nepos": ["nepos/nepos.mil.txt"],
    "Tacitus": ["tacitus/tac.ann1.txt", "tacitus/tac.agri.txt"],
    "Augustine": ["augustine/conf1.txt", "augustine/conf2.txt"],
    "Vulgate": ["bible/genesis.txt"],
    "Bede": ["bede/bede1.txt"],
    "Seneca": ["sen/seneca.ep1.txt"],
}
WORDS = {"Latin": 5000, "Walton": 24000, "King James Bible": 7960}  # of each author, of the book, of each of its books
GROUPS, VERSES = 12, 4


@recipe("latin-texts")
def make(folder: Path, *, sources: Path | None = None) -> None:
    """Write a row per source. `sources` holds git clones of the three repositories, in folders named owner+name.

    `AssetError` if one is missing. Without `sources` they are looked for in the cache's folder `sources`.
    """
    sources = sources or cache_dir() / "sources"
    rows = [{"language": "Latin", "source": a, "text": _latin(sources, files)} for a, files in LATIN.items()]
    angler = show(sources, ANGLER, "9198-8.txt", "latin1")
    walton = _words(re.sub(r"\[[^\]]*\]|_", " ", angler[len(angler) // 8 :]))[: WORDS["Walton"]]
    rows.append({"language": "English", "source": "Walton", "text": " ".join(walton)})
    books = [_words(_king_james(sources, book))[40 : 40 + WORDS["King James Bible"]] for book in ("01", "19", "42")]
    rows.append({"language": "English", "source": "King James Bible", "text": " ".join(map(" ".join, books))})
    write_lines(folder / "latin-texts.jsonl.gz", [*rows, *_verses(sources)])


def show(sources: Path, repository: str, path: str, encoding: str = "utf-8") -> str:
    """A file of a clone's newest commit."""
    clone = sources / repository.replace("/", "+")
    found = subprocess.run(["git", "-C", str(clone), "show", f"HEAD:{path}"], capture_output=True)
    if found.returncode:
        raise AssetError(f"{path} of the GitHub repository {repository} isn't in {clone}; clone it there")
    return found.stdout.decode(encoding, "replace")


def _words(text: str) -> list[str]:
    return [word for word in text.split() if re.search("[A-Za-z]", word) and not re.search(r"\d", word)]


def _latin(sources: Path, files: list[str]) -> str:
    words: list[str] = []
    for file in files:
        text = re.sub(r"[\[(<{][^\])>}]*[\])>}]", " ", show(sources, LIBRARY, file))
        words += _words(text[int(len(text) * 0.05) :])  # behind the headings
    return " ".join(words[: WORDS["Latin"]])


def _king_james(sources: Path, book: str) -> str:
    return html.unescape(re.sub("<[^>]+>", " ", show(sources, KING_JAMES, f"10900-h/book{book}.htm", "latin1")))


def _verses(sources: Path) -> list[dict]:
    """Four neighbouring verses from each of twelve places in Luke, of like length."""
    latin, english = {}, {}
    chapters = re.findall(r"CAPUT (\d+)\s(.*?)(?=CAPUT|\Z)", show(sources, LIBRARY, "bible/luke.txt"), re.S)
    for chapter, body in chapters:
        for verse, text in re.findall(r"(\d+)\s+([^\d]+)", body):
            latin[int(chapter), int(verse)] = " ".join(text.split())
    for chapter, verse, text in re.findall(r"(\d+):(\d+)\s+([^\d]+)", _king_james(sources, "42")):
        english[int(chapter), int(verse)] = " ".join(text.split())
    both = [
        key for key in latin
        if key in english and key[0] >= 5 and 60 <= len(latin[key]) <= 130 and 70 <= len(english[key]) <= 160
    ]  # fmt: skip
    step = len(both) // GROUPS
    keys = [key for group in range(GROUPS) for key in both[group * step : group * step + VERSES]]
    return [
        {"language": f"{name} verses", "source": f"Luke ({edition})", "text": "\n".join(texts[key] for key in keys)}
        for name, edition, texts in (("Latin", "Vulgate", latin), ("English", "King James Bible", english))
    ]
