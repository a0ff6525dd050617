"""Nothing from a hub: the network of SIM350 is shipped. Few steps, and sub-networks of it."""

from pathlib import Path

PARAMETERS = {
    "n_worlds": 2,
    "n_pilots": 2,
    "n_genes": 24,
    "n_hidden": 4,
    "n_paths": 4,
    "n_test": 2,
    "n_steps": 8,
    "firsts": [1, 2, 3],
}


def build(hub: Path) -> None:
    """No model and no data set of the hub is named."""
