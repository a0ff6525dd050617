"""`load_data`: data sets by name, each kind with a type of its own (`shared.zoo._kinds`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared._checks import check_choice
from shared.zoo import readers  # noqa: F401  (registers them)
from shared.zoo._cards import Card, all_cards, names
from shared.zoo._kinds import Data
from shared.zoo._registry import reader
from shared.zoo.hub._fetch import is_hub_name
from shared.zoo.hub._tables import load_hub_data


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
    name : one of `available_data()`; a hub id `org/name`, or `org/name:config` of one with several configurations; or a
        local folder. These may hold parquet, JSON lines, webdataset archives (.tar) or npz files, in any number of
        shards.
    split : None means the card's first split; of a hub's data set, train.
    **options : the card's (`print(describe(name))` lists splits and options); of a hub's data set `revision`, `rows` to
        fetch and read the first rows only, and `columns`, such as {"image": "scan", "label": None}, where the columns
        of images, labels or texts don't have a usual name.

    Returns
    -------
    `ImageData`, `PhotoData`, `TableData`, `ArrayData`, `FrameData` or `TextData`.

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
    whole, _, config = (name, "", "") if Path(name).is_dir() else name.partition(":")
    if not is_hub_name(whole):
        check_choice("name", name, available_data())
    return load_hub_data(whole, split or "train", config=config or None, **options)


def _check_options(card: Card, options: dict[str, Any]) -> None:
    if unknown := sorted(options.keys() - card.options):
        raise TypeError(f"{card.name} has no option {', '.join(unknown)}; it has {', '.join(card.options) or 'none'}")
