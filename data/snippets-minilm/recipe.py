"""MiniLM's vectors of the shipped snippets, on their first principal axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.zoo import embed_texts, load_data, load_model
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_arrays

DIMENSIONS = 96


@recipe("snippets-minilm")
def make(folder: Path) -> None:
    """Write the vectors as whole numbers of −127 … 127.

    `vectors` (N, 96) int8 times `scale` is the projection; `mean` (384,) and `axes` (96, 384) give it for other texts.
    """
    full = embed_texts(load_model("minilm-l6"), load_data("snippets").texts).double().numpy()
    mean = full.mean(0)
    _, directions = np.linalg.eigh(np.cov((full - mean).T))
    axes = directions[:, ::-1][:, :DIMENSIONS].T
    axes *= np.sign(axes[np.arange(DIMENSIONS), np.abs(axes).argmax(1)])[:, None]
    projected = (full - mean) @ axes.T
    scale = np.abs(projected).max() / 127
    arrays = {
        "vectors": np.rint(projected / scale).astype(np.int8),
        "scale": np.float32(scale),
        "mean": mean.astype(np.float32),
        "axes": axes.astype(np.float16),
    }
    write_arrays(folder / "snippets-minilm.npz", arrays)
