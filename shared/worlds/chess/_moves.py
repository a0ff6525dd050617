"""Moves in solved endings: what each is worth, lines of best play, puzzles, and positions kept away from training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shared._checks import check_array, check_choice, check_range
from shared.worlds.chess._endings import TRIANGLE, Ending, _symmetries, rays, solve_ending

ILLEGAL = -1  # 0 is a move that lets the win go (White's), or that escapes (Black's)


def move_values(ending: Ending, squares: np.ndarray, *, to_move: str = "white") -> np.ndarray:
    """The worth of every move of one side.

    Parameters
    ----------
    ending : Ending
    squares : np.ndarray of int, shape (n, 2 + pieces)
        Of the black king, the white king, White's pieces and Black's.
    to_move : "white" or "black"

    Returns
    -------
    np.ndarray of int8, shape (n, 2 + pieces, 64)
        By piece and target square. -1: no legal move. 0: White doesn't win after it. Else White's moves to mate,
        White's own move included.

    Raises
    ------
    ValueError
        For squares of another ending, or off the board.
    """
    check_choice("to_move", to_move, ("white", "black"))
    _check_squares(ending, squares)
    n, pieces = squares.shape
    out = np.full((n, pieces, 64), ILLEGAL, np.int8)
    mine, theirs = _sides(ending)
    if to_move == "black":
        mine, theirs = theirs, mine
    for piece in mine:
        for rows, targets, taken in _steps(ending, squares, piece, mine, theirs):
            after = squares[rows].copy()
            after[:, piece] = targets
            out[rows, piece, targets] = _worth(ending, after, taken, to_move)
    return out


def move_effects(ending: Ending, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What White's moves do besides their worth: whether they give check, and whether nothing can be taken in reply.

    Parameters
    ----------
    ending : Ending
    squares : np.ndarray of int, shape (n, 2 + pieces)
        White to move, as for `move_values`.

    Returns
    -------
    check, safe : np.ndarray of bool, shape (n, 2 + pieces, 64)
        By piece and target square; False for no legal move.
    """
    _check_squares(ending, squares)
    check, safe = (np.zeros((*squares.shape, 64), bool) for _ in range(2))
    mine, theirs = _sides(ending)
    for piece in mine:
        for rows, targets, taken in _steps(ending, squares, piece, mine, theirs):
            after, rest = squares[rows].copy(), ending
            after[:, piece] = targets
            if taken is not None:
                after, rest = np.delete(after, taken, axis=1), _without(ending, taken)
            legal = rest.look_up(after, to_move="black") > -2
            check[rows, piece, targets] = legal & (rest.look_up(after) == ILLEGAL)  # were it White's turn again
            safe[rows, piece, targets] = legal & ~_can_take(rest, after)
    return check, safe


def _can_take(ending: Ending, squares: np.ndarray) -> np.ndarray:
    """Whether Black, to move, has a legal move that takes a piece."""
    values = move_values(ending, squares, to_move="black")
    whites = squares[:, None, _sides(ending)[0]]
    return (np.take_along_axis(values, whites, 2) > ILLEGAL).any((1, 2))


def _sides(ending: Ending) -> tuple[list[int], list[int]]:
    """White's columns of `squares`, and Black's."""
    first_black = 2 + len(ending.white)
    return [*range(1, first_black)], [0, *range(first_black, 1 + len(ending.kinds))]


def _check_squares(ending: Ending, squares: np.ndarray) -> None:
    check_array("squares", squares, ("n", 1 + len(ending.kinds)))
    if squares.min() < 0 or squares.max() > 63:
        raise ValueError(f"squares holds {squares.min()} to {squares.max()}; accepted: 0 (a1) to 63 (h8)")


def _steps(
    ending: Ending, squares: np.ndarray, piece: int, mine: list[int], theirs: list[int]
) -> Iterator[tuple[np.ndarray, np.ndarray, int | None]]:
    """Moves of one piece in all positions at once: rows, targets, and which piece is taken."""
    paths = rays(("K" + ending.kinds)[piece])[squares[:, piece]]  # (n, directions, reach)
    for d in range(paths.shape[1]):
        open_ = np.ones(len(squares), bool)
        for target in paths[:, d].T:
            hit = squares == target[:, None]
            open_ = open_ & (target >= 0) & ~hit[:, mine].any(1)
            for other in theirs:
                rows = np.flatnonzero(open_ & hit[:, other])
                if len(rows) and other > 1:  # kings aren't taken
                    yield rows, target[rows], other
            open_ = open_ & ~hit.any(1)
            rows = np.flatnonzero(open_)
            if len(rows):
                yield rows, target[rows], None


