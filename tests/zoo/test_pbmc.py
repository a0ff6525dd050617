"""The shipped single-cell set: what its card says, its targets, bad names."""

import numpy as np
import pytest
import torch

from shared._checks import UnknownNameError
from shared.zoo import describe, load_data


def test_card_tells_the_truth():
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    card, data = describe("pbmc68k_reduced"), load_data("pbmc68k_reduced")
    assert data.x.shape == (card.measured("cells"), card.measured("components"))
    accuracy = cross_val_score(KNeighborsClassifier(15), data.x.numpy(), data.y.numpy(), cv=5).mean()
    assert accuracy == pytest.approx(
        card.measured("cross-validated accuracy of 15 nearest neighbours on the cell types"), abs=0.01
    )


@pytest.mark.parametrize(("target", "groups"), [("bulk_labels", 10), ("louvain", 11), ("phase", 3)])
def test_groups(target, groups):
    data = load_data("pbmc68k_reduced", target=target)
    assert len(data.classes) == groups
    assert sorted(np.unique(data.y)) == list(range(groups))


def test_numbers_per_cell():
    counts = load_data("pbmc68k_reduced", target="n_counts")
    assert counts.classes is None
    assert counts.y.dtype == torch.float32
    assert (counts.y > load_data("pbmc68k_reduced", target="n_genes").y).all()


@pytest.mark.parametrize("options", [{"target": "age"}, {"split": "train"}])
def test_bad_names(options):
    with pytest.raises(UnknownNameError):
        load_data("pbmc68k_reduced", **options)
