"""The `Paper` object: seeds, device, figures, claims and results.json."""

import json
import random

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
import yaml

from shared._checks import UnknownNameError
from shared.compendium import ClaimError, Paper, parameters, paths, resolve_device, runinfo, seed_everything
from shared.compendium import card as card_module
from tests.checkout import CARD

LATER = {**CARD["claims"][0], "id": "later", "only_at_paper_scale": "needs a large model"}
GATED = {**CARD["claims"][0], "id": "gated", "kind": "own", "gate": "works", "check": "> rival", "rival": "another"}
GATE = {"id": "works", "statement": "It works.", "measures": "a share", "check": ">= 0.8"}
HIGH = [0.8, 0.9, 0.85]
PARAMETERS = {"scale": "small", "seed": 0, "device": "auto", "size": 3}


def write(folder, *claims, **card):
    """A paper of a card and a notebook that consists of its parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.yml").write_text(yaml.safe_dump({**CARD, "claims": [*CARD["claims"], *claims], **card}))
    source = "\n".join(f"{name} = {value!r}" for name, value in PARAMETERS.items())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.cells[0].metadata.tags = ["parameters"]
    for name in ("tiny", "more_sizes"):
        nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the paper `tiny`."""
    monkeypatch.setattr(card_module.load_card, "__kwdefaults__", {"folder": tmp_path / "papers"})
    monkeypatch.setattr(paths.known_papers, "__kwdefaults__", {"folder": tmp_path / "papers"})
    monkeypatch.setattr(parameters, "PAPERS", tmp_path / "papers")
    monkeypatch.setenv("REPRISE_FIGURES", str(tmp_path / "figures"))
    return tmp_path / "papers" / "tiny"


@pytest.fixture
def make(folder):
    """Makes papers of a card with the claims `high` (> 0.5) and `later` (at paper scale only)."""
    write(folder, LATER)
    return lambda notebook="tiny", **changes: Paper(notebook, {**PARAMETERS, **changes})


@pytest.fixture
def gated(folder):
    """A paper of a card with the claims `high` and `gated`, behind the gate `works`."""
    write(folder, GATED, gates=[GATE])
    return Paper("tiny", PARAMETERS)


def results(paper):
    return json.loads((paper.folder / "results.json").read_text(encoding="utf-8"))


def draw():
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.plot([0, 1], label="line")
    axes.legend()
    return figure


def test_report_writes_what_a_run_was(make, capsys):
    paper = make(seed=3, size=7)
    assert paper.claim("high", HIGH, null=0.1, note="three seeds") == "held"
    paper.figure(draw(), "fig1", "A line.")
    paper.report()
    written = results(paper)
    assert written["parameters"] == {"scale": "small", "seed": 3, "device": "auto", "size": 7}
    assert written["key"] is None
    assert written["figures"] == {"fig1": "A line."}
    assert written["dry_run"] is False
    high, later = written["claims"]
    assert high["value"] == pytest.approx(0.85)
    assert (high["values"], high["verdict"], high["note"]) == (HIGH, "held", "three seeds")
    assert (later["value"], later["verdict"]) == (None, "no test here")
    assert later["why"] == "needs a large model"
    assert written["cost"]["cpu_seconds"] >= 0
    assert written["cost"]["peak_rss_mb"] > 1
    assert written["versions"]["torch"] == torch.__version__
    assert set(written["git"]) == {"commit", "dirty"}
    printed = capsys.readouterr().out
    assert "held" in printed
    assert not any(str(cost) in printed for cost in (written["finished"], written["cost"]["peak_rss_mb"]))


def test_a_void_claim_raises_after_everything_was_written(make, capsys):
    paper = make()
    paper.claim("high", 0.9, null=0.8)
    with pytest.raises(ClaimError, match="high: the null satisfies the check"):
        paper.report()
    assert results(paper)["claims"][0]["verdict"].startswith("void")
    assert "void" in capsys.readouterr().out


def test_a_void_claim_of_a_dry_run_is_only_recorded(make, monkeypatch):
    monkeypatch.setenv("REPRISE_DRY_RUN", "1")
    paper = make()
    paper.claim("high", 0.9, null=0.8)
    paper.report()
    assert results(paper)["dry_run"] is True


def test_what_did_not_reproduce_is_reported(make):
    paper = make()
    assert paper.claim("high", [0.2, 0.21, 0.22], null=0.1) == "not reproduced"
    paper.report()
    assert results(paper)["claims"][0]["verdict"] == "not reproduced"


def test_claims_are_made_once_and_only_those_of_the_card(make):
    paper = make()
    with pytest.raises(UnknownNameError, match="claim='hihg' is unknown; did you mean 'high'"):
        paper.claim("hihg", 1.0, null=0.0)
    paper.claim("high", 1.0, null=0.0)
    with pytest.raises(ClaimError, match="'high' was already made"):
        paper.claim("high", 1.0, null=0.0)


def test_a_claim_that_is_due_must_be_made(make):
    with pytest.raises(ClaimError, match=r"'high' of papers/tiny/card\.yml was not made"):
        make().report()
    at_paper_scale = make(scale="paper")
    at_paper_scale.claim("high", 1.0, null=0.0)
    with pytest.raises(ClaimError, match="'later'"):
        at_paper_scale.report()
    assert not (at_paper_scale.folder / "results.json").exists()


