"""Selection is exact; sparse products and their gradients are those of the dense ones."""

from __future__ import annotations

import pytest
import torch

from shared.sae import SparseCodes
from shared.sae._sparse import Pattern, bag, batch_top_k, encode_at, offsets_of, select, top_k


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("width", "k"), [(512, 4), (1000, 3), (777, 5), (64, 4), (20, 20), (4099, 32), (16, 1)])
def test_top_k_finds_the_same_values_as_torch_and_where_they_are(width, k):
    z = torch.randn(37, width, generator=rng())
    values, columns = top_k(z, k)
    expected = z.topk(k).values
    assert torch.equal(values.sort(1, descending=True).values, expected)
    assert torch.equal(z.gather(1, columns), values)
    assert all(len(set(row.tolist())) == k for row in columns)


@pytest.mark.parametrize(("width", "count"), [(512, 300), (100, 999), (77, 40), (16, 3000), (64, 1)])
def test_batch_top_k_keeps_the_largest_positive_entries_of_the_batch(width, count):
    z = torch.randn(41, width, generator=rng(1))
    values, rows, columns = batch_top_k(z, count)
    expected = z.relu().flatten().topk(min(count, z.numel())).values
    assert torch.equal(values.sort(descending=True).values, expected[expected > 0])
    assert torch.equal(z[rows, columns], values)
    assert (rows.diff() >= 0).all()
    assert len({*zip(rows.tolist(), columns.tolist(), strict=True)}) == len(values)


def test_batch_top_k_of_a_batch_without_a_positive_entry_is_empty():
    values, rows, columns = batch_top_k(-torch.ones(5, 64), 10)
    assert len(values) == len(rows) == len(columns) == 0


def some_codes(rows=9, width=30, share=0.2):
    dense = torch.randn(rows, width, generator=rng(2), dtype=torch.float64).relu()
    return dense * (torch.rand(rows, width, generator=rng(3)) < share)


def test_sparse_codes_go_there_and_back_and_count_the_same():
    dense = some_codes().reshape(3, 3, 30)
    sparse = SparseCodes.from_dense(dense)
    assert torch.equal(sparse.dense(), dense)
    assert float(sparse.l0()) == pytest.approx(float((dense > 0).sum(-1).double().mean()))
    assert torch.equal(sparse.fired(), (dense > 0).flatten(0, 1).any(0))
    weight = torch.randn(30, 4, generator=rng(4), dtype=torch.float64)
    assert torch.allclose(sparse.matmul(weight), dense @ weight, atol=1e-12)


def test_codes_by_level_sum_to_the_whole_and_hold_only_their_level():
    dense, widths = some_codes(), (3, 10, 30)
    levels = SparseCodes.from_dense(dense).by_level(widths).dense().view(3, *dense.shape)
    assert torch.equal(levels.sum(0), dense)
    for level, (low, high) in enumerate(zip((0, *widths), widths, strict=False)):
        assert torch.equal(levels[level][:, low:high], dense[:, low:high])
        assert levels[level].count_nonzero() == dense[:, low:high].count_nonzero()


def test_gradients_of_the_bag_pass_gradcheck():
    sparse = SparseCodes.from_dense(some_codes())
    weight = torch.randn(30, 5, generator=rng(4), dtype=torch.float64, requires_grad=True)
    values = sparse.values.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda v, w: bag(v, w, sparse.pattern), (values, weight))


def test_gradients_of_the_encoder_at_a_pattern_are_those_of_the_dense_one():
    x, w, b = (torch.randn(*s, generator=rng(i), dtype=torch.float64) for i, s in enumerate([(8, 6), (6, 40), (40,)]))
    values, pattern = select(x, w, b, 3, over_batch=False)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    upstream = torch.randn(len(values), generator=rng(9), dtype=torch.float64)
    ours = torch.autograd.grad(encode_at(*leaves, values, pattern) @ upstream, leaves)
    dense = (leaves[0] @ leaves[1] + leaves[2])[pattern.rows, pattern.columns] @ upstream
    for mine, theirs in zip(ours, torch.autograd.grad(dense, leaves), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_rows_without_an_active_latent_decode_to_zero():
    pattern = Pattern(torch.tensor([2, 0]), offsets_of(torch.tensor([0, 2, 0])), 4)
    out = bag(torch.tensor([2.0, 1.0]), torch.eye(4), pattern)
    assert torch.equal(out, torch.tensor([[0.0] * 4, [1.0, 0.0, 2.0, 0.0], [0.0] * 4]))
