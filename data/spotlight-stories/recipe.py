"""The published stories of Spotlight's first benchmark: 750 answers of Llama-2-7b-chat to one prompt."""

from __future__ import annotations

import json
import tempfile
import urllib.request
from pathlib import Path

from shared.compendium.paths import sha256
from shared.zoo import AssetError
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_lines

COMMIT = "ce0d1e5debdb5c7ec7921f0ae6f28e90a3e4e2a2"  # of GitHub mainlp/spotlight
FILE = "data/1.%20Benchmarks/Benchmark%201/Data/generated_outputs.json"
SOURCE = f"https://raw.githubusercontent.com/mainlp/spotlight/{COMMIT}/{FILE}"
SOURCE_SHA256 = "f4fe167616d27a48de9941eaa14ebdfa5ec44af78f146806fb07ad4703e7ef83"


@recipe("spotlight-stories")
def make(folder: Path, *, published: Path | None = None) -> None:
    """Write prompt and text of each story, in the published order, from which the benchmark's sets are cut.

    `published` is the authors' file; without it it is fetched. `AssetError` if its digest differs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        published = published or _download(Path(scratch) / "generated_outputs.json")
        if sha256(published) != SOURCE_SHA256:
            raise AssetError(f"{published.name} hasn't the sha256 it should have; get it anew from {SOURCE}")
        answers = json.loads(published.read_text(encoding="utf-8"))["prompt_1"]
    rows = [{"prompt": answers["prompt"], "text": text} for text in answers["outputs"]]
    write_lines(folder / "spotlight-stories.jsonl.gz", rows)


def _download(file: Path) -> Path:
    try:
        with urllib.request.urlopen(SOURCE, timeout=60) as answer:
            file.write_bytes(answer.read())
    except OSError:
        raise AssetError(f"{SOURCE} can't be fetched; run once with a network") from None
    return file
