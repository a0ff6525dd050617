"""Chess endings of few pieces solved exhaustively: how many moves White needs to mate, from every position.

A retrograde solver in whole arrays. A table has one axis per piece: the black king's, which by the board's eight
symmetries needs ten squares only, the white king's, and one per further piece. Squares are numbered as usual in chess
programs: a1 is 0, b1 is 1, a2 is 8. No pawns, no castling, no fifty-move rule.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np

from shared._checks import check_choice

STEPS = {
    "K": [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b],
    "R": [(1, 0), (-1, 0), (0, 1), (0, -1)],
    "B": [(1, 1), (1, -1), (-1, 1), (-1, -1)],
    "N": [(a, b) for a in (-2, -1, 1, 2) for b in (-2, -1, 1, 2) if abs(a) != abs(b)],
}
STEPS["Q"] = STEPS["R"] + STEPS["B"]
REACH = {"K": 1, "N": 1, "R": 7, "B": 7, "Q": 7}
TRIANGLE = (0, 1, 2, 3, 9, 10, 11, 18, 19, 27)  # a1 b1 c1 d1 b2 c2 d2 c3 d3 d4


@cache
def rays(kind: str) -> np.ndarray:
    """Squares along each direction, shape (64, directions, reach), -1 beyond the edge.

    Parameters
    ----------
    kind : "K", "Q", "R", "B" or "N"

    Returns
    -------
    np.ndarray of int
    """
    out = np.full((64, len(STEPS[kind]), REACH[kind]), -1)
    for square, (d, (up, right)), step in itertools.product(range(64), enumerate(STEPS[kind]), range(REACH[kind])):
        rank, file = square // 8 + up * (step + 1), square % 8 + right * (step + 1)
        if 0 <= rank < 8 and 0 <= file < 8:
            out[square, d, step] = 8 * rank + file
    return out


@cache
def _symmetries() -> np.ndarray:
    """The eight maps of the board, (8, 64): where each square goes."""
    rank, file = np.divmod(np.arange(64), 8)
    maps = [(r, f) for r in (rank, 7 - rank) for f in (file, 7 - file)]
    return np.stack([8 * a + b for r, f in maps for a, b in ((r, f), (f, r))])


@cache
def canonical() -> tuple[np.ndarray, np.ndarray]:
    """For each square of the black king: its place in the triangle, and the map of the board that brings it there.

    Returns
    -------
    place, shape (64,), and maps, shape (64, 64)
    """
    inside = np.full(64, -1)
    inside[list(TRIANGLE)] = np.arange(10)
    images = inside[_symmetries()]  # (8, 64)
    first = (images >= 0).argmax(0)
    return images[first, np.arange(64)], _symmetries()[first]


@dataclass(frozen=True, eq=False)
class Ending:
    """One solved ending.

    Parameters
    ----------
    white, black : str
        The pieces besides the kings, such as "Q" and "R".
    mate_in : np.ndarray of int8, shape (10, 64, ...)
        White to move: the number of White's moves to mate; 0 if White can't force it; -1 for no legal position.
    mated_in : np.ndarray of int8, shape (10, 64, ...)
        Black to move: how many of White's moves are left; 0 is mate; -1 not lost, -2 no legal position.
    """

    white: str
    black: str
    mate_in: np.ndarray
    mated_in: np.ndarray

    @property
    def kinds(self) -> str:
        """The pieces of the axes behind the black king's: "K", White's, Black's."""
        return "K" + self.white + self.black

    def look_up(self, squares: np.ndarray, *, to_move: str = "white") -> np.ndarray:
        """Values of positions.

        Parameters
        ----------
        squares : np.ndarray of int, shape (n, 2 + pieces)
            Of the black king, the white king, White's pieces and Black's.
        to_move : "white" or "black"

        Returns
        -------
        np.ndarray of int8, shape (n,)
            Of `mate_in` or `mated_in`.
        """
        check_choice("to_move", to_move, ("white", "black"))
        place, maps = canonical()
        turned = maps[squares[:, :1], squares[:, 1:]]
        table = self.mate_in if to_move == "white" else self.mated_in
        return table[(place[squares[:, 0]], *turned.T)]


