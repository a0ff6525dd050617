"""Stand-in for the chess logit lens's paper scale: one ending, solved here, and few of its puzzles and games."""

from __future__ import annotations

from pathlib import Path

PARAMETERS = {
    **{"endings": ["R"], "n_puzzles": 12, "n_positions": 12, "n_games": 2, "longest_game": 3, "readout_steps": 2},
}


def build(hub: Path) -> None:
    """Nothing to write: the network is shipped."""
