"""Full chess by the `chess` package's rules: positions, Leela Chess Zero's input planes and move indices, puzzles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import chess

QUEEN_STEPS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))  # (ranks, files): N, NE, E, ...
KNIGHT_STEPS = ((2, 1), (1, 2), (-1, 2), (-2, 1), (-2, -1), (-1, -2), (1, -2), (2, -1))
PROMOTIONS = ("r", "b", "q")  # a knight is the plain move
N_MOVES = 80 * 64


class IllegalPosition(ValueError):
    """A position that the rules of chess don't allow; the message says why."""


def _chess():
    try:
        import chess
    except ImportError as error:
        raise ImportError('boards need the package chess (GPL-3.0-or-later): pip install "reprise[chess]"') from error
    return chess


def read_position(fen: str) -> chess.Board:
    """A legal position.

    Parameters
    ----------
    fen : str
        Forsyth-Edwards notation, such as "8/8/8/4k3/8/8/4Q3/4K3 w - - 0 1".

    Returns
    -------
    chess.Board

    Raises
    ------
    IllegalPosition
        (A `ValueError`) what isn't that notation, or a position no game can reach: a king missing, the side that has
        moved in check, pawns on the last rank, castling rights without a rook.
    """
    chess = _chess()
    try:
        board = chess.Board(fen)
    except (ValueError, AttributeError, TypeError) as error:
        raise IllegalPosition(f"fen={fen!r} is no position in Forsyth-Edwards notation: {error}") from error
    status = board.status()
    if status != chess.STATUS_VALID:
        why = ", ".join(flag.name.lower().replace("_", " ") for flag in chess.Status if flag and flag & status)
        raise IllegalPosition(f"fen={fen!r} is no legal position: {why}")
    return board


def ending_board(letters: str, squares: Sequence[int], *, white_to_move: bool = True) -> chess.Board:
    """An ending's position as a board.

    Parameters
    ----------
    letters : str
        The pieces, capitals White's, such as "kKQr".
    squares : sequence of int
        One per piece; a1 is 0, h8 is 63.
    white_to_move : bool

    Returns
    -------
    chess.Board

    Raises
    ------
    IllegalPosition
        As for `read_position`.
    """
    chess = _chess()
    board = chess.Board(None)
    for letter, square in zip(letters, squares, strict=True):
        if board.piece_at(int(square)):
            raise IllegalPosition(f"squares={list(map(int, squares))}: two pieces on {chess.square_name(int(square))}")
        board.set_piece_at(int(square), chess.Piece.from_symbol(letter))
    board.turn = white_to_move
    return read_position(board.fen())


def encode_planes(boards: Sequence[chess.Board], *, repeat: bool = True) -> np.ndarray:
    """lc0's classical input: 112 planes seen by the side to move.

    Eight times (the position now, one ply ago, ...) six planes of own pieces, six of the opponent's, one for
    repetition; four of castling rights (own long and short, the other's), colour, plies since the last capture or pawn
    move, zeros, ones.

    Parameters
    ----------
    boards : sequence of chess.Board
        With their moves so far; all not over.
    repeat : bool
        Fill a missing past with the earliest position known; else with zeros, at which such networks play at random.

    Returns
    -------
    np.ndarray of float32, shape (n, 112, 8, 8)
        Ranks, then files; the board is turned for Black.
    """
    out = np.zeros((len(boards), 112, 64), np.float32)
    for row, board in zip(out, boards):
        if not board.is_valid():
            raise IllegalPosition(f"boards holds {board.fen()!r}, which is no legal position")
        us, past = board.turn, board.copy()
        for step in range(8):
            row[13 * step : 13 * step + 12] = _pieces(past, us)
            if past.move_stack:
                row[13 * step + 12] = past.is_repetition(2)
                past.pop()
            elif not repeat:
                break
        for i, (colour, long) in enumerate(((us, True), (us, False), (not us, True), (not us, False))):
            rights = board.has_queenside_castling_rights if long else board.has_kingside_castling_rights
            row[104 + i] = rights(colour)
        row[108], row[109], row[111] = not us, board.halfmove_clock, 1.0
    return out.reshape(-1, 112, 8, 8)


def _pieces(board: chess.Board, us: bool) -> np.ndarray:
    masks = [board.pieces_mask(kind, colour) for colour in (us, not us) for kind in range(1, 7)]
    bits = np.unpackbits(np.array(masks, dtype="<u8").view(np.uint8).reshape(12, 8), axis=1, bitorder="little")
    return bits if us else bits.reshape(12, 8, 8)[:, ::-1].reshape(12, 64)


def move_index(board: chess.Board, move: chess.Move) -> int:
    """Where lc0's convolutional policy head keeps a move: plane · 64 + square of origin, as the mover sees the board.

    Parameters
    ----------
    board : chess.Board
        Before the move.
    move : chess.Move
        A legal one; castling as the king's two steps.

    Returns
    -------
    int, 0 to 5,119

    Raises
    ------
    ValueError
        For a move that isn't legal on the board.
    """
    if not board.is_legal(move):
        raise ValueError(f"move={move.uci()!r} is not legal in {board.fen()!r}")
    start, end = move.from_square, move.to_square
    if board.is_castling(move):  # the king takes its rook
        end = start + (3 if end > start else -4)
    if not board.turn:
        start, end = start ^ 56, end ^ 56
    up, right = end // 8 - start // 8, end % 8 - start % 8
    letter = None if move.promotion is None else " pnbrqk"[move.promotion]
    if letter in PROMOTIONS:
        plane = 64 + 3 * (right + 1) + PROMOTIONS.index(letter)
    elif (up, right) in KNIGHT_STEPS:
        plane = 56 + KNIGHT_STEPS.index((up, right))
    else:
        far = max(abs(up), abs(right))
        plane = 7 * QUEEN_STEPS.index((up // far, right // far)) + far - 1
    return 64 * plane + start


def legal_indices(boards: Sequence[chess.Board]) -> list[dict[int, chess.Move]]:
    """Every board's legal moves by their `move_index`.

    Parameters
    ----------
    boards : sequence of chess.Board

    Returns
    -------
    list of dict
    """
    return [{move_index(board, move): move for move in board.legal_moves} for board in boards]


@dataclass(frozen=True)
class GamePuzzle:
    """A position with the moves that solve it.

    Parameters
    ----------
    fen : str
    line : tuple of str
        Moves of both sides in UCI notation; the solver begins.
    """

    fen: str
    line: tuple[str, ...]


def read_puzzles(path: str | Path) -> Iterator[GamePuzzle]:
    """Puzzles of a file of games in PGN, each with its starting position and its main line.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    GamePuzzle
        Of games with a FEN and at least one move.

    Raises
    ------
    IllegalPosition
        For an illegal starting position.
    ValueError
        For no such file.
    """
    _chess()
    import chess.pgn

    if not Path(path).is_file():
        raise ValueError(f"path={str(path)!r} is no file; accepted: a file of games in PGN")
    with open(path, encoding="utf-8", errors="replace") as file:
        while (game := chess.pgn.read_game(file)) is not None:
            moves = tuple(move.uci() for move in game.mainline_moves())
            if "FEN" in game.headers and moves:
                yield GamePuzzle(read_position(game.headers["FEN"]).fen(), moves)