def test_behind_a_gate_that_did_not_pass_there_is_no_test(gated, capsys):
    assert gated.gate("works", [0.5, 0.51, 0.52]) is False
    assert gated.claim("gated", HIGH, null=0.1, rival={"another": [0.2, 0.3, 0.25]}) == "no test here"
    gated.claim("high", HIGH, null=0.1)
    gated.report()
    claim = results(gated)["claims"][1]
    assert (claim["verdict"], claim["why"], claim["kind"]) == ("no test here", "gate works did not pass", "own")
    assert claim["values"] == HIGH
    assert results(gated)["gates"][0]["passes"] is False
    assert capsys.readouterr().out.startswith("gate ")


def test_behind_a_closed_gate_a_claim_need_not_be_made(gated):
    gated.gate("works", 0.1)
    gated.claim("high", HIGH, null=0.1)
    gated.report()
    assert results(gated)["claims"][1]["verdict"] == "no test here"


def test_an_open_gate_lets_a_claim_be_made(gated):
    with pytest.raises(ClaimError, match="claim 'gated' comes before its gate 'works'"):
        gated.claim("gated", HIGH, null=0.1, rival=0.2)
    assert gated.gate("works", [0.9, 0.91, 0.92]) is True
    with pytest.raises(ClaimError, match="gate 'works' was already measured"):
        gated.gate("works", 0.9)
    assert gated.claim("gated", HIGH, null=0.1, rival=0.2) == "yes"
    with pytest.raises(UnknownNameError, match="gate='wroks' is unknown; did you mean 'works'"):
        gated.gate("wroks", 0.9)


def test_a_run_by_hand_has_a_folder_of_its_own(make, tmp_path, monkeypatch):
    runs = tmp_path / "figures" / "tiny" / "runs"
    folders = {make().folder, make(seed=1).folder, make(scale="paper").folder, make(size=4).folder}
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {runs}
    assert make().folder == make().folder
    assert make().small
    assert not make(scale="paper").small
    monkeypatch.setenv("REPRISE_RUN", str(tmp_path / "official"))
    monkeypatch.setenv("REPRISE_KEY", "abc")
    paper = make()
    paper.claim("high", HIGH, null=0.1)
    paper.report()
    assert paper.folder == tmp_path / "official"
    assert results(paper)["key"] == "abc"


def test_a_claim_is_due_in_the_notebook_that_its_card_names(folder):
    write(folder, {**CARD["claims"][0], "id": "there", "notebook": "more_sizes"}, more={"more_sizes": "other sizes"})
    further, main = Paper("tiny/more_sizes", PARAMETERS), Paper("tiny", PARAMETERS)
    with pytest.raises(ClaimError, match="claim 'there' belongs to more_sizes, says its card"):
        main.claim("there", HIGH, null=0.1)
    with pytest.raises(ClaimError, match="claim 'high' belongs to the main notebook"):
        further.claim("high", HIGH, null=0.1)
    for paper, id in ((further, "there"), (main, "high")):
        paper.claim(id, HIGH, null=0.1)
        paper.report()
        assert [claim["id"] for claim in results(paper)["claims"]] == [id]
        assert results(paper)["notebook"] == paper.notebook
    with pytest.raises(
        UnknownNameError, match=r"'tiny/more_nothing' is no file of papers/tiny; known: more_sizes, tiny"
    ):
        Paper("tiny/more_nothing", PARAMETERS)


def test_what_the_parameters_cell_names_is_recorded_and_nothing_else(make):
    assert make(size=7, other=object()).parameters == {**PARAMETERS, "size": 7}
    with pytest.raises(ValueError, match="namespace lacks size, which the parameters cell of tiny defines"):
        Paper("tiny", {name: value for name, value in PARAMETERS.items() if name != "size"})


def test_a_mistyped_parameter_of_papermill_is_refused(make):
    with pytest.raises(UnknownNameError, match="parameter 'sise' is unknown; did you mean 'size'"):
        make(In=["", "size = 3", "# Parameters\nsise = 5\n"])
    assert make(In=["", "# Parameters\nsize = 5\n"], size=5).parameters["size"] == 5


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
        ({"size": object()}, TypeError, "not JSON serializable"),
    ],
)
def test_bad_parameters_are_refused_at_the_start(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


def test_an_unknown_paper_lists_those_that_exist(make):
    with pytest.raises(UnknownNameError, match="paper='nope' is unknown; known: tiny"):
        Paper("nope", PARAMETERS)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without accelerator")
def test_a_device_that_isn_t_here_names_those_that_are():
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(UnknownNameError, match=r"device='cuda' can't be used here \(.*\); accepted: auto, cpu$"):
        resolve_device("cuda")


def test_auto_means_a_device_with_float64(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    for kind, chosen in {"mps": "cpu", "cuda": "cuda"}.items():
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda kind=kind: torch.device(kind))
        assert resolve_device("auto") == torch.device(chosen)


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


def test_a_long_run_goes_on_where_it_was_killed(make, monkeypatch, tmp_path):
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    calls = []

    def part():
        calls.append(1)
        return {"scores": [0.5, len(calls)]}

    assert make(scale="paper").resume("fedavg_0", part)["scores"] == [0.5, 1]
    assert make(scale="paper").resume("fedavg_0", part)["scores"] == [0.5, 2]  # no runner, no key: computed
    monkeypatch.setenv("REPRISE_KEY", "abc")
    assert [make(scale="paper").resume("fedavg_0", part) for _ in range(3)] == [{"scores": [0.5, 3]}] * 3
    assert make(scale="paper").resume("fedavg_1", part)["scores"] == [0.5, 4]
    assert make().resume("fedavg_0", part)["scores"] == [0.5, 5]  # small scale: always computed
    monkeypatch.setenv("REPRISE_KEY", "changed code")
    assert make(scale="paper").resume("fedavg_0", part)["scores"] == [0.5, 6]
    with pytest.raises(ValueError, match="name='FedAvg 0'"):
        make().resume("FedAvg 0", part)
