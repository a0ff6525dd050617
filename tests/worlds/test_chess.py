"""Solved endings against known values and the rules of the `chess` package; lc0's planes and move indices."""

from __future__ import annotations

import numpy as np
import pytest

from shared.worlds import (
    IllegalPosition,
    best_moves,
    encode_planes,
    ending_board,
    ending_tokens,
    is_held_out,
    legal_indices,
    mate_puzzles,
    move_effects,
    move_index,
    move_values,
    play_ending,
    position_arrays,
    puzzle_arrays,
    read_position,
    read_puzzles,
    sample_positions,
    solve_ending,
)
from shared.worlds.chess._endings import TRIANGLE, _symmetries
from shared.worlds.chess._moves import _codes

try:
    import chess
except ImportError:  # of the extra `chess`
    chess = None
by_the_rules = pytest.mark.skipif(chess is None, reason='needs the extra "chess"')


def rng():
    return np.random.default_rng(0)


def letters(ending):
    return "kK" + ending.white + ending.black.lower()


@pytest.mark.parametrize(("white", "longest"), [("Q", 10), ("R", 16)])
def test_longest_mates_are_the_known_ones(white, longest):
    ending = solve_ending(white)
    assert ending.mate_in.max() == longest
    assert (ending.mate_in[ending.mate_in >= 0] > 0).all()  # White to move always wins
    assert (ending.mated_in == -1).any()  # Black to move may take the piece, or is stalemated


@pytest.mark.parametrize(("white", "black"), [("B", ""), ("N", ""), ("", ""), ("", "R")])
def test_too_little_to_win(white, black):
    assert solve_ending(white, black=black).mate_in.max() == 0


@pytest.mark.slow
def test_endings_of_four_pieces():
    assert solve_ending("BB").mate_in.max() == 19


@by_the_rules
@pytest.mark.parametrize(("white", "black"), [("Q", ""), ("R", ""), ("", "Q"), ("", "N")])
@pytest.mark.parametrize("to_move", ["white", "black"])
def test_moves_are_those_of_the_rules(white, black, to_move):
    ending = solve_ending(white, black=black)
    squares = rng().integers(64, size=(400, 3))
    tried = 0
    for row in squares:
        try:
            board = ending_board(letters(ending), row, white_to_move=to_move == "white")
        except IllegalPosition:
            continue
        (values,) = move_values(ending, row[None], to_move=to_move)
        found = {(int(row[p]), int(t)) for p, t in zip(*np.nonzero(values >= 0))}
        assert found == {(move.from_square, move.to_square) for move in board.legal_moves}
        tried += 1
    assert tried > 100


def test_values_are_one_ply_ahead():
    ending = solve_ending("R")
    squares = sample_positions(ending, 200, generator=rng())
    values = move_values(ending, squares)
    won = np.where(values > 0, values, 99).min((1, 2))
    np.testing.assert_array_equal(won, ending.look_up(squares))
    piece, target = np.divmod(best_moves(values).reshape(200, -1).argmax(1), 64)
    squares[np.arange(200), piece] = target
    left = ending.look_up(squares, to_move="black")
    np.testing.assert_array_equal(left, won - 1)
    replies = move_values(ending, squares, to_move="black")
    defended = replies.max((1, 2))
    np.testing.assert_array_equal(defended[left > 0], left[left > 0])


def test_symmetry_changes_nothing():
    ending = solve_ending("Q")
    squares = sample_positions(ending, 50, generator=rng(), mate_in=(3, 9))
    for turned in _symmetries():
        np.testing.assert_array_equal(ending.look_up(turned[squares]), ending.look_up(squares))
        np.testing.assert_array_equal(is_held_out(ending, turned[squares]), is_held_out(ending, squares))
    assert 0.05 < is_held_out(ending, sample_positions(ending, 2000, generator=rng())).mean() < 0.2
    assert not is_held_out(ending, sample_positions(ending, 100, generator=rng(), held_out=False)).any()


@by_the_rules
def test_puzzles_end_in_mate_and_begin_with_one_best_move():
    ending = solve_ending("R")
    for puzzle in mate_puzzles(ending, 8, moves=3, generator=rng()):
        assert puzzle.solutions[0].sum() == 1
        assert is_held_out(ending, puzzle.line[:1]).all()
        assert ending.look_up(puzzle.line).tolist() == [3, 2, 1]
        piece, target = np.argwhere(puzzle.solutions[-1])[0]
        board = ending_board(letters(ending), puzzle.line[-1])
        board.push(chess.Move(int(puzzle.line[-1][piece]), int(target)))
        assert board.is_checkmate()


