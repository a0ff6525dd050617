"""Kinds of tokens, and the tokens that stand in for them."""

from __future__ import annotations

import pytest
import torch

from shared.lm import matched_keys, token_types
from tests.papers.hub import tiny_tokenizer


def test_kinds_of_tokens(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    ids = tokenizer("The keys, near (zebra's) 12 cabinets?").input_ids
    by_piece = [(tokenizer.decode([i]).strip(), kind[0]) for i, kind in zip(ids, token_types(tokenizer, ids))]
    assert by_piece[0] == ("<s>", "p")
    assert [kind for piece, kind in by_piece if piece in {",", "(", ")", "?", "'"}] == ["p"] * 5
    assert ("near", "f") in by_piece
    assert ("keys", "c") in by_piece
    the = [kind for piece, kind in by_piece if piece in set("The") | {"he"}]
    assert set(the[:3]) <= {"f", "c"}
    zebra = "".join(piece for piece, kind in by_piece if kind == "c")
    assert "zebra" in zebra
    assert "12" in zebra
    assert "cabinet" in zebra


def test_a_word_in_pieces_is_one_word(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    ids = tokenizer("?within zzthe").input_ids[1:]
    kinds = [(tokenizer.decode([i]), kind) for i, kind in zip(ids, token_types(tokenizer, ids))]
    letters = [kind for piece, kind in kinds if piece.strip() and piece != "?"]
    assert len(letters) > 2
    assert list(dict.fromkeys(letters)) == ["function", "content"]
    assert "".join(p.strip() for p, kind in kinds if kind == "content") == "zzthe"  # its "the" is no article


def test_matched_keys_agree_in_number_and_attention():
    generator = torch.Generator().manual_seed(0)
    received = torch.rand(50, 30, generator=generator)
    keys = torch.rand(50, 30, generator=generator) < 0.2
    keys[:, 0], keys[:, 1] = False, True
    allowed = ~keys
    allowed[:, 0] = False
    drawn, matched = matched_keys(keys, allowed, received, generator=generator)
    assert not (drawn & ~allowed).any()
    assert matched.float().mean() > 0.9
    assert torch.equal(drawn.sum(1), keys.sum(1))
    off = ((received * drawn).sum(1) / (received * keys).sum(1) - 1).abs()
    assert (off[matched] <= 0.1).all()
    assert (drawn.float().mean(0)[2:] > 0).all()  # any allowed place may be drawn
    drawn, matched = matched_keys(keys, torch.ones_like(keys), received, generator=generator)
    assert matched.all()
    assert (drawn & keys).sum() < 0.5 * (keys.float().mean() * keys.sum())  # fewer than by chance


def test_too_few_to_draw_from_is_no_match():
    keys = torch.tensor([[False, True, True, False]])
    drawn, matched = matched_keys(
        keys, ~keys & torch.tensor([[False, True, True, True]]), torch.ones(1, 4), generator=torch.Generator()
    )
    assert drawn.tolist() == [[False, False, False, True]]
    assert not matched.item()
    with pytest.raises(ValueError, match=r"keys is torch\.int64"):
        matched_keys(keys.long(), keys, torch.ones(1, 4), generator=torch.Generator())
