"""Co-firing against loops over patches, and cases counted by hand."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from shared.concepts import Cooccurrence
from shared.sae import SparseCodes
from tests.concepts.cases import codes, family, rng


def by_loops(f, threshold=1e-3):
    """C and D patch by patch and pair by pair, in float64."""
    n, d = f.shape
    C, D = torch.zeros(2, d, d, dtype=torch.float64)
    for p in range(n):
        on = [i for i in range(d) if f[p, i] > threshold]
        for i in on:
            for j in on:
                C[i, j] += 1
                D[i, j] += float(f[p, i])
    return C, D


@pytest.mark.parametrize("share", [0.1, 0.6])  # the sparse and the dense way
def test_tables_are_what_loops_count(share):
    f = codes(n=80, share=share)
    found = Cooccurrence(12).update(f).relations()
    C, D = by_loops(f)
    assert torch.equal(found.joint, C)
    assert torch.allclose(found.mass, D, atol=1e-5)
    assert torch.equal(found.counts, (f > 0).sum(0).double())
    assert found.rows == 80


def test_tables_are_scipys_sparse_products():
    f = codes(n=500, d=40, share=0.1).double().numpy()
    found = Cooccurrence(40).update(torch.from_numpy(f)).relations()
    A, F = sp.csr_array((f > 0).astype(float)), sp.csr_array(f)
    np.testing.assert_array_equal(found.joint, (A.T @ A).toarray())
    np.testing.assert_allclose(found.mass, (F.T @ A).toarray(), rtol=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_streaming_is_one_shot(share):
    f = codes(n=700, share=share)
    once, bit = Cooccurrence(12, top=5).update(f), Cooccurrence(12, top=5)
    for part in f.split([1, 99, 350, 250]):
        bit.update(part)
    one, other = once.relations(), bit.relations()
    assert torch.equal(one.joint, other.joint)
    assert torch.allclose(one.mass, other.mass, rtol=1e-6)
    a, b = once.top_patches(), bit.top_patches()
    assert torch.equal(a.rows, b.rows)
    assert torch.equal(a.values, b.values)
    assert torch.equal(a.codes.dense(), b.codes.dense())


def test_many_rows_are_handled_in_parts(monkeypatch):
    f = codes(n=300, d=40, share=0.1)
    whole = Cooccurrence(40).update(f).relations()
    monkeypatch.setattr("shared.concepts._relations.PAIRS", 50)
    monkeypatch.setattr("shared.concepts._relations.DENSE_SHARE", 1.0)
    parts = Cooccurrence(40).update(f).relations()
    assert torch.equal(whole.joint, parts.joint)
    assert torch.allclose(whole.mass, parts.mass)


def test_dense_and_sparse_codes_maps_and_tables_are_alike():
    f = codes(n=60).view(3, 4, 5, 12)
    tables = [Cooccurrence(12).update(g).relations().mass for g in (f, f.reshape(-1, 12), SparseCodes.from_dense(f))]
    assert torch.allclose(tables[0], tables[1])
    assert torch.allclose(tables[0], tables[2])


def test_a_child_implies_its_parent_and_not_the_reverse():
    f = family()
    found = Cooccurrence(6).update(f).relations()
    share = found.conditional()
    assert share[1, 0] == pytest.approx(1)
    inside = f[f[:, 1] > 0, 0].sum() / f[:, 0].sum()
    assert share[0, 1] == pytest.approx(float(inside), abs=1e-6)
    assert share[0, 1] < 0.6


def test_mass_and_counts_differ_where_activation_does():
    f = torch.tensor([[1.0, 1.0], [0.1, 0.0], [0.1, 0.0]])
    found = Cooccurrence(2).update(f).relations()
    assert found.conditional(by="count")[0, 1] == pytest.approx(1 / 3)
    assert found.conditional(by="mass")[0, 1] == pytest.approx(1 / 1.2)


def test_shares_lie_between_none_and_all_and_dead_rows_are_zero():
    found = Cooccurrence(12).update(codes(share=0.3)).relations()
    assert torch.equal(found.joint, found.joint.T)
    for by in ("mass", "count"):
        share = found.conditional(by=by)
        assert share.min() >= 0
        assert share.max() <= 1 + 1e-12
        assert torch.allclose(share.diagonal()[:-1], torch.ones(11, dtype=torch.float64))
        assert not share[-1].any()
        assert not share[:, -1].any()
        assert torch.isfinite(found.lift(by=by)).all()
    assert found.alive.tolist() == [True] * 11 + [False]


def test_codes_at_the_threshold_do_not_fire():
    f = torch.tensor([[0.5, 0.001], [0.5, 0.2]])
    assert Cooccurrence(2).update(f).relations().counts.tolist() == [2, 1]
    assert Cooccurrence(2, threshold=0.3).update(f).relations().counts.tolist() == [2, 0]


def test_lift_is_one_for_what_fires_everywhere():
    found = Cooccurrence(6).update(family()).relations()
    assert torch.allclose(found.lift()[:5, 3], torch.ones(5, dtype=torch.float64))
    assert found.lift()[1, 0] == pytest.approx(1 / float(found.rate[0]))


def test_permuting_latents_permutes_the_tables():
    f, order = codes(n=200), torch.randperm(12, generator=rng(3))
    one, other = (Cooccurrence(12).update(g).relations() for g in (f, f[:, order]))
    assert torch.allclose(one.mass[order][:, order], other.mass)


# --- top patches ------------------------------------------------------------------------------------------------
def test_top_patches_are_the_largest_with_their_codes():
    f = codes(n=400)
    top = Cooccurrence(12, top=7).update(f).top_patches()
    best = f.T.sort(dim=1, descending=True, stable=True)
    assert torch.equal(top.values, best.values[:, :7])
    assert torch.equal(top.rows[:-1], best.indices[:-1, :7])
    assert torch.equal(top.codes.dense()[top.at[:-1]], f[top.rows[:-1]])
    assert torch.allclose(top.mean_codes()[:-1], f[top.rows[:-1]].mean(1), atol=1e-6)


def test_missing_patches_do_not_dilute_the_mean():
    f = torch.zeros(50, 3)
    f[4], f[9] = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([4.0, 0.0, 0.0])
    top = Cooccurrence(3, top=30).update(f).top_patches()
    assert top.rows[0, :3].tolist() == [9, 4, -1]
    assert top.values[0, :3].tolist() == [4, 2, 0]
    mean = top.mean_codes()
    assert mean[0].tolist() == [3, 0.5, 0]  # with zeros for the 28 others it would be [0.2, 0.03, 0]
    assert mean[1].tolist() == [2, 1, 0]
    assert not mean[2].any()


def test_ties_go_to_the_patch_seen_first():
    f = torch.ones(6, 1)
    whole, parts = Cooccurrence(1, top=3).update(f), Cooccurrence(1, top=3).update(f[:2]).update(f[2:])
    assert whole.top_patches().rows.tolist() == parts.top_patches().rows.tolist() == [[0, 1, 2]]


def test_a_batch_in_which_nothing_fires():
    found = Cooccurrence(3).update(torch.zeros(4, 3)).update(torch.ones(2, 3))
    assert found.relations().rows == 6
    assert found.relations().counts.tolist() == [2, 2, 2]
    assert not Cooccurrence(3).update(torch.zeros(4, 3)).top_patches().mean_codes().any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Cooccurrence(0), "d_sae=0 is out of range"),
        (lambda: Cooccurrence(3, threshold=-1), "threshold=-1 is out of range"),
        (lambda: Cooccurrence(3, top=0), "top=0 is out of range"),
        (lambda: Cooccurrence(3).update(torch.ones(4, 2)), r"codes has shape \(4, 2\); its last axis must be d_sae=3"),
        (lambda: Cooccurrence(3).update(SparseCodes.from_dense(torch.ones(4, 2))), "codes has shape"),
        (lambda: Cooccurrence(3).update(torch.tensor(1.0)), "codes has shape"),
        (lambda: Cooccurrence(3).update(torch.ones(0, 3)), "codes is empty"),
        (lambda: Cooccurrence(3).update(torch.full((4, 3), torch.nan)), "codes has 12 NaN"),
        (lambda: Cooccurrence(3).top_patches(), "no codes were given yet"),
        (lambda: Cooccurrence(3).update(torch.ones(2, 3)).relations().conditional(by="rank"), "by='rank' is unknown"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
