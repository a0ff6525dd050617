"""`load_data`: images, photos and tables by one call."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared._checks import check_choice
from shared.compendium.paths import DATA, sha256
from shared.zoo._assets import AssetError
from shared.zoo._cards import all_cards, names
from shared.zoo._hub import hub_folder, is_hub_name
from shared.zoo._tables import read_folder
from shared.zoo._text import read_texts

FASHION_FILE = DATA / "fashion-mnist.npz"
PBMC_FILE = DATA / "pbmc68k_reduced.npz"
TEXTILE_FILE = DATA / "textiles.npz"
TEXTILE_CLASSES = ("nominal", "local", "global")
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
TABLES = ("breast-cancer", "diabetes", "digits", "wine")
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


@dataclass(frozen=True)
class Data:
    """One split of a data set.

    `x`: images (N, C, H, W) in [0, 1]; photos a list of (3, H, W); tables (N, D); hub tables a pandas DataFrame.
    `y`: (N,) classes (int64) or targets (float), or None. `classes` name y's values, `features` x's columns,
    `names` the rows.
    """

    name: str
    split: str
    x: Any = field(repr=False)
    y: Tensor | None = field(default=None, repr=False)
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = field(default=None, repr=False)
    names: tuple[str, ...] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.x)


def available_data() -> list[str]:
    """Names of the zoo's data sets; hub ids (`org/name`) and local folders work besides."""
    return names("data")


def load_data(name: str, split: str | None = None, **options: Any) -> Data:
    """Load one split of a data set.

    - `"fashion-mnist"`: splits train and test. The shipped balanced subset (6,000 and 2,000 images), or with
      `full=True` the whole set (60,000 and 10,000) from Debian's package `dataset-fashion-mnist` or `folder=…`.
    - `"photos"`: split all. `names=[…]` picks some of the pictures.
    - `"textiles"`: split all, 500 grey pictures (96×96) of simulated woven fabric: nominal, with a local or with a
      global defect. `classes=["nominal", "global"]` picks some, and y counts them from 0.
    - `"digits"`, `"breast-cancer"`, `"wine"`, `"diabetes"`: splits train (80 %), test and all; `random_state=0` splits
      them, by class where there are classes; not standardised.
    - `"pbmc68k_reduced"`: split all, 700 blood cells by 50 principal components; `target=` picks y: the cell type
      `"bulk_labels"` (default), `"louvain"`, `"phase"`, or a number per cell: `"n_genes"`, `"n_counts"`,
      `"percent_mito"`, `"S_score"`, `"G2M_score"`.
    - text sets (`"snippets"`, `"smollm2-outputs"`): split all; x a pandas DataFrame, one row per text.
      `"snippets-minilm"`: x the sentence vectors (N, 96) of the rows of `"snippets"`.
    - `"concept-sentences"`: split all; x hidden states (N, 576) of SmolLM2-135M, y (N, 6) the grammar's labels, whose
      names are `classes`; the sentences are `names`.
    - a hub id `org/name` or a local folder with parquet, JSON-lines or npz files; `revision=…`, `rows=…`
      reads the first rows only.

    `split=None` means train, or all where there is no other. Raises `UnknownNameError` for an unknown name or split,
    `TypeError` for an unknown option and `AssetError` for data that isn't on this machine (saying how to get it).
    """
    if name not in available_data():
        if not is_hub_name(name):
            check_choice("name", name, available_data())
        return _hub(name, split, **options)
    if name == "fashion-mnist":
        return _fashion(split, **options)
    if name == "pbmc68k_reduced":
        return _pbmc(split, **options)
    if name == "textiles":
        return _textiles(split, **options)
    if name == "concept-sentences":
        return _states(name, split)
    if all_cards()[name].task == "text":
        return _text(name, split, **options)
    if name == "snippets-minilm":
        return _vectors(name, split, **options)
    return _photos(split, **options) if name == "photos" else _table(name, split, **options)


def _fashion(split: str | None, full: bool = False, folder: str | Path | None = None) -> Data:
    split = check_choice("split", split or "train", ["train", "test"])
    if full or folder:
        images, labels = read_fashion_idx(split, Path(folder or FASHION_DEBIAN))
    else:
        with np.load(_shipped("fashion-mnist", FASHION_FILE), allow_pickle=False) as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    x = torch.from_numpy(images).unsqueeze(1).float().div_(255)
    return Data("fashion-mnist", split, x, torch.from_numpy(labels).long(), FASHION_CLASSES)


