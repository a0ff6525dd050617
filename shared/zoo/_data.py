"""`load_data`: data sets by name, each kind with a type of its own (`shared.zoo._kinds`)."""

from __future__ import annotations

from typing import Any

from shared._checks import check_choice
from shared.zoo import readers  # noqa: F401  (registers them)
from shared.zoo._cards import Card, all_cards, names
from shared.zoo._hub import hub_folder, is_hub_name
from shared.zoo._kinds import Data, FrameData, ImageData, PhotoData, TableData, TextData
from shared.zoo._registry import reader
from shared.zoo._tables import read_folder


def available_data() -> list[str]:
    """The zoo's data sets; hub ids (`org/name`) and local folders work besides.

    Returns
    -------
    Names, sorted.
    """
    return names("data")


def load_data(name: str, *, split: str | None = None, **options: Any) -> Data:
    """Load one split of a data set.

    Parameters
    ----------
    name : one of `available_data()`; a hub id `org/name`; or a local folder with parquet, JSON-lines or npz files.
    split : None means the card's first split; of a hub's data set, train.
    **options : the card's (`print(describe(name))` lists splits and options); of a hub's data set `revision`, and
        `rows` to read the first rows only.

    Returns
    -------
    `ImageData`, `PhotoData`, `TableData`, `FrameData` or `TextData`.

    Raises
    ------
    UnknownNameError
        For an unknown name, split or choice.
    TypeError
        For an unknown option.
    AssetError
        For data that isn't on this machine; says how to get it.
    """
    if name in available_data():
        card = all_cards()[name]
        split = check_choice("split", split or card.splits[0], card.splits)
        _check_options(card, options)
        return reader[card.reader](name, split, **options)
    if not is_hub_name(name):
        check_choice("name", name, available_data())
    return _hub(name, split or "train", **options)


def _check_options(card: Card, options: dict[str, Any]) -> None:
    if unknown := sorted(options.keys() - card.options):
        raise TypeError(f"{card.name} has no option {', '.join(unknown)}; it has {', '.join(card.options) or 'none'}")


def _hub(name: str, split: str, *, revision: str | None = None, rows: int | None = None) -> Data:
    """What the folder of a hub id holds, as the kind of data that it is."""
    folder = hub_folder(name, "data", revision=revision, split=split)
    x, y, classes = read_folder(folder, split, name, rows)
    if isinstance(x, list):
        return PhotoData(name, split, x, y, classes)
    if not hasattr(x, "columns"):
        return ImageData(name, split, x, y, classes) if x.ndim == 4 else TableData(name, split, x, y, classes)
    return TextData(name, split, x) if "text" in x else FrameData(name, split, x)
