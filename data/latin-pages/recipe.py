"""Excerpts of eighteenth-century British books, each word marked as Latin or not."""

from __future__ import annotations

import itertools
import random
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from shared.compendium.paths import cache_dir
from shared.zoo import AssetError
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_lines

BOOKS = "lofhm/ECCO-TCP"
BLOCKS = set("P L HEAD BIBL NOTE ITEM CELL OPENER CLOSER ARGUMENT TRAILER SP STAGE SPEAKER LABEL SALUTE SIGNED".split())
BLOCKS |= {"DATELINE"}
PILOTS = ("Brown", "Cumberland", "Walpole", "Fawkes", "Mason", "Oldys", "Rowe")
LEFT_OUT = {16, 40, 41, 42, 43, 84, 86}  # a table of sums; English marked as Latin; coarse parodies
# Read by us, words from … to: what the transcribers left unmarked (1), French or English that they marked (0).
CORRECTED = {
    **{3: [(7, 26, 1), (32, 74, 1)], 12: [(63, 999, 0)], 17: [(110, 130, 1)], 19: [(155, 999, 1)]},
    **{20: [(75, 999, 0)], 21: [(113, 999, 0)], 23: [(97, 100, 1)], 28: [(89, 91, 1)], 29: [(3, 5, 1)]},
    **{30: [(19, 21, 1)], 48: [(0, 8, 0)], 50: [(1, 17, 0), (51, 68, 0)], 57: [(43, 51, 1), (77, 89, 1)]},
    **{79: [(33, 36, 1)], 83: [(42, 44, 1)], 85: [(0, 1, 0), (7, 16, 1)], 87: [(34, 37, 1)]},
    **{94: [(101, 106, 1)], 95: [(29, 34, 1)]},
}
REFRAIN, REFRAIN_PAGES = ("Hè,", "fire", "Ane,", "hè."), (72, 73)  # old French
Word = tuple[str, bool | None, str, int]  # text, Latin or not or both, kind of block, number of the block


@recipe("latin-pages")
def make(folder: Path, *, sources: Path | None = None) -> None:
    """Write a row per page. `sources` holds a git clone of the books' repository, in the folder lofhm+ECCO-TCP.

    `AssetError` if it is missing. Without `sources` it is looked for in the cache's folder `sources`.
    """
    clone = (sources or cache_dir() / "sources") / BOOKS.replace("/", "+")
    marked = _git(clone, "grep", "-lE", 'LANG="lat"', "HEAD", "--", "xml").split()
    cut, draw = random.Random(1), random.Random(0)
    by_author: dict[str, tuple[list, list]] = {}
    for path in sorted(marked):
        book = Path(path).stem
        head = _git(clone, "show", f"HEAD:headers.ecco/{book}.hdr")
        author = re.findall(r"<AUTHOR[^>]*>(.*?)</AUTHOR>", head, re.S)[0].strip().split(",")[0]
        year = re.findall(r"1[678]\d\d", re.findall(r"<DATE>(.*?)</DATE>", head)[-1])
        for number, page in enumerate(_pages(_git(clone, "show", f"HEAD:xml/{book}.xml"))):
            words = _excerpt(page, cut) if number >= 4 else []
            if len(words) >= 60:
                row = {"book": book, "image": number, "author": author, "year": int(year[0]), "words": words}
                by_author.setdefault(author, ([], []))[int(any(word[1] for word in words))].append(row)
    chosen = [row for author in sorted(by_author) for row in _chosen(*by_author[author], draw)]
    kept = [_row(i, row) for i, row in enumerate(chosen) if i not in LEFT_OUT]
    write_lines(folder / "latin-pages.jsonl.gz", ({"page": i} | row for i, row in enumerate(kept)))


def _git(clone: Path, *command: str) -> str:
    found = subprocess.run(["git", "-C", str(clone), *command], capture_output=True)
    if found.returncode:
        raise AssetError(f"{' '.join(command)} failed in {clone}; clone the GitHub repository {BOOKS} there")
    return found.stdout.decode("utf-8", "replace")


