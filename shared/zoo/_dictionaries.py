"""Where sparse dictionaries of activations lie; `shared.sae` reads them."""

from __future__ import annotations

from pathlib import Path

from shared._checks import check_choice
from shared.zoo._assets import AssetError
from shared.zoo._cards import all_cards
from shared.zoo._hub import hub_folder
from shared.zoo._models import SHIPPED, _shipped_dir


def dictionary_folder(name: str) -> Path:
    """Folder of a dictionary's weights and configuration, for `sae.load` and its kin.

    name : `"<zoo entry>/<dictionary>"` (such as "clip-shapes-saes/topk-3"; the files have the digests of the entry's
    card), a local folder, or a hub id. Raises `UnknownNameError` or `AssetError`, in one line, when there is none.
    """
    entry, _, part = name.partition("/")
    sets = {card.name: card for card in all_cards().values() if card.task == "dictionaries"}
    if entry not in sets:
        if name.count("/") != 1 and not Path(name).is_dir():
            check_choice("name", name, [f"{known}/{one}" for known in sets for one in _parts(sets[known].sha256)])
        return hub_folder(name, "dictionary")
    check_choice("name", name, [f"{entry}/{one}" for one in _parts(sets[entry].sha256)])
    folder = _shipped_dir(entry) / part
    if not folder.is_dir():
        raise AssetError(f"{SHIPPED.name}/{name} is missing; restore it (`git checkout data`)")
    return folder


def _parts(files: dict[str, str]) -> list[str]:
    return sorted({file.partition("/")[0] for file in files})
