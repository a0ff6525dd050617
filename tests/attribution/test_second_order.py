"""Second-order explanations of uncertainty: from the equation, closed forms, captum, invariants, and bad input."""

import numpy as np
import pytest
import torch
from torch import nn

from shared.attribution import (
    Ensemble,
    explain_members,
    explain_uncertainty,
    explain_variance,
    gamma_except_last,
    predictive_variance,
    second_order,
)
from shared.lrp import AnyLinear, Composite, Epsilon, Gamma, UnsupportedModule, attribute

pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")  # captum's
METHODS = ("lrp", "gi", "ig")
PLAIN = Composite([(AnyLinear, Epsilon(0.0))])


def network(d=5, k=2, bias=True, activation=nn.ReLU, dropout=0.0):
    first = [nn.Linear(d, 16, bias), activation(), nn.Dropout(dropout)]
    return nn.Sequential(*first, nn.Sequential(nn.Linear(16, 8, bias), activation()), nn.Linear(8, k, bias)).double()


def networks(n=4, **options):
    return [network(**options).eval() for _ in range(n)]


@pytest.fixture
def x():
    return torch.randn(6, 5, dtype=torch.float64)


def close(a, b, atol=1e-10):
    assert a.shape == b.shape
    assert torch.allclose(a, b, atol=atol, rtol=1e-8), float((a - b).abs().max())


# --- the equation


@pytest.mark.parametrize("ddof", [0, 1])
def test_equals_the_covariance_by_hand(ddof):
    maps, outputs = torch.randn(4, 3, 2, 5, dtype=torch.float64), torch.randn(4, 3, 2, dtype=torch.float64)
    found = second_order(maps, outputs, ddof=ddof)
    for b in range(3):
        want = sum(np.cov(maps[:, b, k].numpy(), rowvar=False, ddof=ddof) for k in range(2))
        assert found.matrix()[b].numpy() == pytest.approx(want, abs=1e-12)
        assert found.diagonal[b].numpy() == pytest.approx(np.diag(want), abs=1e-12)
        assert found.marginal[b].numpy() == pytest.approx(want.sum(1), abs=1e-12)
        assert found.total[b].item() == pytest.approx(want.sum(), abs=1e-12)
        variance = sum(np.var(outputs[:, b, k].numpy(), ddof=ddof) for k in range(2))
        assert found.uncertainty[b].item() == pytest.approx(variance, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_linear_ensemble_in_closed_form(method, x):
    """f_m = w_m x gives R_ij = x_i x_j Cov(w_i, w_j)."""
    members = [nn.Sequential(nn.Linear(5, 1, bias=False)).double() for _ in range(7)]
    w = np.stack([m[0].weight.detach().numpy()[0] for m in members])
    want = torch.einsum("bi,bj,ij->bij", x, x, torch.from_numpy(np.cov(w, rowvar=False, bias=True)))
    found = explain_uncertainty(Ensemble(members), x, method=method, composite=PLAIN)
    close(found.matrix(), want)
    close(found.total, found.uncertainty)


def test_covariance_of_gradients_is_half_the_hessian_product_for_relu_nets(x):
    """Where the net is piecewise linear, CovGI is x_i x_j / 2 times the Hessian of the variance."""
    members = networks()
    found = explain_uncertainty(Ensemble(members), x, method="gi").matrix()
    for b in range(3):
        hessian = torch.autograd.functional.hessian(
            lambda z: predictive_variance(torch.stack([m(z[None]) for m in members])).sum(), x[b]
        )
        close(found[b], x[b][:, None] * hessian * x[b] / 2)


# --- the stack against its members


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("method", METHODS)
def test_the_stack_equals_its_members_one_by_one(method, activation, x):
    members = networks(activation=activation)
    together, alone = Ensemble(members), Ensemble(members)
    close(together(x), torch.stack([m(x) for m in members], 1))
    for a, b in zip(
        explain_members(together, x, method=method, steps=5), explain_members(members, x, method=method, steps=5)
    ):
        close(a, b)
    for m in range(4):
        close(alone.member(m)(x), members[m](x))


@pytest.mark.parametrize(
    "composite",
    [gamma_except_last, Composite([(AnyLinear, Gamma(0.3))]), Composite([(nn.Linear, Epsilon(0.1))])],
)
def test_any_composite_explains_the_stack(composite, x):
    members = networks()
    rules = composite if isinstance(composite, Composite) else None
    maps, outputs = explain_members(Ensemble(members), x, composite=rules)
    for m, member in enumerate(members):
        for k in range(2):
            close(maps[m, :, k], attribute(member, x, k, composite=rules or composite(member)).relevance)
    close(outputs, torch.stack([m(x) for m in members]))


def test_the_rules_of_the_paper():
    rules = gamma_except_last(nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 1))).rules
    found = rules(nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 1)))
    assert [getattr(found[name], "gamma", 0) for name in ("0", "2", "3")] == [0.4, 0.2, 0]