def _pages(text: str) -> list[tuple[list[Word], int]]:
    """The words of each page of a book, and how many passages were illegible."""
    text = re.sub(r"<!DOCTYPE[^>]*>", "", text)
    root = ElementTree.fromstring(re.sub(r"&(?!amp;|lt;|gt;|quot;|apos;|#)(\w+);", " ", text))
    pages: list[list] = [[[], 0]]
    count = block = 0

    def walk(element: ElementTree.Element, latin: bool | None, kind: str) -> None:
        nonlocal count, block
        tag, language = element.tag, element.get("LANG")
        if tag in ("TEMPHEAD", "IDG"):
            return
        if tag == "PB":
            pages.append([[], 0])
            return
        if tag == "GAP":
            pages[-1][1] += 1
            return
        if language:
            latin = language == "lat" if " " not in language else None
        elif tag in ("NOTE", "BIBL"):
            latin = False
        kind = {"NOTE": "foot" if element.get("PLACE") == "foot" else "marg", "EPIGRAPH": "epigraph"}.get(tag, kind)
        kind = "quote" if tag == "Q" and kind == "body" else "table" if tag in ("TABLE", "INDEX") else kind
        outer = block
        if tag in BLOCKS:
            count += 1
            block = count
        take = lambda part: pages[-1][0].extend((w, latin, kind, block) for w in (part or "").split())  # noqa: E731
        take(element.text)
        for child in element:
            walk(child, latin, kind)
            take(child.tail)
        if tag in BLOCKS:
            block = outer if tag == "NOTE" else count

    walk(root, False, "body")
    return [tuple(page) for page in pages]


def _excerpt(page: tuple[list[Word], int], rng: random.Random) -> list[Word]:
    """Up to 190 words around a page's first Latin ones; nothing of a page that is illegible or holds Greek."""
    words, gaps = page
    if len(words) < 60 or gaps:
        return []
    if len(words) > 190:
        hits = [i for i, word in enumerate(words) if word[1]]
        start = max(0, (hits[0] - rng.randrange(30, 110)) if hits else rng.randrange(len(words) - 160))
        words = words[start : start + 160]
    strange = any(ord(c) > 0x36F and c not in "—–’‘“”∣•" for word in words for c in word[0])
    return [] if strange or any(word[1] is None for word in words) else words


def _chosen(without: list[dict], having: list[dict], rng: random.Random) -> list[dict]:
    share = lambda row: round(sum(bool(w[1]) for w in row["words"]) / len(row["words"]), 2)  # noqa: E731
    partial, full = ([row for row in having if (share(row) < 0.95) is wanted] for wanted in (True, False))
    for rows in (partial, full, without):
        rng.shuffle(rows)
    some = (partial[:3] + full[:1])[:3] if len(partial) < 3 else partial[:3]
    return [*some, *without[: len(some)]] if some else []


def _row(number: int, row: dict) -> dict:
    words = [word[0].replace("∣", "").replace("¦", "") for word in row["words"]]
    latin = [int(bool(word[1])) for word in row["words"]]
    for first, last, value in CORRECTED.get(number, []):
        latin[first:last] = [value] * len(latin[first:last])
    if number in REFRAIN_PAGES:
        latin = [0 if word in REFRAIN else value for word, value in zip(words, latin)]
    if "Guades" in words:  # a line of Horace's repeated in a note
        latin[words.index("Guades") : words.index("Guades") + 2] = [1, 1]
    kept = [i for i, word in enumerate(words) if word == "&" or any(c.isalnum() for c in word)]
    of_tag = [row["words"][i][3] for i in kept]  # a paragraph that a note interrupts is two blocks
    block = list(itertools.accumulate((a != b for a, b in itertools.pairwise(of_tag)), initial=0))
    return {
        **{name: row[name] for name in ("book", "image", "author", "year")},
        "split": "pilot" if row["author"] in PILOTS else "test",
        "kind": [row["words"][i][2] for i in kept],
        "block": block,
        "words": [words[i].replace("{que}", "que") for i in kept],
        "latin": [latin[i] for i in kept],
    }