def test_puzzles_are_no_two_alike_and_as_many_as_there_are():
    ending = solve_ending("R")
    found = mate_puzzles(ending, 60, moves=4, generator=rng())
    starts = np.stack([puzzle.line[0] for puzzle in found])
    assert 15 < len(found) < 60
    assert len(set(_codes(ending, starts).tolist())) == len(found)
    with pytest.raises(ValueError, match=r"mate_in=\(40, 40\)"):
        mate_puzzles(ending, 3, moves=40, generator=rng())


def test_effects_of_moves_by_hand():
    """White Kc6, Rh1, Black Ka8: the rook checks on a1 and h8. White Kc3, Rb2, Black Ka1: it hangs unless guarded."""
    check, safe = move_effects(solve_ending("R"), np.array([[56, 42, 7], [0, 18, 9]]))
    assert {int(target) for target in np.flatnonzero(check[0, 2])} == {0, 63}  # Ra1, Rh8
    assert safe[[0, 0], [1, 2], [50, 6]].all()
    assert not check[:, :2].any()
    assert safe[1, [1, 1, 2], [27, 10, 49]].tolist() == [False, True, True]  # Kd4, Kc2, Rb7


@by_the_rules
@pytest.mark.parametrize(("white", "black"), [("Q", ""), ("R", ""), ("", "R"), ("", "Q")])
def test_effects_of_moves_are_those_of_the_rules(white, black):
    ending = solve_ending(white, black=black)
    table = np.argwhere(ending.mate_in >= 0)
    squares = table[rng().choice(len(table), 30, replace=False)]
    squares[:, 0] = np.array(TRIANGLE)[squares[:, 0]]
    check, safe = move_effects(ending, squares)
    for row, values in enumerate(move_values(ending, squares)):
        board = ending_board(letters(ending), squares[row])
        for piece, target in np.argwhere(values >= 0):
            board.push(chess.Move(int(squares[row, piece]), int(target)))
            assert board.is_check() == check[row, piece, target]
            assert safe[row, piece, target] == (not any(board.is_capture(reply) for reply in board.legal_moves))
            board.pop()
        assert not (check | safe)[row][values < 0].any()


def test_sets_of_several_endings_are_filled_up():
    endings = [solve_ending("R"), solve_ending("")]
    with pytest.raises(ValueError, match="endings is empty"):
        position_arrays([], 4, generator=rng())
    found = position_arrays(endings[:1], 6, generator=rng(), held_out=True)
    assert found["tokens"].shape == (6, 3)
    assert found["values"].shape == found["check"].shape == (6, 3, 64)
    assert (found["values"][:3].reshape(3, -1).max(1) > 0).all()
    assert not found["check"][found["values"] < 0].any()
    with pytest.raises(ValueError, match="this ending has no such position"):
        position_arrays(endings, 4, generator=rng())
    puzzles = puzzle_arrays(endings[:1], 3, generator=rng(), moves=(1, 2))
    assert puzzles["tokens"].shape == (6, 2, 3)
    assert (puzzles["tokens"][:3, 1] == -1).all()
    assert puzzles["moves"].tolist() == [1] * 3 + [2] * 3
    two = puzzle_arrays([solve_ending("R"), solve_ending("Q")], 1, generator=rng(), moves=(2,))
    assert two["ending"].tolist() == [0, 1]


def test_a_perfect_player_mates_in_time_and_an_aimless_one_does_not():
    ending = solve_ending("R")
    squares = sample_positions(ending, 12, generator=rng(), mate_in=(2, 6))
    longest = int(ending.look_up(squares).max())

    def perfect(tokens, values):
        assert tokens.shape == values.shape[:2]
        return best_moves(values).reshape(len(values), -1).argmax(1)

    assert play_ending(ending, squares, perfect, longest=longest).all()
    assert not play_ending(ending, squares, perfect, longest=longest - 1).all()
    aimless = lambda tokens, values: (values >= 0).reshape(len(values), -1).argmax(1)  # noqa: E731
    assert play_ending(ending, squares, aimless).mean() < 0.5
    with pytest.raises(ValueError, match="choose gives a move that isn't legal"):
        play_ending(ending, squares, lambda tokens, values: np.zeros(len(values), int))


def test_tokens_name_piece_and_square():
    assert ending_tokens(solve_ending("Q"), np.array([[63, 0, 9]])).tolist() == [[64 * 6 + 63, 0, 64 + 9]]


