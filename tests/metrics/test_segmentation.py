"""IoU against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from shared.metrics import class_iou, miou


def labels(seed, n=5):
    return torch.randint(n, (3, 8, 9), generator=torch.Generator().manual_seed(seed))


def test_iou_is_scikit_learns():
    predicted, target = labels(0), labels(1)
    want = jaccard_score(target.flatten(), predicted.flatten(), average=None, labels=range(5))
    np.testing.assert_allclose(class_iou(predicted, target, 5), want, rtol=1e-12)
    assert miou(predicted, target, 5) == pytest.approx(want.mean())


def test_ignored_places_do_not_count():
    predicted, target = labels(0), labels(1)
    target[0, :4] = -1
    on = target >= 0
    want = jaccard_score(target[on], predicted[on], average="macro")
    assert miou(predicted, target, 5) == pytest.approx(want)
    target[target == -1] = 255
    assert miou(predicted, target, 5, ignore=255) == pytest.approx(want)


def test_classes_that_occur_nowhere_are_left_out():
    predicted, target = labels(0, 3), labels(1, 3)
    found = class_iou(predicted, target, 5)
    assert torch.isnan(found[3:]).all()
    assert miou(predicted, target, 5) == pytest.approx(
        jaccard_score(target.flatten(), predicted.flatten(), average="macro")
    )
    predicted[0, 0, 0] = 4  # predicted but nowhere true: that is an error
    assert class_iou(predicted, target, 5)[4] == 0


def test_perfect_is_one():
    assert miou(labels(0), labels(0), 5) == 1


@pytest.mark.parametrize(
    ("predicted", "target", "n", "message"),
    [
        (torch.zeros(3, dtype=torch.long), torch.zeros(4, dtype=torch.long), 2, "predicted has shape"),
        (torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), 2, "predicted is empty"),
        (torch.zeros(2, dtype=torch.long), torch.full((2,), -1), 2, "target has no place that counts"),
        (torch.tensor([0, 2]), torch.tensor([0, 1]), 2, "predicted must hold whole numbers from 0 to 1; it has 0 to 2"),
        (torch.tensor([0, 1]), torch.tensor([0, 7]), 2, "target must hold whole numbers"),
        (torch.tensor([0.0, 1.0]), torch.tensor([0, 1]), 2, "predicted must hold whole numbers"),
        (torch.tensor([0, 1]), torch.tensor([0, 1]), 0, "n_classes=0 is out of range"),
    ],
)
def test_bad_input_is_named(predicted, target, n, message):
    with pytest.raises(ValueError, match=message):
        miou(predicted, target, n)