def _shipped(name: str, file: Path) -> Path:
    """A file of the repository, checked against its card."""
    if not file.is_file() or sha256(file) != all_cards()[name].sha256[file.name]:
        raise AssetError(f"data/{file.name} is missing or changed; restore it (`git checkout data`)")
    return file


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


def _photos(split: str | None, names: list[str] | tuple[str, ...] = PHOTOS) -> Data:
    import skimage.data
    from sklearn.datasets import load_sample_image

    split = check_choice("split", split or "all", ["all"])
    images = []
    for name in names:
        check_choice("names", name, PHOTOS)
        pixels = load_sample_image(f"{name}.jpg") if name in ("china", "flower") else getattr(skimage.data, name)()
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        images.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div_(255))
    return Data("photos", split, images, names=tuple(names))


def _textiles(split: str | None, classes: list[str] | tuple[str, ...] = TEXTILE_CLASSES) -> Data:
    split = check_choice("split", split or "all", ["all"])
    kinds = [TEXTILE_CLASSES.index(check_choice("classes", kind, TEXTILE_CLASSES)) for kind in classes]
    with np.load(_shipped("textiles", TEXTILE_FILE), allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    rows = np.concatenate([np.flatnonzero(labels == kind) for kind in kinds])
    y = torch.tensor([kinds.index(kind) for kind in labels[rows].tolist()])
    x = torch.from_numpy(images[rows]).unsqueeze(1).float().div_(63)  # 64 grey levels
    return Data("textiles", split, x, y, tuple(classes))


def _pbmc(split: str | None, target: str = "bulk_labels") -> Data:
    split = check_choice("split", split or "all", ["all"])
    with np.load(_shipped("pbmc68k_reduced", PBMC_FILE), allow_pickle=False) as arrays:
        known = [name for name in arrays.files if name != "pca" and not name.endswith("_names")]
        y = arrays[check_choice("target", target, known)]
        classes = tuple(map(str, arrays[f"{target}_names"])) if f"{target}_names" in arrays.files else None
        x = arrays["pca"]
    features = tuple(f"PC{i + 1}" for i in range(x.shape[1]))
    y = torch.from_numpy(y).float() if classes is None else torch.from_numpy(y).long()
    return Data("pbmc68k_reduced", split, torch.from_numpy(x), y, classes, features)


def _text(name: str, split: str | None) -> Data:
    split = check_choice("split", split or "all", ["all"])
    return Data(name, split, read_texts(_shipped(name, DATA / f"{name}.jsonl.gz")))


def _vectors(name: str, split: str | None) -> Data:
    split = check_choice("split", split or "all", ["all"])
    with np.load(_shipped(name, DATA / f"{name}.npz"), allow_pickle=False) as arrays:
        return Data(name, split, torch.from_numpy(arrays["vectors"].astype(np.float32) * arrays["scale"]))


def _states(name: str, split: str | None) -> Data:
    split = check_choice("split", split or "all", ["all"])
    with np.load(_shipped(name, DATA / f"{name}.npz"), allow_pickle=False) as arrays:
        x = torch.from_numpy(arrays["vectors"].astype(np.float32) * arrays["scale"] + arrays["mean"])
        y, texts = torch.from_numpy(arrays["labels"]).long(), tuple(map(str, arrays["texts"]))
        return Data(name, split, x, y, tuple(map(str, arrays["concepts"])), names=texts)


def _table(name: str, split: str | None, random_state: int = 0) -> Data:
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    split = check_choice("split", split or "train", ["train", "test", "all"])
    bunch = getattr(datasets, f"load_{name.replace('-', '_')}")()
    x, y, classes = bunch.data, bunch.target, getattr(bunch, "target_names", None)
    if split != "all":
        rows = np.arange(len(x))
        stratify = None if classes is None else y
        train, test = train_test_split(rows, test_size=0.2, random_state=random_state, stratify=stratify)
        rows = np.sort(train if split == "train" else test)
        x, y = x[rows], y[rows]
    return Data(
        name,
        split,
        torch.from_numpy(x).float(),
        torch.from_numpy(y).float() if classes is None else torch.from_numpy(y).long(),
        None if classes is None else tuple(map(str, classes)),
        tuple(map(str, bunch.feature_names)),
    )


def _hub(name: str, split: str | None, revision: str | None = None, rows: int | None = None) -> Data:
    split = split or "train"
    x, y, classes = read_folder(hub_folder(name, "data", revision, split), split, name, rows)
    return Data(name, split, x, y, classes)
