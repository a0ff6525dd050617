"""Pages of mixed languages: setting, printing, aligning."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from shared.worlds import NoTextError, align_words, long_s, print_page, set_page, word_spans

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif.ttf"
WORDS = "He that hath wit says nunc est bibendum and drinks till vina liquant".split()
LATIN = [word in {"nunc", "est", "bibendum", "vina", "liquant"} for word in WORDS]


def test_boxes_hold_the_ink_and_do_not_overlap():
    page = set_page(WORDS, LATIN, font=FONT, width=500)
    assert page.spans == ["nunc est bibendum", "vina liquant"]
    assert " ".join(page.line_texts) == " ".join(WORDS)
    assert page.lines.max() > 0
    left, _, right, _ = page.boxes.T
    assert left.min() >= 60
    assert right.max() <= 440
    together = page.lines[1:] == page.lines[:-1]
    assert (left[1:] > right[:-1])[together].all()
    picture = print_page(page, font=FONT)
    ink = np.zeros_like(picture, dtype=bool)
    for box in page.boxes:
        a, b, c, d = box
        ink[b : d + 2, a - 2 : c + 2] = True
        assert (picture[b:d, a:c] < 128).any()
    assert (picture[~ink] > 128).all()


def test_a_block_starts_a_line():
    page = set_page(WORDS, LATIN, blocks=[0] * 5 + [1] * 8, font=FONT, width=1100)
    assert page.line_texts[0] == "He that hath wit says"


def test_wear_changes_the_picture_and_not_its_size():
    page = set_page(WORDS, LATIN, font=FONT)
    clean = print_page(page, font=FONT)
    worn = print_page(page, font=FONT, tilt=0.5, blur=1.0, specks=0.05, generator=np.random.default_rng(0))
    assert worn.shape == clean.shape
    assert 0.02 < (worn != clean).mean() < 0.5
    with pytest.raises(ValueError, match="generator is None"):
        print_page(page, font=FONT, specks=0.1)


def test_aligned_words_of_a_reading():
    printed = "quod eo tempore in ordines".split()
    assert align_words(printed, printed).tolist() == [0, 1, 2, 3, 4]
    assert align_words(printed, ["quodeo", "tempo", "re", "#", "ordines"]).tolist() == [0, 2, 2, -1, 4]
    assert align_words(printed, []).tolist() == []


def test_long_s_as_printed():
    assert [long_s(word) for word in ("is", "Assess", "first,", "cost", "s")] == ["is", "Aſſeſs", "firſt,", "coſt", "s"]


def test_a_page_without_text_is_named():
    with pytest.raises(NoTextError, match="words holds no text"):
        set_page([], [], font=FONT)
    with pytest.raises(NoTextError, match="words holds no text"):
        set_page([" ", ""], [0, 0], font=FONT)
    with pytest.raises(NoTextError, match="printed holds no word"):
        align_words([], ["a"])


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="foreign has 1 values for 2 words"):
        set_page(["a", "b"], [True], font=FONT)
    with pytest.raises(ValueError, match="blocks has 1 values"):
        set_page(["a", "b"], [True, False], blocks=[0], font=FONT)
    with pytest.raises(ValueError, match="width=100"):
        set_page(["a"], [True], font=FONT, width=100)
    with pytest.raises(ValueError, match=r"chosen has shape \(1,\) for 2 words"):
        word_spans(["a", "b"], np.array([True]))
