"""Positions and puzzles of several endings as arrays, filled up to as many pieces as the largest has; games."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from shared._checks import check_array, check_range
from shared.worlds.chess._endings import Ending
from shared.worlds.chess._moves import ending_tokens, mate_puzzles, move_effects, move_values, sample_positions


def _wide(rows: np.ndarray, pieces: int) -> np.ndarray:
    return np.concatenate([rows, np.full((len(rows), pieces - rows.shape[1], *rows.shape[2:]), -1, rows.dtype)], 1)


def _most(endings: Sequence[Ending]) -> int:
    if not endings:
        raise ValueError("endings is empty; at least one is needed")
    return max(1 + len(ending.kinds) for ending in endings)


def position_arrays(
    endings: Sequence[Ending],
    n: int,
    *,
    generator: np.random.Generator,
    held_out: bool | None = None,
    short: int = 5,
) -> dict[str, np.ndarray]:
    """Positions won for White, half of them near the mate, which are rare otherwise.

    Parameters
    ----------
    endings : sequence of Ending
    n : int
        Positions of each.
    generator : np.random.Generator
    held_out : bool, optional
        As for `sample_positions`.
    short : int
        Most moves to mate in the first half.

    Returns
    -------
    dict of np.ndarray
        `tokens` (N, pieces), -1 for no piece; `values` (N, pieces, 64), as `move_values` gives them; `check` and
        `safe` (N, pieces, 64), as `move_effects` gives them; `ending` (N,).
    """
    check_range("n", n, 2)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("tokens", "values", "check", "safe", "ending")}
    pieces = _most(endings)
    for number, ending in enumerate(endings):
        halves = ((1, short), n // 2), ((1, 99), n - n // 2)
        squares = np.concatenate(
            [sample_positions(ending, m, generator=generator, mate_in=span, held_out=held_out) for span, m in halves]
        )
        parts["tokens"].append(_wide(ending_tokens(ending, squares), pieces))
        parts["values"].append(_wide(move_values(ending, squares), pieces))
        for name, told in zip(("check", "safe"), move_effects(ending, squares)):
            parts[name].append(_wide(told.astype(np.int8), pieces))
        parts["ending"].append(np.full(n, number))
    return {key: np.concatenate(value) for key, value in parts.items()}


def puzzle_arrays(
    endings: Sequence[Ending], n: int, *, generator: np.random.Generator, moves: Sequence[int] = (2, 3, 4)
) -> dict[str, np.ndarray]:
    """Held-out mate puzzles, `mate_puzzles` of each ending and length.

    Parameters
    ----------
    endings : sequence of Ending
    n : int
        Puzzles of each ending and length, at most.
    generator : np.random.Generator
    moves : sequence of int
        White's moves to mate.

    Returns
    -------
    dict of np.ndarray
        `tokens` (N, most moves, pieces) of the positions in which White moves, `values` (N, most moves, pieces, 64),
        both -1 behind a puzzle's end; `moves` (N,); `ending` (N,).
    """
    check_range("n", n, 1)
    rows: dict[str, list] = {"tokens": [], "values": [], "moves": [], "ending": []}
    pieces = _most(endings)
    for number, ending in enumerate(endings):
        for length in moves:
            for puzzle in mate_puzzles(ending, n, moves=length, generator=generator):
                blank = ((0, max(moves) - length), (0, 0))
                tokens = _wide(ending_tokens(ending, puzzle.line), pieces)
                rows["tokens"].append(np.pad(tokens, blank, constant_values=-1))
                rows["values"].append(np.pad(_wide(puzzle.values, pieces), (*blank, (0, 0)), constant_values=-1))
                rows["moves"].append(length)
                rows["ending"].append(number)
    return {key: np.stack(value) for key, value in rows.items()}


def play_ending(
    ending: Ending,
    squares: np.ndarray,
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    longest: int = 50,
) -> np.ndarray:
    """White's games against the longest defence, from each position.

    Parameters
    ----------
    ending : Ending
    squares : np.ndarray of int, shape (n, 2 + pieces)
        White to move, as for `move_values`.
    choose : callable
        White: from tokens (m, 2 + pieces) and `move_values` (m, 2 + pieces, 64) of the games that go on to moves (m,),
        each 64 · piece + target square.
    longest : int
        White's moves; what isn't mate by then is not won.

    Returns
    -------
    np.ndarray of bool, shape (n,)
        Whether White mates. Letting the win go ends a game, and so does taking a piece.

    Raises
    ------
    ValueError
        For a choice that is no legal move.
    """
    check_range("longest", longest, 1)
    values = move_values(ending, squares)
    squares, won, alive = squares.copy(), np.zeros(len(squares), bool), np.arange(len(squares))
    for _ in range(longest):
        if not len(alive):
            break
        row = np.arange(len(alive))
        move = np.asarray(choose(ending_tokens(ending, squares[alive]), values))
        check_array("choose's answer", move, (len(alive),))
        piece, target = np.divmod(move, 64)
        worth = values[row, piece, target]
        if (worth < 0).any():
            raise ValueError("choose gives a move that isn't legal; accepted: 64 * piece + target where values >= 0")
        won[alive[worth == 1]] = True
        take = (squares[alive] == target[:, None]).any(1)
        squares[alive, piece] = target
        alive = alive[(worth > 1) & ~take]
        if not len(alive):
            break
        answer = move_values(ending, squares[alive], to_move="black").reshape(len(alive), -1)
        piece, target = np.divmod(answer.argmax(1), 64)
        squares[alive, piece] = target
        values = move_values(ending, squares[alive])
    return won
