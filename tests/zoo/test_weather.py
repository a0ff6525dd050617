"""The shipped weather table: what its card says, its targets, bad names; the recipe on a few rows and a bad file."""

import io

import numpy as np
import pytest
import torch

from shared._checks import UnknownNameError
from shared.zoo import describe, load_data, recipes
from shared.zoo._assets import AssetError
from shared.zoo.recipes import _wheels

recipe = recipes.module("bias-correction")
HEAD = "station,Date,Present_Tmax,DEM,Next_Tmax,Next_Tmin\n"
ROWS = (
    "1,2013-06-30,28.7,212.3,29.1,21.2\n2,2013-06-30,NaN,44.8,30.5,22.5\n"
    "3,2013-07-01,31.6,33.3,31.1,23.9\n,,20,12.4,17.4,11.3\n"
)


def test_card_tells_the_truth():
    from sklearn.linear_model import LinearRegression

    card, train, test = describe("bias-correction"), *(load_data("bias-correction", split=s) for s in ("train", "test"))
    assert len(load_data("bias-correction", split="all")) == card.measured("rows") == len(train) + len(test)
    assert train.x.shape[1] == card.measured("columns") == len(train.features)
    r2 = LinearRegression().fit(train.x, train.y).score(test.x, test.y)
    assert r2 == pytest.approx(card.measured("test R2 of linear regression on both targets"), abs=0.01)


def test_one_target():
    both, one = load_data("bias-correction"), load_data("bias-correction", target="Next_Tmin")
    assert torch.equal(one.y, both.y[:, 1])


@pytest.mark.parametrize("options", [{"target": "rain"}, {"split": "validation"}])
def test_bad_names(options):
    with pytest.raises(UnknownNameError):
        load_data("bias-correction", **options)


def test_recipe_leaves_out_rows_with_a_gap():
    arrays = recipe.read(HEAD + ROWS)
    assert arrays["features"].tolist() == ["Present_Tmax", "DEM"]
    assert np.allclose(arrays["x"], [[28.7, 212.3], [31.6, 33.3]])
    assert np.allclose(arrays["y"], [[29.1, 21.2], [31.1, 23.9]])


def test_another_file_is_refused(monkeypatch):
    monkeypatch.setattr(_wheels.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"something else"))
    with pytest.raises(AssetError, match="sha256"):
        _wheels.pinned_file("https://example.org/table.csv", "0" * 64)


def test_no_network_is_said(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(_wheels.urllib.request, "urlopen", fail)
    with pytest.raises(AssetError, match="needs the network"):
        _wheels.pinned_file("https://example.org/table.csv", "0" * 64)
