"""Stand-ins for what SLUG's paper.yml names on the hub; tests/papers/hub.py has tiny models and data of all kinds."""

from pathlib import Path

PARAMETERS = {"n_repeats": 50}  # overrides of paper.yml that only shrink loops


def build(hub: Path) -> None:
    """Write tiny models and data of the same architectures and layouts under their hub ids. The template needs none."""