def _worth(ending: Ending, after: np.ndarray, taken: int | None, to_move: str) -> np.ndarray:
    other = "black" if to_move == "white" else "white"
    if taken is not None:
        after = np.delete(after, taken, axis=1)
        ending = _without(ending, taken)
    value = ending.look_up(after, to_move=other)
    if to_move == "black":
        return value
    return value + np.int8(1)  # no legal position, not lost, lost in n: to no legal move, 0, n + 1


def _without(ending: Ending, taken: int) -> Ending:
    i, whites = taken - 2, len(ending.white)
    white = ending.white[:i] + ending.white[i + 1 :] if i < whites else ending.white
    black = ending.black if i < whites else ending.black[: i - whites] + ending.black[i - whites + 1 :]
    return solve_ending(white, black=black)


def sample_positions(
    ending: Ending,
    n: int,
    *,
    generator: np.random.Generator,
    mate_in: tuple[int, int] = (1, 99),
    held_out: bool | None = None,
) -> np.ndarray:
    """Legal positions won for White, White to move, uniform over the table and turned at random.

    Parameters
    ----------
    ending : Ending
    n : int
    generator : np.random.Generator
    mate_in : (int, int)
        Fewest and most moves to mate.
    held_out : bool, optional
        Only positions that `is_held_out` says True (or False) of.

    Returns
    -------
    np.ndarray of int, shape (n, 2 + pieces)
        With repetition; squares as `move_values` takes them.
    """
    check_range("n", n, 1)
    fits = np.flatnonzero((ending.mate_in >= max(mate_in[0], 1)) & (ending.mate_in <= mate_in[1]))
    if not len(fits):
        raise ValueError(
            f"mate_in={mate_in!r}: this ending has no such position; its longest is {ending.mate_in.max()}"
        )
    out = np.empty((0, 1 + len(ending.kinds)), int)
    while len(out) < n:
        chosen = np.stack(np.unravel_index(generator.choice(fits, 2 * n), ending.mate_in.shape), 1)
        chosen[:, 0] = np.array(TRIANGLE)[chosen[:, 0]]
        if held_out is not None:
            chosen = chosen[is_held_out(ending, chosen) == held_out]
        turned = _symmetries()[generator.integers(8, size=len(chosen))]
        out = np.concatenate([out, np.take_along_axis(turned, chosen, 1)])
    return out[:n]


def is_held_out(ending: Ending, squares: np.ndarray, *, one_in: int = 8) -> np.ndarray:
    """Whether a position belongs to the part that training leaves out, with all that are the same by symmetry.

    Parameters
    ----------
    ending : Ending
    squares : np.ndarray of int, shape (n, 2 + pieces)
    one_in : int
        The part left out is one in so many.

    Returns
    -------
    np.ndarray of bool, shape (n,)
    """
    _check_squares(ending, squares)
    check_range("one_in", one_in, 1)
    return (_codes(ending, squares) * 2654435761 % 2**32 >> 8) % one_in == 0


def _codes(ending: Ending, squares: np.ndarray) -> np.ndarray:
    """One number per position, the same for all that are the same by symmetry."""
    images = np.moveaxis(_symmetries()[:, squares], 0, 1).astype(np.int64)  # (n, 8, pieces)
    for i, kind in enumerate(ending.kinds[1:-1], 2):
        if kind == ending.kinds[i] and i + 1 != 2 + len(ending.white):  # two alike of one side: in order
            images[..., i : i + 2].sort(-1)
    return (images * 64 ** np.arange(squares.shape[1])).sum(-1).min(1)


