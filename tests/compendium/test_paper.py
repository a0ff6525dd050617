"""The `Paper` object: seeds, device, figures, claims and results.json."""

import json
import random

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import yaml

from shared._checks import UnknownNameError
from shared.compendium import ClaimError, Paper, paths, resolve_device, runinfo, seed_everything
from shared.compendium import card as card_module
from tests.checkout import CARD

LATER = {**CARD["claims"][0], "id": "later", "only_at_paper_scale": "needs a large model"}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes papers of a card with the claims `high` (> 0.5) and `later` (at paper scale only)."""
    folder = tmp_path / "papers" / "tiny"
    folder.mkdir(parents=True)
    (folder / "card.yml").write_text(yaml.safe_dump({**CARD, "claims": [*CARD["claims"], LATER]}))
    monkeypatch.setattr(card_module.load_card, "__defaults__", (tmp_path / "papers",))
    monkeypatch.setenv("REPRISE_FIGURES", str(tmp_path / "figures"))
    return lambda **options: Paper("tiny", **options)


def results(paper):
    return json.loads((paper.folder / "results.json").read_text(encoding="utf-8"))


def draw():
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.plot([0, 1], label="line")
    axes.legend()
    return figure


def test_report_writes_what_a_run_was(make, capsys):
    paper = make(seed=3, size=7)
    assert paper.claim("high", [0.8, 0.9], control=0.1, note="two seeds") == "held"
    paper.figure(draw(), "fig1", "A line.")
    paper.report()
    written = results(paper)
    assert written["parameters"] == {"scale": "small", "seed": 3, "device": "auto", "size": 7}
    assert written["figures"] == {"fig1": "A line."}
    assert written["dry_run"] is False
    high, later = written["claims"]
    assert high["value"] == pytest.approx(0.85)
    assert (high["values"], high["verdict"], high["note"]) == ([0.8, 0.9], "held", "two seeds")
    assert (later["value"], later["verdict"]) == (None, "not shown at this scale")
    assert later["note"] == "needs a large model"
    assert written["cost"]["cpu_seconds"] >= 0
    assert written["cost"]["peak_rss_mb"] > 1
    assert written["versions"]["torch"] == torch.__version__
    assert set(written["git"]) == {"commit", "dirty"}
    printed = capsys.readouterr().out
    assert "held" in printed
    assert not any(str(cost) in printed for cost in (written["finished"], written["cost"]["peak_rss_mb"]))


def test_a_void_claim_raises_after_everything_was_written(make, capsys):
    paper = make()
    paper.claim("high", 0.9, control=0.8)
    with pytest.raises(ClaimError, match="high: the control passes the check"):
        paper.report()
    assert results(paper)["claims"][0]["verdict"].startswith("void")
    assert "void" in capsys.readouterr().out


def test_a_void_claim_of_a_dry_run_is_only_recorded(make, monkeypatch):
    monkeypatch.setenv("REPRISE_DRY_RUN", "1")
    paper = make()
    paper.claim("high", 0.9, control=0.8)
    paper.report()
    assert results(paper)["dry_run"] is True


def test_what_did_not_reproduce_is_reported(make):
    paper = make()
    assert paper.claim("high", 0.2, control=0.1) == "not reproduced"
    paper.report()
    assert results(paper)["claims"][0]["verdict"] == "not reproduced"


def test_claims_are_made_once_and_only_those_of_the_card(make):
    paper = make()
    with pytest.raises(UnknownNameError, match="claim='hihg' is unknown; did you mean 'high'"):
        paper.claim("hihg", 1.0, control=0.0)
    paper.claim("high", 1.0, control=0.0)
    with pytest.raises(ClaimError, match="'high' was already made"):
        paper.claim("high", 1.0, control=0.0)


def test_a_claim_that_is_due_must_be_made(make):
    with pytest.raises(ClaimError, match=r"'high' of papers/tiny/card\.yml was not made"):
        make().report()
    at_paper_scale = make(scale="paper")
    at_paper_scale.claim("high", 1.0, control=0.0)
    with pytest.raises(ClaimError, match="'later'"):
        at_paper_scale.report()
    assert not (at_paper_scale.folder / "results.json").exists()


def test_paper_scale_has_a_folder_of_its_own(make):
    assert make(scale="paper").folder == make().folder / "paper"
    assert make().small
    assert not make(scale="paper").small


def test_a_figure_of_the_same_run_has_the_same_bytes(make):
    seen = []
    for _ in range(2):
        paper = make()
        paper.figure(draw(), "fig1", "A line.")
        seen.append([(paper.folder / f"fig1.{suffix}").read_bytes() for suffix in ("png", "svg")])
    assert seen[0] == seen[1]


def test_bad_figure_names_and_captions(make):
    paper = make()
    for name in ("Fig 1", "../fig1", "", "fig1.png"):
        with pytest.raises(ValueError, match="must consist of a-z, 0-9 and _"):
            paper.figure(draw(), name, "A line.")
    with pytest.raises(ValueError, match="caption of figure 'fig1' is empty"):
        paper.figure(draw(), "fig1", " ")
    paper.figure(draw(), "fig1", "A line.")
    with pytest.raises(ValueError, match="'fig1' was used for another figure of this run"):
        paper.figure(draw(), "fig1", "Another.")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scale": "huge"}, UnknownNameError, "scale='huge' is unknown; known: small, paper"),
        ({"device": "abacus"}, UnknownNameError, "device='abacus' can't be used here .*accepted: auto, cpu"),
        ({"seed": -1}, ValueError, "seed=-1 is out of range"),
        ({"seed": 2**32}, ValueError, "seed=4294967296 is out of range"),
        ({"seed": 0.5}, TypeError, "seed must be an integer; got 0.5"),
        ({"seed": True}, TypeError, "seed must be an integer; got True"),
        ({"model": object()}, TypeError, "not JSON serializable"),
    ],
)
def test_bad_parameters_are_refused_at_the_start(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


def test_an_unknown_paper_lists_those_that_exist(make):
    with pytest.raises(UnknownNameError, match="paper='nope' is unknown; known: tiny"):
        Paper("nope")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without accelerator")
def test_a_device_that_isn_t_here_names_those_that_are():
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(UnknownNameError, match=r"device='cuda' can't be used here \(.*\); accepted: auto, cpu$"):
        resolve_device("cuda")


def test_a_seed_fixes_python_numpy_and_torch():
    def numbers():
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    seed_everything(5)
    first = numbers()
    seed_everything(5)
    assert numbers() == first
    seed_everything(6)
    assert not set(numbers()) & set(first)
    assert torch.are_deterministic_algorithms_enabled()


def test_streams_depend_on_seed_and_stream_only(make):
    def numbers(paper, stream):
        return paper.rng(stream).random(), torch.rand(1, generator=paper.generator(stream)).item()

    torch.rand(3)
    assert numbers(make(seed=1), 2) == numbers(make(seed=1), 2)
    different = [numbers(make(seed=seed), stream) for seed in (0, 1) for stream in (0, 1)]
    assert len({n for pair in different for n in pair}) == 8


def test_outside_git_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(runinfo, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runinfo.git_state() == {"commit": None, "dirty": None}


def test_a_paper_says_what_it_is(make):
    assert repr(make()) == "Paper('tiny', scale='small', seed=0, device='cpu')"


def test_figures_can_go_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("REPRISE_FIGURES", str(tmp_path))
    assert paths.run_dir("tiny") == tmp_path / "tiny"
    monkeypatch.delenv("REPRISE_FIGURES")
    assert paths.figures_dir() == paths.ROOT / "figures"
