"""The estimator: recovery, reading out, determinism, interruption, scikit-learn's conventions, bad input."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from shared.patterns import DiffNaps, DiffNapsNet, soft_f1_by_class
from shared.patterns.diffnaps import _estimator
from shared.patterns.diffnaps._rows import Batches


def _disjoint(seed=0, n=1500, d=60, length=6):
    """Two classes with three disjoint patterns each, two per row, no noise."""
    rng = np.random.default_rng(seed)
    items = rng.permutation(d)[: 6 * length].reshape(6, length)
    truth = {c: [tuple(sorted(p.tolist())) for p in items[3 * c : 3 * c + 3]] for c in (0, 1)}
    y = rng.integers(0, 2, n)
    X = np.zeros((n, d), dtype=np.uint8)
    for row, c in enumerate(y):
        for k in rng.choice(3, 2, replace=False):
            X[row, truth[c][k]] = 1
    return X, y, truth


@pytest.fixture(scope="module")
def fitted():
    X, y, truth = _disjoint()
    options = dict(epochs=40, batch_size=32, milestones=(30, 36), w_reg=(5.0, 5.0))
    model = DiffNaps(n_hidden=40, **options, random_state=0).fit(X, y)
    return model, X, y, truth


def _quick(**options):
    return DiffNaps(**({"n_hidden": 8, "epochs": 2, "batch_size": 16, "random_state": 0} | options))


# --- what it finds --------------------------------------------------------------------------------------------
def test_disjoint_patterns_without_noise_are_recovered(fitted):
    model, _, _, truth = fitted
    assert soft_f1_by_class(model.patterns_, truth).f1 > 0.95
    assert all(p in model.patterns_[c] for c, patterns in truth.items() for p in patterns)  # to the item


def test_shuffled_labels_give_no_class_patterns(fitted):
    model, X, y, truth = fitted
    shuffled = np.random.default_rng(1).permutation(y)
    control = clone(model).fit(X, shuffled)
    assert soft_f1_by_class(control.patterns_, truth).f1 < 0.3


def test_history_shows_learning(fitted):
    history = fitted[0].history_
    assert len(history) == 40
    assert history[-1]["reconstruction"] < 0.5 * history[0]["reconstruction"]
    assert history[-1]["accuracy"] > 0.95
    assert history[-1]["cell_error"] < history[0]["cell_error"]
    assert fitted[0].n_steps_ == 40 * -(-1350 // 32)


def test_thresholded_network_rebuilds_rows_and_votes(fitted):
    model, X, y, _ = fitted
    assert (model.predict(X) == y).mean() > 0.95
    assert abs(model.reconstruct(X) - X).sum() < 0.2 * X.sum()  # predicting no ones errs X.sum() times


# --- reading out ----------------------------------------------------------------------------------------------
def _with_weights(weight, head, bias=None, classes=("a", "b")):
    """A fitted model whose network has the given weights."""
    weight, head = torch.tensor(weight), torch.tensor(head)
    model = _quick(n_hidden=len(weight)).fit(np.eye(weight.shape[1], dtype=int)[[0, 1]], list(classes))
    model.net_.weight.data.copy_(weight)
    model.net_.head.data.copy_(head)
    if bias is not None:
        model.net_.bias.data.copy_(torch.tensor(bias))
    return model.read_patterns(0.3, 0.3)


def test_reading_patterns_by_hand():
    weight = [
        [0.9, 0.8, 0.1, 0.1],
        [0.9, 0.31, 0.1, 0.1],
        [0.1, 0.1, 0.1, 0.1],
        [0.1, 0.1, 0.7, 0.9],
        [0.1, 0.9, 0.9, 0.3],
    ]
    model = _with_weights(weight, [[0.9, 0.0, 0.9, 0.0, 0.31], [0.0, 0.8, 0.9, 0.3, 0.9]])
    assert model.all_patterns_ == [(0, 1), (1, 2), (2, 3)]  # the empty set dropped, the twins merged
    assert model.patterns_ == {"a": [(0, 1), (1, 2)], "b": [(0, 1), (1, 2)]}  # the twins' classes united
    assert model.general_patterns_ == [(2, 3)]  # 0.3 isn't over 0.3
    assert model.assigned_.tolist() == [[True, True, False], [True, True, False]]
    model.read_patterns(0.5, 0.85)
    assert model.patterns_ == {"a": [(0, 1)], "b": [(1, 2)]}
    assert model.general_patterns_ == [(0,), (2, 3)]


def test_prediction_and_reconstruction_by_hand():
    weight = [[0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.9, 0.9]]
    model = _with_weights(weight, [[0.9, 0.0], [0.0, 0.9]])
    X = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1]])
    assert model.predict(X).tolist() == ["a", "b", "a", "a"]  # nothing, and a tie, go to the first class
    assert model.reconstruct(X).toarray().tolist() == [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
    stricter = _with_weights(weight, [[0.9, 0.0], [0.0, 0.9]], bias=[-2.0, -1.0])
    assert stricter.reconstruct(X).toarray().tolist()[0] == [0, 0, 0, 0]  # now needs three items
    assert stricter.reconstruct(X).toarray().tolist()[3] == [0, 0, 1, 1]


def test_thresholded_network_agrees_with_the_torch_module(fitted):
    model, X, _, _ = fitted
    with torch.no_grad():
        output = model.net_(torch.from_numpy(X).float(), model.net_.threshold(0.3))
    assert (model.reconstruct(X).toarray() == output.reconstruction.numpy()).all()


def test_thresholds_are_chosen_by_the_thresholded_networks_errors():
    weight = [[0.6, 0.6, 0.2, 0.1], [0.1, 0.1, 0.6, 0.6]]  # at 0.15 the first pattern takes in a third item
    model = _with_weights(weight, [[0.6, 0.2], [0.0, 0.6]])  # at 0.1 class a claims both
    X, y = np.array([[1, 1, 0, 0], [0, 0, 1, 1]] * 5), ["a", "b"] * 5
    assert model.choose_thresholds(X, y, (0.15, 0.4), (0.1, 0.4)) == (0.4, 0.4)


def test_transform_marks_rows_that_hold_a_whole_pattern(fitted):
    model, X, _, _ = fitted
    held = model.transform(sparse.csr_matrix(X))
    assert sparse.issparse(held)
    assert held.shape == (len(X), len(model.all_patterns_))
    for column, pattern in enumerate(model.all_patterns_):
        assert (held[:, column].toarray().ravel() == X[:, pattern].all(1)).all()
    assert model.get_feature_names_out()[0] == " & ".join(f"x{i}" for i in model.all_patterns_[0])


# --- conventions ----------------------------------------------------------------------------------------------
def test_same_seed_same_patterns_and_input_forms_agree():
    X, y, _ = _disjoint(n=200)
    forms = (X, X.astype(bool), X.astype(float), sparse.csr_matrix(X), sparse.coo_matrix(X), pd.DataFrame(X))
    fits = [_quick().fit(form, y) for form in forms]
    for other in fits[1:]:
        assert torch.equal(fits[0].net_.weight, other.net_.weight)
    assert not torch.equal(fits[0].net_.weight, _quick(random_state=1).fit(X, y).net_.weight)


def test_batches_from_sparse_rows_are_those_from_the_dense_copy(monkeypatch):
    X, y, _ = _disjoint(n=50)
    dense = Batches(sparse.csr_matrix(X, dtype=np.float32), y, torch.device("cpu"))
    monkeypatch.setattr(Batches, "DENSE_CELLS", 0)
    rows = Batches(sparse.csr_matrix(X, dtype=np.float32), y, torch.device("cpu"))
    for a, b in zip(dense[np.array([3, 1])], rows[np.array([3, 1])]):
        assert torch.equal(a, b)


def test_double_precision_trains_the_same_network():
    X, y, _ = _disjoint(n=200)
    model = _quick(dtype=torch.float64).fit(X, y)
    assert model.net_.weight.dtype == torch.float64
    assert model.net_.decoder.data_ptr() == model.net_.weight.data_ptr()
    assert model.predict(X).shape == (200,)
    start = DiffNapsNet(60, 8, 2, generator=torch.Generator().manual_seed(_first_seed(0)))
    assert not torch.equal(model.net_.weight, start.weight.double())
    frozen = _quick(dtype=torch.float64, epochs=1, lr=1e-12, lambda_c=0.0).fit(X, y)  # the same start as in float32
    torch.testing.assert_close(frozen.net_.weight.float(), start.weight.detach(), atol=1e-6, rtol=0)


def _first_seed(random_state):
    return int(np.random.RandomState(random_state).randint(np.iinfo(np.int32).max, size=3)[0])


def test_global_random_state_is_left_alone():
    X, y, _ = _disjoint(n=100)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    _quick().fit(X, y)
    assert torch.equal(torch.rand(3), expected)


def test_names_of_a_data_frame_and_a_pipeline():
    X, y, _ = _disjoint(n=300)
    frame = pd.DataFrame(X, columns=[f"gene{i}" for i in range(X.shape[1])])
    labels = np.where(y == 0, "healthy", "tumour")
    model = DiffNaps(n_hidden=30, epochs=20, batch_size=16, random_state=0, milestones=(18,)).fit(frame, labels)
    assert list(model.patterns_) == ["healthy", "tumour"]
    assert model.all_patterns_
    assert all(name.startswith("gene") for name in model.get_feature_names_out())
    assert set(model.predict(frame)) <= {"healthy", "tumour"}
    pipe = make_pipeline(clone(model), DecisionTreeClassifier(random_state=0)).fit(frame, labels)
    assert pipe.score(frame, labels) > 0.8


def test_learning_rate_falls_at_the_milestones(monkeypatch):
    X, y, _ = _disjoint(n=100)  # 90 rows, 6 steps an epoch
    rates = []
    step = torch.optim.Adam.step

    def spy(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    _quick(epochs=2, milestones=(0.5, 1.5), two_moments=False).fit(X, y)
    np.testing.assert_allclose(rates, [0.01] * 3 + [0.001] * 6 + [0.0001] * 3)


def test_regularisers_grow_each_epoch(monkeypatch):
    seen = []
    step = _estimator.diffnaps_gradients
    monkeypatch.setattr(
        _estimator, "diffnaps_gradients", lambda *a, **k: seen.append((k["w_reg"], k["head_reg"])) or step(*a, **k)
    )
    X, y, _ = _disjoint(n=40)
    _quick(epochs=3, batch_size=64, w_reg=(1.0, 2.0), head_reg=(0.5, 0.0), reg_growth=1.1).fit(X, y)
    np.testing.assert_allclose(seen, [[(1.1**e, 2 * 1.1**e), (0.5 * 1.1**e, 0)] for e in range(3)])


def test_interrupt_keeps_what_was_learnt(monkeypatch):
    X, y, _ = _disjoint(n=100)
    step, calls = torch.optim.Adam.step, []

    def interrupt(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", interrupt)
    with pytest.warns(RuntimeWarning, match="after 4 steps"):
        model = _quick().fit(X, y)
    assert model.interrupted_
    assert model.transform(X).shape[0] == 100
    calls.clear()
    calls.extend([1] * 8)
    with pytest.raises(KeyboardInterrupt):  # nothing learnt yet
        _quick().fit(X, y)


def test_ablation_by_rounding_never_learns_a_pattern():
    X, y, _ = _disjoint(n=200)
    assert _quick(sampling="threshold", epochs=5).fit(X, y).all_patterns_ == []


def test_items_of_nearly_all_rows_are_warned_of():
    X, y, _ = _disjoint(n=100)
    X[:, 4] = 1
    with pytest.warns(UserWarning, match="1 items are in over 95 % of the rows \\(4\\)"):
        _quick().fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _quick().fit(_disjoint(n=100)[0], y)


def test_all_zero_rows_and_no_held_out_rows_are_fine():
    X, y, _ = _disjoint(n=100)
    X[:10] = 0
    model = _quick(holdout=0).fit(X, y)
    assert np.isnan(model.history_[0]["accuracy"])


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        (np.zeros((0, 3)), [], ValueError, "X has shape"),
        (np.zeros((3, 0)), [0, 1, 0], ValueError, "X has shape"),
        (np.zeros(3), [0, 1, 0], ValueError, "X has shape"),
        (np.array([[0.5, 1], [0, 1]]), [0, 1], ValueError, "neither 0 nor 1"),
        (np.array([[2, 1], [0, 1]]), [0, 1], ValueError, "neither 0 nor 1"),
        (sparse.csr_matrix([[3.0, 1], [0, 1]]), [0, 1], ValueError, "neither 0 nor 1"),
        (np.array([[np.nan, 1], [0, 1]]), [0, 1], ValueError, "neither 0 nor 1"),
        (np.array([["a", "b"], ["c", "d"]]), [0, 1], TypeError, "dtype"),
        (np.eye(2), [0, 0], ValueError, "one class only"),
        (np.eye(2), [0, 1, 1], ValueError, "y has shape"),
        (np.eye(2), [0.0, np.nan], ValueError, "NaN"),
        (pd.DataFrame(np.eye(2), columns=["g", "g"]), [0, 1], ValueError, "'g'"),
    ],
)
def test_bad_data_is_named(X, y, error, message):
    with pytest.raises(error, match=message):
        _quick().fit(X, y)


@pytest.mark.parametrize(
    "options",
    [
        {"n_hidden": 0},
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lambda_c": -1.0},
        {"holdout": 1.0},
        {"t_e": 1.5},
        {"t_c": -0.1},
        {"sampling": "round"},
        {"head_init": "zero"},
        {"bias_rule": "none"},
        {"dtype": torch.float16},
    ],
)
def test_bad_parameters_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        _quick(**options).fit(np.eye(4), [0, 1, 0, 1])


def test_a_network_that_does_not_fit_says_what_it_needs():
    X = sparse.csr_matrix((2, 1_000_000))
    with pytest.raises(ValueError, match=r"1,000,000 items need about 3600.0 GB"):
        _quick(n_hidden=100_000).fit(X, [0, 1])


def test_use_before_fit_and_other_columns():
    with pytest.raises(NotFittedError):
        DiffNaps().transform(np.eye(3))
    model = _quick().fit(np.eye(4), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="fit saw 4"):
        model.transform(np.eye(3))
    with pytest.raises(ValueError, match="expected 4"):
        model.get_feature_names_out(["a"])
