"""The shipped weather table: UCI's file without station, date and rows with a gap, as an npz."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._wheels import pinned_file

COMMIT = "c8b024ab5187d4e247bd67481b424f34c2caf4d9"
REPOSITORY = "florianbley/Explaining_predictive_uncertainty_by_exposing_second_order_effects"
ADDRESS = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/datasets/Bias%20Correction/Bias_correction_ucl.csv"
DIGEST = "f1e630ba9a637e9dae3e2c75c9ec46c50c7f3a54377fc177dce6557f08676552"
TARGETS = ("Next_Tmax", "Next_Tmin")
LEFT_OUT = ("station", "Date", *TARGETS)


@recipe("bias-correction")
def make(folder: Path) -> None:
    """Write features, targets and their names; needs the network once."""
    write_arrays(folder / "bias-correction.npz", read(pinned_file(ADDRESS, DIGEST).decode()))


def read(text: str) -> dict[str, np.ndarray]:
    """The arrays of the CSV: rows in its order, which is that of the days."""
    names, *rows = csv.reader(io.StringIO(text))
    whole = [row for row in rows if row and not {"", "NaN"} & set(row)]  # the last two, without a day, hold extremes
    table = np.array(whole)
    features = [name for name in names if name not in LEFT_OUT]
    x, y = (table[:, [names.index(name) for name in chosen]].astype(np.float32) for chosen in (features, TARGETS))
    return {
        "x": np.asfortranarray(x),  # column by column it packs smaller
        "y": np.asfortranarray(y),
        "features": np.array(features),
        "targets": np.array(TARGETS),
    }
