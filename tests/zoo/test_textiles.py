"""The shipped fabrics: what their card says, what is learnable about them, bad names; the recipe on a small wheel."""

import io
import zipfile

import numpy as np
import pytest
import torch

from shared._checks import UnknownNameError
from shared.zoo import describe, load_data, recipes
from shared.zoo._assets import asset_arrays

recipe = recipes.module("textiles")


def accuracy_on_spectrum(kind):
    """Logistic regression on the logarithm of the spectrum, averaged over cells of 8×8 frequencies."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_data("textiles", classes=["nominal", kind])
    power = torch.fft.rfft2(data.x[:, 0] - data.x.mean((1, 2, 3))[:, None, None]).abs().square()[:, :, :48]
    cells = torch.nn.functional.avg_pool2d(power[:, None], 8).flatten(1).log()
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    order = np.random.default_rng(0).permutation(len(data))
    return cross_val_score(probe, cells.numpy()[order], data.y.numpy()[order], cv=5, scoring="balanced_accuracy").mean()


@pytest.mark.parametrize(("kind", "tolerance"), [("global", 0.01), ("local", 0.02)])
def test_card_tells_the_truth(kind, tolerance):
    what = f"balanced cross-validated accuracy of nominal against {kind} on the spectrum"
    assert accuracy_on_spectrum(kind) == pytest.approx(describe("textiles").measured(what), abs=tolerance)


def test_pictures():
    data = load_data("textiles")
    assert data.x.shape == (describe("textiles").measured("pictures"), 1, 96, 96)
    assert data.classes == ("nominal", "local", "global")
    assert data.y.bincount().tolist() == [200, 100, 200]
    assert data.x.min() >= 0
    assert data.x.max() <= 1
    assert len(data.x.flatten(1).unique(dim=0)) == 500


def test_some_classes():
    data, all_of_them = load_data("textiles", classes=["global", "nominal"]), load_data("textiles")
    assert data.classes == ("global", "nominal")
    assert torch.equal(data.x[data.y == 0], all_of_them.x[all_of_them.y == 2])
    assert torch.equal(data.x[data.y == 1], all_of_them.x[all_of_them.y == 0])


@pytest.mark.parametrize("options", [{"classes": ["torn"]}, {"split": "train"}])
def test_bad_names(options):
    with pytest.raises(UnknownNameError):
        load_data("textiles", **options)


def test_recipe_reads_a_wheel(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(recipe, "PER_CLASS", {"nominal": 2, "local": 1, "global": 1})
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for kind, grey in (("nominal", 40), ("local", 80), ("global", 120)):
            for number in (3, 4, 9):
                file = io.BytesIO()
                Image.new("L", (250, 250), grey).save(file, "JPEG")
                archive.writestr(f"{recipe.FOLDER}/{kind}/textile_{number:04d}.jpg", file.getvalue())
    arrays = recipe.read(wheel)
    assert arrays["images"].shape == (4, 96, 96)
    assert arrays["images"][:, 0, 0].tolist() == [10, 10, 20, 30]
    assert arrays["labels"].tolist() == [0, 0, 1, 2]
    assert set(arrays["rows"].tolist()) <= {3, 4, 9}
    shipped = asset_arrays("textiles")
    assert arrays.keys() == shipped.keys()
    assert {k: a.dtype for k, a in arrays.items()} == {k: a.dtype for k, a in shipped.items()}