def random_boards(n=60):
    generator, out = rng(), []
    while len(out) < n:
        board = chess.Board()
        for _ in range(int(generator.integers(1, 80))):
            moves = list(board.legal_moves)
            if not moves:
                break
            board.push(moves[generator.integers(len(moves))])
        if any(board.legal_moves):
            out.append(board)
    return out


@by_the_rules
def test_indices_are_one_per_move():
    assert len(legal_indices([chess.Board()])[0]) == 20
    boards = [
        *random_boards(),
        chess.Board("8/PPP5/8/8/8/8/6k1/K7 w - - 0 1"),
        chess.Board("r3k2r/8/8/8/8/8/8/R3K2R b KQkq - 0 1"),
    ]
    for board, indices in zip(boards, legal_indices(boards)):
        assert len(indices) == board.legal_moves.count()
        assert all(0 <= i < 73 * 64 for i in indices)
    pawn = chess.Board("8/P6k/8/8/8/8/8/K7 w - - 0 1")  # queen's plane of north by one, and its own of a rook
    assert move_index(pawn, chess.Move.from_uci("a7a8n")) == 48
    assert move_index(pawn, chess.Move.from_uci("a7a8r")) == 64 * (64 + 3) + 48
    castles = chess.Board("r3k2r/8/8/8/8/8/8/R3K2R w KQkq - 0 1")
    assert move_index(castles, chess.Move.from_uci("e1g1")) == 64 * (7 * 2 + 2) + 4  # three squares to the east


@by_the_rules
def test_colours_turned_give_the_same_planes_and_indices():
    for board in random_boards(20):
        board = read_position(board.fen())
        turned = board.mirror()
        one, other = encode_planes([board, turned])
        one[108] = other[108] = 0
        np.testing.assert_array_equal(one, other)
        assert set(legal_indices([board])[0]) == set(legal_indices([turned])[0])


@by_the_rules
def test_planes_of_the_first_position():
    board = chess.Board()
    (planes,) = encode_planes([board])
    assert planes[0, 1].all()  # own pawns on the second rank
    assert planes[0].sum() == 8
    assert planes[5, 0, 4] == 1  # own king on e1
    assert not planes[108:111].any()
    assert planes[104:108].all()
    assert planes[111].all()
    np.testing.assert_array_equal(planes[:13], planes[13:26])
    assert not encode_planes([board], repeat=False)[0, 13:104].any()
    board.push_uci("e2e4")
    (after,) = encode_planes([board])
    assert after[108].all()
    assert after[6, 4, 4] == 1  # White's pawn on e4, turned
    assert after[13 + 6, 6, 4] == 1  # and a ply ago on e2


@by_the_rules
@pytest.mark.parametrize(
    ("fen", "why"),
    [
        ("8/8/8/8/8/8/8/K7 w - - 0 1", "no black king"),
        ("k7/1K6/8/8/8/8/8/8 w - - 0 1", "opposite check"),
        ("nonsense", "no position in Forsyth-Edwards"),
    ],
)
def test_illegal_positions_are_named(fen, why):
    with pytest.raises(IllegalPosition, match=why):
        read_position(fen)


@by_the_rules
def test_bad_input_is_refused_by_name(tmp_path):
    with pytest.raises(IllegalPosition, match="two pieces on a1"):
        ending_board("kK", [0, 0])
    with pytest.raises(ValueError, match=r"move='e2e5' is not legal"):
        move_index(chess.Board(), chess.Move.from_uci("e2e5"))
    with pytest.raises(IllegalPosition, match="boards holds"):
        encode_planes([chess.Board(None)])
    with pytest.raises(ValueError, match=r"path=.*is no file"):
        list(read_puzzles(tmp_path / "none.pgn"))


def test_bad_endings_are_refused_by_name():
    with pytest.raises(ValueError, match=r"white='P'; accepted"):
        solve_ending("P")
    with pytest.raises(ValueError, match=r"mate_in=\(12, 12\).*longest is 10"):
        sample_positions(solve_ending("Q"), 1, generator=rng(), mate_in=(12, 12))


@by_the_rules
def test_puzzles_of_a_file(tmp_path):
    path = tmp_path / "two.pgn"
    path.write_text(
        '[FEN "7k/8/5KQ1/8/8/8/8/8 w - - 0 1"]\n[SetUp "1"]\n\n1. Qg7# *\n\n[Event "no position"]\n\n1. e4 *\n'
    )
    (puzzle,) = read_puzzles(path)
    assert puzzle.line == ("g6g7",)
    path.write_text('[FEN "8/8/8/8/8/8/8/8 w - - 0 1"]\n[SetUp "1"]\n\n*\n\n')
    assert list(read_puzzles(path)) == []
