"""Every notebook runs at paper scale, offline, on tiny stand-ins of the models and data that its paper.yml names.

The numbers mean nothing (random weights); what is tested is that the code for the paper's own scale runs to its end.
"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from shared.compendium import known_papers
from shared.compendium.parameters import notebook_parameters
from shared.compendium.paths import PAPERS
from tests.papers.dry import run_forked

STAND_INS = Path(__file__).parent / "stand_ins"


def stand_in(slug: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"stand_in_{slug}", STAND_INS / f"{slug}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("slug", known_papers())
def test_runs_at_paper_scale(slug, tmp_path):
    assert (STAND_INS / f"{slug}.py").is_file(), f"tests/papers/stand_ins/{slug}.py is missing: build(hub), PARAMETERS"
    tiny = stand_in(slug)
    named = yaml.safe_load((PAPERS / slug / "paper.yml").read_text(encoding="utf-8"))
    assert not {"scale", "seed", "device"} & tiny.PARAMETERS.keys(), "PARAMETERS only shrink loops"
    assert tiny.PARAMETERS.keys() <= notebook_parameters(slug).keys()
    hub, figures = tmp_path / "hub", tmp_path / "figures"
    hub.mkdir()
    tiny.build(hub)
    environment = {"REPRISE_HUB": str(hub), "REPRISE_RUN": str(figures), "REPRISE_DRY_RUN": "1", "HF_HUB_OFFLINE": "1"}

    run_forked(PAPERS / slug / f"{slug}.ipynb", {**named, **tiny.PARAMETERS}, environment)

    results = json.loads((figures / "results.json").read_text(encoding="utf-8"))
    assert results["dry_run"]
    assert results["parameters"]["scale"] == "paper"
    assert results["figures"], "no figure was drawn"
