"""VAR from its equation, against captum, by its invariants, and bad input."""

import math

import pytest
import torch
from torch import nn

from shared.attribution import choose_classes, class_gradients, class_softmax, shared_map, var_map
from shared.lrp import attribute
from tests.lrp.conftest import ResidualNet, randomize_norms


@pytest.fixture
def maps():
    return torch.randn(4, 3, 2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 5


def by_hand(values, target, tau, temperature):
    """One location: attributions of K classes -> VAR of the target."""
    powers = [math.exp(temperature * abs(v)) for v in values]
    share = powers[target] / sum(powers)
    return values[target] * share if share - 1 / len(values) > tau else 0.0


@pytest.mark.parametrize(("tau", "temperature"), [(0.01, 10.0), (0.1, 10.0), (0.3, 2.0), (-1.0, 0.0)])
def test_equation_location_by_location(maps, tau, temperature):
    target = torch.tensor([2, 0, 3])
    got = var_map(maps, target, tau=tau, temperature=temperature)
    for (b, c, i, j), value in zip(torch.cartesian_prod(*map(torch.arange, got.shape)).tolist(), got.flatten()):
        want = by_hand(maps[:, b, c, i, j].tolist(), int(target[b]), tau, temperature)
        assert value.item() == pytest.approx(want, abs=1e-12)


def test_shares_sum_to_one_and_survive_huge_values(maps):
    for options in ({}, {"use_abs": False}, {"scale": "max"}, {"scale": "p99"}, {"channels": "sum"}):
        shares = class_softmax(maps * 1e6, **options)
        torch.testing.assert_close(shares.sum(0), torch.ones_like(maps[0]), atol=1e-9, rtol=0)
        assert bool(torch.isfinite(shares).all())


def test_equal_maps_are_owned_by_nobody(maps):
    same = maps[:1].expand(4, *maps.shape[1:])
    torch.testing.assert_close(class_softmax(same), torch.full_like(same, 0.25))
    assert var_map(same, 1).count_nonzero() == 0


def test_no_temperature_and_no_threshold_is_the_kth_part(maps):
    torch.testing.assert_close(var_map(maps, 1, tau=-1, temperature=0), maps[1] / 4)


def test_large_temperature_gives_one_owner(maps):
    owner = maps.abs().argmax(0)
    shares = class_softmax(maps, temperature=1e9)
    torch.testing.assert_close(shares, torch.nn.functional.one_hot(owner, 4).movedim(-1, 0).double())


def test_keeps_signs_and_never_grows(maps):
    result = var_map(maps, 0)
    on = result != 0
    assert 0 < on.double().mean() < 1
    assert bool((result.abs() <= maps[0].abs()).all())
    assert torch.equal(result[on].sign(), maps[0][on].sign())


def test_a_constant_added_to_all_magnitudes_changes_nothing(maps):
    magnitudes = maps.abs()
    torch.testing.assert_close(class_softmax(magnitudes + torch.rand(3, 2, 5, 6)), class_softmax(magnitudes))


def test_order_of_classes_flips_and_batches_commute(maps):
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(var_map(maps[order], 1), var_map(maps, 0))
    torch.testing.assert_close(var_map(maps.flip(-1), 2), var_map(maps, 2).flip(-1))
    torch.testing.assert_close(var_map(maps[:, 1:2], 2), var_map(maps, 2)[1:2])


@pytest.mark.parametrize("scale", ["max", "p99"])
def test_scaled_result_does_not_depend_on_the_unit(maps, scale):
    torch.testing.assert_close(var_map(maps * 1e-4, 0, scale=scale), var_map(maps, 0, scale=scale) * 1e-4)
    assert not torch.allclose(var_map(maps * 1e-4, 0), var_map(maps, 0) * 1e-4)
    zeros = torch.zeros_like(maps)
    assert var_map(zeros, 0, scale=scale).count_nonzero() == 0


def test_channels_summed(maps):
    shares = class_softmax(maps, channels="sum")
    torch.testing.assert_close(shares[:, :, 0], torch.softmax(10 * maps.sum(2).abs(), 0))
    assert torch.equal(shares[:, :, 0], shares[:, :, 1])


def test_shared_map_finds_what_neither_owns():
    a = torch.tensor([[[[1.0, 1.0, 0.0, 0.02]]]])
    b = torch.tensor([[[[-1.0, 0.1, 1.0, 0.01]]]])
    torch.testing.assert_close(shared_map(torch.stack([a, b]), 0, 1), torch.tensor([[[[1.0, 0.0, 0.0, 0.01]]]]))


def test_chosen_classes():
    logits = torch.tensor([[3.0, 1.0, 2.0, -5.0, 0.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
    assert choose_classes(logits).tolist() == [[0, 2, 3], [4, 3, 0]]
    assert choose_classes(logits, target=torch.tensor([1, 0])).tolist() == [[0, 1, 3], [4, 3, 0]]
    assert choose_classes(logits[:, :2], k=1).tolist() == [[0, 1], [1, 0]]


@pytest.fixture
def net():
    return randomize_norms(ResidualNet()).eval()


CLASSES = torch.tensor([[0, 3, 1], [2, 1, 0]])


def test_gradients_are_those_of_single_classes(net):
    x = torch.randn(2, 3, 8, 8)
    got = class_gradients(net, x, CLASSES)
    for k in range(3):
        leaf = x.clone().requires_grad_()
        (want,) = torch.autograd.grad(net(leaf).gather(1, CLASSES[:, k : k + 1]).sum(), leaf)
        torch.testing.assert_close(got[k], want)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_one_forward_pass_for_all_classes(net):
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    class_gradients(net, torch.randn(2, 3, 8, 8), CLASSES)
    assert len(calls) == 1
    class_gradients(net, torch.randn(2, 3, 8, 8), CLASSES, steps=5)
    assert len(calls) == 6


def test_integrated_gradients_are_captums(net):
    captum = pytest.importorskip("captum.attr")
    x = torch.randn(2, 3, 8, 8)
    ours = x * class_gradients(net, x, CLASSES, steps=7)
    for k in range(3):
        peer = captum.IntegratedGradients(net)
        want = peer.attribute(x, target=CLASSES[:, k], n_steps=7, method="riemann_middle")
        torch.testing.assert_close(ours[k], want.to(ours.dtype), atol=1e-5, rtol=1e-4)


def test_takes_the_maps_of_attribute(net):
    x = torch.randn(2, 3, 8, 8)
    relevance = attribute(net, x, list(CLASSES.T)).relevance
    assert var_map(relevance, 1).shape == x.shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: var_map(m[:1], 0), "maps holds 1 class; VAR compares at least 2"),
        (lambda m: var_map(m, 4), "target=4 is out of range; accepted: 0 to 3"),
        (lambda m: var_map(m, -1), "target=-1 is out of range"),
        (lambda m: var_map(m, torch.tensor([0, 1])), "target has 2 entries for a batch of 3"),
        (lambda m: var_map(m, 0.5), "target must be an int"),
        (lambda m: var_map(m * torch.nan, 0), "maps has 720 NaN"),
        (lambda m: var_map(m[0, 0, 0], 0), r"expected \(K, B, ...\)"),
        (lambda m: class_softmax(m, temperature=-1.0), "temperature=-1.0 is out of range"),
        (lambda m: class_softmax(m, scale="sum"), "scale='sum' is unknown"),
        (lambda m: shared_map(m, 1, 1), "both 1"),
        (lambda m: shared_map(m, 0, 9), "second=9 is out of range"),
        (lambda m: choose_classes(torch.zeros(2, 1)), "logits has 1 class; VAR compares at least 2"),
        (lambda m: choose_classes(torch.zeros(2, 3), k=3), "k=3 is out of range"),
        (lambda m: choose_classes(torch.zeros(2, 3), target=3), "target=3 is out of range; accepted: 0 to 2"),
    ],
)
def test_bad_maps_are_named(maps, call, message):
    with pytest.raises(ValueError, match=message):
        call(maps)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (torch.tensor([[0, 4], [0, 1]]), "classes holds 0 to 4; the model has classes 0 to 3"),
        (torch.tensor([[0], [1]]), "classes has 1 class per row"),
        (torch.tensor([[0, 0], [0, 1]]), "a class twice"),
        (torch.tensor([[0, 1]]), r"classes has shape \(1, 2\)"),
        (torch.tensor([[0.0, 1.0]] * 2), "dtype torch.float32"),
    ],
)
def test_bad_classes_are_named(net, classes, message):
    with pytest.raises(ValueError, match=message):
        class_gradients(net, torch.randn(2, 3, 8, 8), classes)


def test_class_gradients_of_grouped_convolutions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.Softplus(), nn.Flatten(), nn.Linear(32, 5)).double().eval()
    x, classes = torch.randn(3, 4, 4, 4, dtype=torch.float64), torch.tensor([[0, 1], [4, 2], [3, 0]])
    found = class_gradients(model, x, classes)
    for k in range(2):
        leaf = x.clone().requires_grad_()
        model(leaf).gather(1, classes[:, k : k + 1]).sum().backward()
        assert torch.allclose(found[k], leaf.grad, atol=1e-12)
