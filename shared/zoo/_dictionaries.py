"""Where sparse dictionaries of activations lie; `shared.sae` reads them."""

from __future__ import annotations

from pathlib import Path

from shared._checks import check_choice
from shared.zoo._assets import asset_dir
from shared.zoo._cards import Card, all_cards
from shared.zoo.hub._fetch import hub_folder


def dictionary_folder(name: str) -> Path:
    """Where a dictionary's weights and configuration lie, for `sae.load` and its kin.

    Parameters
    ----------
    name : `"<asset>/<dictionary>"` (such as "clip-shapes-saes/topk-3"), a local folder, or a hub id.

    Returns
    -------
    The folder; a shipped one's files have the digests of the asset's card.

    Raises
    ------
    UnknownNameError, AssetError
        When there is none.
    """
    asset, _, part = name.partition("/")
    sets = {card.name: card for card in all_cards().values() if card.loader == "dictionary_folder"}
    if asset not in sets:
        if name.count("/") != 1 and not Path(name).is_dir():
            check_choice("name", name, [f"{known}/{one}" for known, card in sets.items() for one in dictionaries(card)])
        return hub_folder(name, "dictionary")
    check_choice("name", name, [f"{asset}/{one}" for one in dictionaries(sets[asset])])
    return asset_dir(asset) / part


def dictionaries(card: Card) -> list[str]:
    """Names of the dictionaries of a set."""
    return sorted({file.partition("/")[0] for file in card.sha256})