@dataclass(frozen=True, eq=False)
class Puzzle:
    """A mate against the longest defence.

    Parameters
    ----------
    line : np.ndarray of int, shape (moves, 2 + pieces)
        The positions in which White moves; each follows from the one before by a best move of either side.
    values : np.ndarray of int8, shape (moves, 2 + pieces, 64)
        `move_values` of these positions.
    """

    line: np.ndarray
    values: np.ndarray

    @property
    def solutions(self) -> np.ndarray:
        """The moves that mate soonest, bool, shape (moves, 2 + pieces, 64)."""
        return best_moves(self.values)


def best_moves(values: np.ndarray) -> np.ndarray:
    """White's moves that mate soonest.

    Parameters
    ----------
    values : np.ndarray of int8, shape (n, pieces, 64)
        White's `move_values`.

    Returns
    -------
    np.ndarray of bool, shape (n, pieces, 64)
        No move of a position that isn't won.
    """
    check_array("values", values, ("n", "pieces", 64))
    length = np.where(values > 0, values, 127)
    return (length == length.min((1, 2), keepdims=True)) & (values > 0)


def mate_puzzles(
    ending: Ending, n: int, *, moves: int, generator: np.random.Generator, held_out: bool | None = True
) -> list[Puzzle]:
    """Puzzles with exactly one best move for White at the start, and the longest defence; no two alike by symmetry.

    Parameters
    ----------
    ending : Ending
    n : int
        At most; an ending has few of them, and all that some rounds of drawing find are given.
    moves : int
        White's moves to mate.
    generator : np.random.Generator
    held_out : bool, optional
        As for `sample_positions`; the line's later positions are not looked at.

    Returns
    -------
    list of Puzzle

    Raises
    ------
    ValueError
        Where there is none.
    """
    check_range("n", n, 1)
    found: dict[int, Puzzle] = {}
    barren = 0
    while barren < 10 and len(found) < n:
        start = sample_positions(ending, 4 * n, generator=generator, mate_in=(moves, moves), held_out=held_out)
        start = start[best_moves(move_values(ending, start)).sum((1, 2)) == 1]
        before = len(found)
        for code, puzzle in zip(_codes(ending, start).tolist(), _lines(ending, start, moves, generator)):
            if puzzle is not None:
                found.setdefault(code, puzzle)
        barren = 0 if len(found) > before else barren + 1
    if not found:
        raise ValueError(f"moves={moves}: no puzzle of so many moves was found in this ending")
    return list(found.values())[:n]


def _lines(ending: Ending, start: np.ndarray, moves: int, generator: np.random.Generator) -> list[Puzzle | None]:
    """Lines in one ending; a line in which a piece is taken leaves the ending and is dropped."""
    squares, lines, values, alive = start, [], [], np.ones(len(start), bool)
    for left in range(moves, 0, -1):
        worth = move_values(ending, squares)
        lines.append(squares)
        values.append(worth)
        if left == 1:
            break
        squares, white_took = _play(squares, best_moves(worth), generator)
        answer = move_values(ending, squares, to_move="black")
        squares, black_took = _play(squares, answer == left - 1, generator)
        alive &= ~white_took & ~black_took
    rows = [Puzzle(np.stack(a), np.stack(b)) for a, b in zip(zip(*lines), zip(*values))]
    return [row if ok else None for row, ok in zip(rows, alive)]


def _play(squares: np.ndarray, choices: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One of the chosen moves in each position, by chance, and whether it takes a piece."""
    keys = np.where(choices, generator.random(choices.shape), -1.0).reshape(len(squares), -1)
    piece, target = np.divmod(keys.argmax(1), 64)
    took = (squares == target[:, None]).any(1)
    after = squares.copy()
    after[np.arange(len(squares)), piece] = target
    return after, took


def ending_tokens(ending: Ending, squares: np.ndarray) -> np.ndarray:
    """Positions as `nets.PostNormPolicy` reads them, one token per piece.

    Parameters
    ----------
    ending : Ending
    squares : np.ndarray of int, shape (n, 2 + pieces)

    Returns
    -------
    np.ndarray of int, shape (n, 2 + pieces)
        64 · kind + square, kinds in the order of KQRBNPkqrbnp.
    """
    _check_squares(ending, squares)
    letters = "k" + "K" + ending.white + ending.black.lower()
    return 64 * np.array(["KQRBNPkqrbnp".index(letter) for letter in letters]) + squares