class _Board:
    """Masks of one ending's states and the moves in them, over axes (black king, white king, pieces...)."""

    def __init__(self, white: str, black: str) -> None:
        self.kinds = "K" + white + black
        self.shape = (10,) + (64,) * len(self.kinds)
        self.white = range(1, 2 + len(white))
        self.black = range(2 + len(white), 1 + len(self.kinds))
        apart = np.ones(self.shape, bool)
        for a, b in itertools.combinations(range(len(self.shape)), 2):
            for square in range(64):
                if (one := self.at(square, a)) is not None:
                    apart[self.index({a: one, b: square})] = False
        for i, square in enumerate(TRIANGLE):
            for near in rays("K")[square].flat:
                if near >= 0:
                    apart[self.index({0: i, 1: near})] = False
        checked = [self.attacked(0, self.white[1:]), self.attacked(1, self.black)]
        self.black_checked = apart & checked[0]
        self.legal_white, self.legal_black = apart & ~checked[0], apart & ~checked[1]  # by who is to move

    def at(self, square: int, axis: int) -> int | None:
        """A square as an index of an axis; None for a square that the black king's axis doesn't have."""
        return square if axis else (TRIANGLE.index(square) if square in TRIANGLE else None)

    def index(self, fixed: dict[int, int]) -> tuple:
        return tuple(fixed.get(axis, slice(None)) for axis in range(len(self.shape)))

    def walks(self, axis: int):
        """For each square and direction of a piece: (square, targets); the caller keeps who stands in the way."""
        for square in range(64):
            for ray in rays(self.kinds[axis - 1])[square]:
                yield square, [int(t) for t in ray if t >= 0]

    def stop(self, open_: np.ndarray, axis: int, square: int) -> None:
        """Close the states in which another piece stands on a square; `open_` has length one on the mover's axis."""
        for other in range(len(self.shape)):
            if other != axis and (i := self.at(square, other)) is not None:
                open_[self.index({other: i})] = False

    def free(self, axis: int) -> np.ndarray:
        return np.ones([1 if a == axis else n for a, n in enumerate(self.shape)], bool)

    def attacked(self, king: int, axes) -> np.ndarray:
        """States in which a piece of one of the axes attacks a king."""
        out = np.zeros(self.shape, bool)
        for axis in axes:
            for square, targets in self.walks(axis):
                open_ = self.free(axis)
                for target in targets:
                    if (i := self.at(target, king)) is not None:
                        out[self.index({axis: square, king: i})] |= open_[self.index({axis: 0, king: i})]
                    self.stop(open_, axis, target)
        return out

    def moves_into(self, aim: np.ndarray, axes, captures: dict[int, np.ndarray]) -> np.ndarray:
        """States with a move of one of the axes' pieces into `aim`, or by capture of axis e into `captures[e]`."""
        out = np.zeros(self.shape, bool)
        for axis in axes:
            for square, targets in self.walks(axis):
                open_ = self.free(axis)
                for target in targets:
                    for taken, rest in captures.items():
                        now = self.index({axis: square, taken: target})
                        place = [{axis: target}.get(a, slice(None)) for a in range(len(self.shape)) if a != taken]
                        out[now] |= open_[self.index({axis: 0, taken: target})] & rest[tuple(place)]
                    self.stop(open_, axis, target)
                    out[self.index({axis: square})] |= open_[self.index({axis: 0})] & aim[self.index({axis: target})]
        return out

    def king_moves_into(self, aim: np.ndarray, captures: dict[int, np.ndarray]) -> np.ndarray:
        """The same for the black king, whose move may turn the board."""
        place, maps = canonical()
        out = np.zeros(self.shape, bool)
        for i, square in enumerate(TRIANGLE):
            for target in (int(t) for t in rays("K")[square].flat if t >= 0):
                turned = [maps[target]] * len(self.kinds)
                there = aim[place[target]][np.ix_(*turned)]
                for axis in range(1, len(self.shape)):
                    there[self.index({axis: target})[1:]] = False
                for taken, rest in captures.items():
                    after = rest[place[target]][np.ix_(*turned[1:])]
                    there[self.index({taken: target})[1:]] = after
                out[i] |= there
        return out


@cache
def solve_ending(white: str, *, black: str = "") -> Ending:
    """Solve an ending by going backwards from mate, in seconds for four pieces and about 3 MB a table.

    Parameters
    ----------
    white : str
        White's pieces besides the king, of "Q", "R", "B" and "N": "R", "BB".
    black : str
        Black's; with `white` two at most.

    Returns
    -------
    Ending

    Raises
    ------
    ValueError
        For other pieces or more of them.
    """
    for argument, pieces in (("white", white), ("black", black)):
        if not isinstance(pieces, str) or set(pieces) - set("QRBN") or len(white + black) > 2:
            raise ValueError(f"{argument}={pieces!r}; accepted: pieces of Q, R, B and N, at most two besides the kings")
    board = _Board(white, black)
    taken_by_white = {a: solve_ending(white, black=black[:i] + black[i + 1 :]) for i, a in enumerate(board.black)}
    taken_by_black = {a: solve_ending(white[:i] + white[i + 1 :], black=black) for i, a in enumerate(board.white[1:])}
    legal_after = {a: sub.mate_in >= 0 for a, sub in taken_by_black.items()}

    def replies(aim: np.ndarray, captures: dict[int, np.ndarray]) -> np.ndarray:
        return board.king_moves_into(aim, captures) | board.moves_into(aim, board.black, captures)

    movable = board.legal_black & replies(board.legal_white, legal_after)
    mate_in = np.where(board.legal_white, 0, -1).astype(np.int8)
    mated_in = np.where(board.legal_black, -1, -2).astype(np.int8)
    mated_in[board.legal_black & board.black_checked & ~movable] = 0
    for move in range(1, 100):
        captures = {a: (sub.mated_in >= 0) & (sub.mated_in < move) for a, sub in taken_by_white.items()}
        fresh = board.legal_white & (mate_in == 0) & board.moves_into(mated_in == move - 1, board.white, captures)
        mate_in[fresh] = move
        safe = {a: (sub.mate_in == 0) | (sub.mate_in > move) for a, sub in taken_by_black.items()}
        lost = movable & (mated_in == -1) & ~replies(board.legal_white & (mate_in == 0), safe)
        mated_in[lost] = move
        waiting = any((sub.mate_in > move).any() for sub in taken_by_black.values()) or any(
            (sub.mated_in > move - 1).any() for sub in taken_by_white.values()
        )
        if not fresh.any() and not lost.any() and not waiting:
            break
    return Ending(white, black, mate_in, mated_in)