def test_training_the_stack_trains_its_members(x):
    """One step on the summed loss is a step of each member on its own."""
    members, y = networks(), torch.randn(6, 2, dtype=torch.float64)
    ensemble = Ensemble(members)
    ((ensemble(x) - y[:, None]) ** 2).sum().backward()
    for m, member in enumerate(members):
        ((member(x) - y) ** 2).sum().backward()
        close(ensemble.layers[0].weight.grad[m], member[0].weight.grad)
        close(ensemble.layers[-1].bias.grad[m], member[-1].bias.grad)


# --- peers


def test_first_order_maps_agree_with_captum(x):
    captum = pytest.importorskip("captum.attr")
    members = networks()
    gi, _ = explain_members(Ensemble(members), x, method="gi")
    ig, _ = explain_members(Ensemble(members), x, method="ig", steps=8, baseline=0.3)
    for m, member in enumerate(members):
        for k in range(2):
            close(gi[m, :, k], captum.InputXGradient(member).attribute(x, target=k).detach())
            peer = captum.IntegratedGradients(member)
            close(ig[m, :, k], peer.attribute(x, 0.3, target=k, n_steps=8, method="riemann_middle").detach())


def test_maps_of_the_variance_agree_with_captum(x):
    captum = pytest.importorskip("captum.attr")
    members = networks()

    def variance(z):
        return predictive_variance(torch.stack([m(z) for m in members]))

    ig = captum.IntegratedGradients(variance).attribute(x, n_steps=8, method="riemann_middle")
    gradient = captum.Saliency(variance).attribute(x, abs=False)
    for ensemble in (members, Ensemble(members)):
        close(explain_variance(ensemble, x, method="gi"), gradient * x)
        close(explain_variance(ensemble, x, method="sensitivity"), gradient**2)
        close(explain_variance(ensemble, x, method="ig", steps=8), ig.detach())


def test_members_of_any_architecture_are_explained_one_by_one():
    images = torch.randn(3, 1, 6, 6, dtype=torch.float64)
    members = [
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).double().eval() for _ in range(3)
    ]
    found = explain_uncertainty(members, images, method="gi")
    assert found.diagonal.shape == images.shape
    assert found.matrix().shape == (3, 36, 36)
    assert explain_variance(members, images).shape == images.shape
    captum = pytest.importorskip("captum.attr")
    maps = torch.stack([captum.InputXGradient(m).attribute(images, target=1).detach() for m in members])
    close(explain_members(members, images, method="gi")[0][:, :, 1], maps)


# --- invariants


@pytest.mark.parametrize("method", METHODS)
def test_conservation(method, x):
    """The sum over pairs is the variance of the summed maps; without biases that is the predictive variance."""
    found = explain_uncertainty(Ensemble(networks()), x, method=method, steps=4)
    close(found.matrix().sum((1, 2)), found.total)
    close(found.marginal.sum(1), found.total)
    close(found.matrix().sum(2), found.marginal)
    assert (found.gap.abs() > 1e-3 * found.uncertainty).any()  # biases keep some of it
    without = explain_uncertainty(Ensemble(networks(bias=False)), x, method=method, composite=PLAIN)
    close(without.total, without.uncertainty)


def test_the_map_of_the_variance_sums_to_it_without_biases(x):
    members = networks(bias=False)
    found = explain_variance(Ensemble(members), x, composite=PLAIN)
    close(found.sum(1), predictive_variance(torch.stack([m(x) for m in members])))
    close(found, explain_variance(members, x, composite=PLAIN))


@pytest.mark.parametrize("method", METHODS)
def test_symmetric_positive_semidefinite_of_low_rank(method, x):
    matrix = explain_uncertainty(Ensemble(networks(3, k=1)), x, method=method).matrix()
    assert torch.equal(matrix, matrix.transpose(1, 2))
    values = torch.linalg.eigvalsh(matrix)
    assert (values > -1e-12 * values[:, -1:]).all()
    assert (values[:, :-2].abs() < 1e-10 * values[:, -1:]).all()  # rank <= M - 1


def test_scaling_duplicating_unused_features_and_constants(x):
    members = networks()
    with torch.no_grad():
        for member in members:
            member[0].weight[:, 2] = 0.0  # nobody looks at feature 2
    before = explain_uncertainty(Ensemble(members), x, method="gi")
    assert (before.matrix()[:, 2] == 0).all()
    close(explain_uncertainty(Ensemble(members * 2), x, method="gi").matrix(), before.matrix())
    with torch.no_grad():
        for shift, member in enumerate(members):
            member[-1].bias += shift  # members now differ by a constant that no feature explains
    shifted = explain_uncertainty(Ensemble(members), x, method="gi")
    close(shifted.matrix(), before.matrix())
    assert (shifted.uncertainty != before.uncertainty).all()
    with torch.no_grad():
        for member in members:
            member[-1].weight *= 3.0
    close(explain_uncertainty(Ensemble(members), x, method="gi").matrix(), 9 * before.matrix())


