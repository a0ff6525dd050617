"""Tiny stand-ins: a ResNet with bottlenecks, photographs of several sizes and masks in PASCAL's colours."""

import io
from pathlib import Path

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet

from tests.papers.hub import data_folder, tiny_resnet

N, COLOURS = 36, ((0, 0, 0), (128, 0, 0), (0, 64, 128), (224, 224, 192))  # background, classes 1 and 20, the seam


def build(hub: Path) -> None:
    tiny_resnet(
        hub / "microsoft" / "resnet-50",
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="bottleneck",
        num_labels=1000,
    )
    rng = np.random.default_rng(0)
    rows = [scene(rng, i) for i in range(N)]
    table = pyarrow.table({name: [row[name] for row in rows] for name in ("image", "mask")})
    folder = data_folder(hub, "nateraw/pascal-voc-2012") / "data"
    folder.mkdir(parents=True)
    parquet.write_table(table, folder / "train-00000-of-00001.parquet")
    parquet.write_table(table.slice(0, 4), folder / "val-00000-of-00001.parquet")


def scene(rng: np.random.Generator, i: int) -> dict[str, dict]:
    """A photograph with one object, some of them grey, and its mask as a palette image with a seam."""
    height, width = 40 + i % 7, 50 - i % 5
    mask = np.zeros((height, width), np.uint8)
    mask[8:30, 8:30] = 3
    mask[10:28, 10:28] = 1 + (i % 2)
    picture = Image.fromarray(mask, "P")
    picture.putpalette([value for colour in COLOURS for value in colour])
    photo = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return {"image": encoded(photo.convert("L") if i == 2 else photo, "JPEG"), "mask": encoded(picture, "PNG")}


def encoded(image: Image.Image, kind: str) -> dict:
    file = io.BytesIO()
    image.save(file, kind)
    return {"bytes": file.getvalue(), "path": f"image.{kind.lower()}"}


PARAMETERS = {
    **{"n_draws": 1, "n_masks": [4, 8], "n_partial": 4, "steps": {"unrolled": 2, "U-Net": 2, "multi-task U-Net": 2}},
    **{"n_images": 28, "n_test": 8, "side": 64, "pretraining": 1, "batch_size": 4, "class_batch": 11},
}
