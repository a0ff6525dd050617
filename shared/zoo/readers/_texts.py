"""Text sets: a line of JSON for each text."""

from __future__ import annotations

import gzip
import hashlib
import json

from shared.zoo._assets import asset_dir
from shared.zoo._kinds import TextData
from shared.zoo._registry import reader


@reader("json_lines")
def json_lines(name: str, split: str) -> TextData:
    """A row for each line of the asset's gzipped JSON-lines file."""
    import pandas as pd

    with gzip.open(asset_dir(name) / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return TextData(name, split, pd.DataFrame([json.loads(line) for line in lines]))


@reader("wikipedia_leads")
def wikipedia_leads(name: str, split: str) -> TextData:
    """Article openings: title, text, description, topic. An article is in one split, by a hash of its title."""
    import pandas as pd

    articles = json.loads((asset_dir(name) / "summaries_en-us.json").read_text("utf-8"))
    rows = [
        {"title": title, "text": " ".join(article["extract"].split()), "description": article["description"] or ""}
        | {"topic": article["topic"]}
        for title, article in sorted(articles.items())
        if _article_split(title) == split
    ]
    return TextData(name, split, pd.DataFrame(rows))


def _article_split(title: str) -> str:
    """Eight tenths train, a tenth validation, a tenth test."""
    place = int.from_bytes(hashlib.sha256(title.encode("utf-8")).digest()[:8], "big") / 2**64
    return "train" if place < 0.8 else "validation" if place < 0.9 else "test"
