"""Image sets: shipped arrays, and the pictures that packages carry."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from shared._checks import check_choice
from shared.compendium.paths import sha256
from shared.zoo._assets import AssetError, asset_arrays
from shared.zoo._kinds import ImageData, PhotoData
from shared.zoo._registry import reader

FASHION_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
FASHION_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts its files
FASHION_IDX = {  # the IDX files of both splits with their digests: images, labels
    "train": {
        "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    },
    "test": {
        "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    },
}
PHOTOS = (  # scikit-image's and scikit-learn's pictures that their wheels carry
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "china",
    "coffee",
    "coins",
    "flower",
    "grass",
    "gravel",
    "hubble_deep_field",
    "rocket",
)


@reader("fashion_arrays")
def fashion_arrays(name: str, split: str, *, full: bool = False, folder: str | Path | None = None) -> ImageData:
    """The shipped balanced subset (6,000 and 2,000 images), or with `full` the whole set (60,000 and 10,000)."""
    if full or folder:
        images, labels = read_fashion_idx(split, Path(folder or FASHION_DEBIAN))
    else:
        arrays = asset_arrays(name)
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    x = torch.from_numpy(images).unsqueeze(1).float().div_(255)
    return ImageData(name, split, x, torch.from_numpy(labels).long(), FASHION_CLASSES)


def read_fashion_idx(split: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The whole split from IDX files, checked by digest: images (N, 28, 28) and labels (N,), both uint8."""
    arrays = []
    for (file, digest), header in zip(FASHION_IDX[split].items(), (16, 8)):
        path = folder / file
        if not path.is_file():
            raise AssetError(
                f"the whole Fashion-MNIST isn't on this machine ({file}); `apt-get install dataset-fashion-mnist`, "
                f"or folder=… with the four IDX files"
            )
        if sha256(path) != digest:
            raise AssetError(f"{file} hasn't the sha256 it should have; get it anew")
        arrays.append(np.frombuffer(bytearray(gzip.decompress(path.read_bytes())), np.uint8, offset=header))
    return arrays[0].reshape(-1, 28, 28), arrays[1]


@reader("sample_photos")
def sample_photos(name: str, split: str, *, names: Sequence[str] = PHOTOS) -> PhotoData:
    """Pictures (3, H, W) of their own sizes; grey ones are repeated in three channels."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    images = []
    for photo in names:
        check_choice("names", photo, PHOTOS)
        pixels = load_sample_image(f"{photo}.jpg") if photo in ("china", "flower") else getattr(skimage.data, photo)()
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        images.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div_(255))
    return PhotoData(name, split, images, names=tuple(names))