def test_rows_do_not_mix(x):
    ensemble = Ensemble(networks())
    close(explain_uncertainty(ensemble, x).diagonal[2:4], explain_uncertainty(ensemble, x[2:4]).diagonal)


# --- MC dropout


def test_dropout_members_keep_their_masks(x):
    model = network(dropout=0.4).eval()
    ensemble = Ensemble.from_dropout(model, n_members=5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ensemble(x), ensemble(x))
    masks = ensemble.layers[2].masks
    assert masks.shape == (5, 16)
    assert set(masks.flatten().tolist()) == {0.0, 1 / (1 - 0.4)}
    hidden = torch.relu(model[0](x))
    for m in range(5):  # the definition, and the member on its own
        close(ensemble(x)[:, m], nn.Sequential(*model[3:])(hidden * masks[m]))
        close(ensemble.member(m)(x), ensemble(x)[:, m])
    again = Ensemble.from_dropout(model, n_members=5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(masks, again.layers[2].masks)
    assert explain_uncertainty(ensemble, x).diagonal.shape == x.shape


def test_masks_drop_their_share():
    model = nn.Sequential(nn.Dropout(0.3), nn.Linear(50, 1)).eval()
    masks = Ensemble.from_dropout(model, n_members=400, generator=torch.Generator().manual_seed(0)).layers[0].masks
    assert masks.shape == (400, 50)  # dropout before the first layer is drawn over the inputs
    assert (masks == 0).float().mean().item() == pytest.approx(0.3, abs=0.015)
    assert masks.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stacked", [True, False])
def test_batches_change_nothing(method, stacked, x):
    members = Ensemble(networks()) if stacked else networks()
    options = dict(method=method, steps=4, baseline=torch.rand(6, 5, dtype=torch.float64))
    close(explain_variance(members, x, **options, batch_size=4), explain_variance(members, x, **options))
    whole, parts = (explain_uncertainty(members, x, **options, batch_size=size) for size in (None, 4))
    for name in ("diagonal", "marginal", "total", "uncertainty", "centred"):
        close(getattr(parts, name), getattr(whole, name))


# --- bad input


def bad_calls():
    ok, row = networks(2), torch.zeros(1, 5, dtype=torch.float64)
    maps, out = torch.zeros(3, 2, 1, 4), torch.zeros(3, 2, 1)
    nan = torch.full((3, 2, 1, 4), torch.nan)
    yield "one member", lambda: explain_uncertainty(ok[:1], row), ValueError, "at least 2"
    yield "one network", lambda: explain_uncertainty(ok[0], row), TypeError, "sequence of modules"
    yield "no member", lambda: Ensemble([]), ValueError, "empty"
    yield "two widths", lambda: Ensemble([network(d=5), network(d=6)]), ValueError, "layer 0"
    yield "two depths", lambda: Ensemble([network(), network()[:3]]), ValueError, "3 and 6 layers"
    yield "convolution", lambda: Ensemble([nn.Conv1d(1, 1, 1)] * 2), UnsupportedModule, "Conv1d"
    yield "method", lambda: explain_uncertainty(ok, row, method="lpr"), ValueError, "lrp"
    yield "method of the variance", lambda: explain_variance(ok, row, method="hessian"), ValueError, "sensitivity"
    yield "width of x", lambda: explain_uncertainty(Ensemble(ok), row[:, :3]), ValueError, "expected"
    yield "nan in x", lambda: explain_uncertainty(ok, row * torch.nan), ValueError, "NaN"
    yield "dtype of x", lambda: explain_uncertainty(ok, row.long()), ValueError, "floating"
    yield "steps", lambda: explain_uncertainty(ok, row, method="ig", steps=0), ValueError, "steps"
    yield "baseline", lambda: explain_members(ok, row, method="ig", baseline=torch.zeros(3)), ValueError, "broadcast"
    yield "no dropout", lambda: Ensemble.from_dropout(network()), ValueError, "no dropout"
    yield "train mode", lambda: explain_uncertainty(Ensemble([network(dropout=0.1)] * 2), row), ValueError, "eval"
    yield "shape of maps", lambda: second_order(maps[0], out), ValueError, "features"
    yield "shape of outputs", lambda: second_order(maps, out[:2]), ValueError, "outputs"
    yield "nan in maps", lambda: second_order(nan, out), ValueError, "NaN"
    yield "ddof", lambda: second_order(maps, out, ddof=3), ValueError, "ddof"
    yield "no layer", lambda: gamma_except_last(nn.ReLU()), ValueError, "no linear layer"


@pytest.mark.parametrize(("call", "error", "words"), [pytest.param(*rest, id=name) for name, *rest in bad_calls()])
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()
