"""Text sets: a line of JSON for each text."""

from __future__ import annotations

import gzip
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
