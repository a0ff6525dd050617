"""The plots draw what they were given, in the common style, and refuse bad input."""

import html
import io
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

from shared import plots
from shared.plots import (
    COLORS,
    NULL,
    band,
    bars,
    color,
    curve,
    figure,
    heatmap,
    label_panels,
    overlay,
    palette,
    token_heatmap,
)


def render(fig):
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    return buffer.getvalue()


def test_curve_is_the_mean_with_a_band_of_one_deviation():
    _, (ax,) = figure()
    runs = np.array([[0.0, 1.0, 2.0], [2.0, 3.0, 6.0]])
    curve(ax, [0, 1, 2], runs, "method")
    assert ax.lines[0].get_ydata().tolist() == [1, 2, 4]
    edges = ax.collections[0].get_paths()[0].vertices
    assert {1.0 - 1.0, 1.0 + 1.0} <= set(edges[edges[:, 0] == 0][:, 1])


def test_one_run_has_no_band_and_a_null_is_grey():
    _, (ax,) = figure()
    curve(ax, [0, 1], np.array([[1.0, 2.0]]), "random", null=True)
    assert not ax.collections
    assert ax.lines[0].get_color() == NULL


def test_bars_show_means_and_every_run():
    _, (ax,) = figure()
    bars(ax, {"a": [1.0, 3.0], "random": [0.5]}, null=["random"], digits=1)
    assert [bar.get_width() for bar in ax.patches] == [2.0, 0.5]
    assert ax.collections[0].get_offsets()[:, 0].tolist() == [1.0, 3.0]
    assert [text.get_text() for text in ax.texts] == ["2.0", "0.5"]
    assert mpl.colors.to_hex(ax.patches[1].get_facecolor()).upper() == NULL


def test_heatmap_is_symmetric_around_zero():
    _, (ax,) = figure()
    drawn = heatmap(ax, torch.tensor([[0.5, -2.0]]))
    assert drawn.get_clim() == (-2.0, 2.0)
    assert heatmap(ax, torch.zeros(2, 2)).get_clim() == (-1.0, 1.0)  # all zero: no division by zero


def test_tokens_wrap_keep_their_text_and_colour_by_sign():
    _, (ax,) = figure()
    token_heatmap(ax, ["The", " key", "\n", " is"], torch.tensor([0.0, 1.0, 0.0, -1.0]), width=8, marked=[1])
    assert [text.get_text() for text in ax.texts] == ["The", " key", "↵", " is"]
    assert ax.texts[0].get_position()[1] > ax.texts[3].get_position()[1]
    pro, contra = (ax.patches[i].get_facecolor() for i in (1, 3))
    assert pro[0] > pro[2]
    assert contra[0] < contra[2]


def test_dollar_signs_in_tokens_are_no_formulas():
    fig, (ax,) = figure()
    token_heatmap(ax, ["$", "\\frac", "5$"], torch.zeros(3))
    assert render(fig)


def test_text_as_html_keeps_every_character_and_runs_none():
    tokens = ["<script>", " a&b", "\n", " is"]
    page = plots.token_heatmap_html(tokens, torch.tensor([0.0, 1.0, 0.0, -2.0]), title="A < B", marked=[1])
    spans = re.findall(r'<span style="background:(#\w+);[^"]*" title="([^"]+)">([^<]*)</span>', page)
    assert html.unescape("".join(text for *_, text in spans)) == "<script> a&b↵\n is"
    assert "<script>" not in page
    assert "A &lt; B" in page
    assert [value for _, value, _ in spans] == ["0", "1", "0", "-2"]
    red, blue = (mpl.colors.to_rgb(spans[n][0]) for n in (1, 3))
    assert red[0] > red[2]
    assert blue[2] > blue[0]


@pytest.mark.parametrize("ending", ["html", "png", "svg"])
def test_text_to_a_file(tmp_path, ending):
    path = plots.save_token_heatmap(tmp_path / f"map.{ending}", ["The", " key"], torch.tensor([0.5, -1.0]), title="t")
    start = path.read_bytes()[:200]
    assert start.startswith({"html": b"<!doctype", "png": b"\x89PNG", "svg": b"<?xml"}[ending])
    with pytest.raises(ValueError, match=r"path='\.txt' is unknown"):
        plots.save_token_heatmap(tmp_path / "map.txt", ["a"], torch.zeros(1))


def test_same_drawing_same_bytes():
    def draw():
        fig, axes = figure(1, 2)
        image = torch.linspace(0, 1, 3 * 8 * 8).reshape(3, 8, 8)
        overlay(axes[0], image, torch.eye(4))
        band(axes[1], [0, 1], np.zeros(2), np.ones(2))
        label_panels(axes)
        return render(fig)

    assert draw() == draw()


def test_palette_is_distinct():
    assert len(set(COLORS)) == len(COLORS)
    assert len(set(palette(16))) == 16
    assert palette(8) == list(COLORS)
    assert palette(17)[16] == color(0) == color(len(COLORS))


def test_no_other_room_repeats_the_palette():
    """One source of the colours that papers are told apart by."""
    shared = Path(plots.__file__).parents[1]
    files = [path for path in shared.rglob("*.py") if path.parent.name != "plots"]
    assert len(files) > 50
    known = {shade.upper() for shade in (*palette(16), NULL)}
    assert [
        path.name
        for path in files
        if known & {h.upper() for h in re.findall(r"#[0-9a-fA-F]{6}\b", path.read_text("utf-8"))}
    ] == []


def test_a_figure_has_the_axes_asked_for():
    assert len(figure()[1]) == 1
    assert len(figure(4)[1]) == 4
    fig, axes = figure(2, 3, height=1.5, width=6)
    assert len(axes) == 6
    assert tuple(fig.get_size_inches()) == (6, 3)


def test_whiskers_stand_in_for_dots():
    _, (ax,) = figure()
    bars(ax, {"a": [1.0, 3.0]}, errors={"a": 0.5})
    lines = ax.collections[0].get_segments()
    assert lines[0][:, 0].tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda ax: heatmap(ax, torch.zeros(3, 4, 4)), r"relevance has shape \(3, 4, 4\)"),
        (lambda ax: heatmap(ax, torch.full((2, 2), torch.nan)), "relevance has 4 NaN"),
        (lambda ax: token_heatmap(ax, ["a"], torch.zeros(2)), r"relevance has shape \(2,\)"),
        (lambda ax: curve(ax, [0, 1], np.zeros((2, 3)), "x"), r"runs has shape \(2, 3\)"),
        (lambda ax: bars(ax, {}), "groups is empty"),
        (lambda ax: bars(ax, {"a": []}), "groups has no number for a"),
        (lambda ax: bars(ax, {"a": [1.0], "b": [2.0]}, errors={"a": 0.1}), "errors has nothing for b"),
        (lambda ax: figure(3, 1, 2), "rows and columns"),
        (lambda ax: figure(0, 2), "rows and columns"),
        (lambda ax: palette(0), "count=0"),
    ],
)
def test_bad_input_is_named(draw, words):
    _, (ax,) = figure()
    with pytest.raises(ValueError, match=words):
        draw(ax)
