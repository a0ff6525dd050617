"""Nothing from a hub: the network of SIM350 is shipped. Few steps, and sub-networks of it."""

from pathlib import Path

PARAMETERS = {
    "n_worlds": 2,
    "n_pilots": 2,
    "n_genes": 30,
    "n_hidden": 6,
    "n_paths": 4,
    "n_steps": 24,
    "firsts": [3, 5, 8],
}


def build(hub: Path) -> None:
    """No model and no data set of the hub is named."""
