"""Attribution methods: equations, retraining, captum, invariants that hold for all, bad input."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from shared.influence import (
    TRAK,
    Checkpoint,
    DivergenceError,
    DualDA,
    InfluenceFunctions,
    RandomAttribution,
    RandomProjection,
    RepresenterPoints,
    Similarity,
    TracIn,
    TrainedClassifier,
    explain_pairs,
    per_sample_gradients,
)
from shared.influence._curvature import FullCurvature, HeadCurvature
from shared.influence._outputs import OUTPUTS, explained, output_gradient
from tests.influence.nets import conv_net, features, fit_head, linear_net

METHODS = {
    "dualda": lambda: DualDA(C=0.1),
    "representer": lambda: RepresenterPoints(),
    "cosine": lambda: Similarity(kind="cosine"),
    "dot, signed": lambda: Similarity(kind="dot", signed=True),
    "l2": lambda: Similarity(kind="l2"),
    "graddot": lambda: TracIn(),
    "gradcos": lambda: TracIn(cosine=True),
    "graddot, all": lambda: TracIn(layers="all"),
    "trak": lambda: TRAK(projection=20, damping=1e-3),
    "if exact": lambda: InfluenceFunctions(solver="exact", damping=1e-2),
    "if cg": lambda: InfluenceFunctions(solver="cg", damping=1e-2),
    "if arnoldi": lambda: InfluenceFunctions(solver="arnoldi", damping=1e-2, steps=30, rank=10),
    "if lissa": lambda: InfluenceFunctions(solver="lissa", damping=1e-2, depth=50),
}


def correlation(a, b):
    return float(np.corrcoef(a.flatten(), b.flatten())[0, 1])


@pytest.mark.parametrize("name", METHODS)
class TestAll:
    def test_shape_dtype_and_determinism(self, conv, name):
        one, two = (METHODS[name]().fit(conv) for _ in range(2))
        tau = one.attribute(conv.x[:5])
        assert tau.shape == (5, len(conv))
        assert tau.dtype == torch.float64
        assert torch.isfinite(tau).all()
        assert torch.equal(tau, two.attribute(conv.x[:5]))
        assert one.self_influence().shape == (len(conv),)

    def test_target_defaults_to_the_prediction(self, conv, name):
        predicted = conv.predict(conv.x[:4])
        a, b = METHODS[name]().fit(conv), METHODS[name]().fit(conv)
        assert torch.equal(a.attribute(conv.x[:4]), b.attribute(conv.x[:4], predicted))

    def test_model_is_as_before(self, conv, name):
        before = copy.deepcopy(conv.model.state_dict())
        METHODS[name]().fit(conv).attribute(conv.x[:2])
        assert all(torch.equal(v, before[k]) for k, v in conv.model.state_dict().items())
        assert not conv.model.training
        assert not conv.layer._forward_pre_hooks

    def test_bad_input(self, conv, name):
        with pytest.raises(RuntimeError, match="call fit"):
            METHODS[name]().attribute(conv.x[:2])
        method = METHODS[name]().fit(conv)
        with pytest.raises(ValueError, match=r"x has shape \(2, 1, 8, 9\)"):
            method.attribute(torch.zeros(2, 1, 8, 9, dtype=torch.float64))
        with pytest.raises(ValueError, match="targets"):
            method.attribute(conv.x[:2], torch.tensor([0, 3]))
        with pytest.raises(ValueError, match="targets"):
            method.attribute(conv.x[:2], torch.tensor([0]))
        with pytest.raises(ValueError, match="NaN"):
            method.attribute(conv.x[:2] * torch.nan)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("trak", "if lissa", "if arnoldi", "dualda")])
def test_permuted_training_points_permute_tau(conv, name):
    order = torch.randperm(len(conv), generator=torch.Generator().manual_seed(0))
    tau = METHODS[name]().fit(conv).attribute(conv.x[:3])
    other = METHODS[name]().fit(conv.on(conv.x[order], conv.y[order])).attribute(conv.x[:3])
    torch.testing.assert_close(other, tau[:, order], rtol=1e-4, atol=1e-5 * float(tau.abs().max()))


# --- DualDA and representer points


def test_dualda_sums_to_the_svm_score(conv):
    method = DualDA(C=0.1, tol=1e-6, max_epochs=20_000).fit(conv)
    for c in range(3):
        tau = method.attribute(conv.x[:7], torch.full((7,), c))
        torch.testing.assert_close(tau.sum(1) + method.svm.intercept_[c], method.scores(conv.x[:7])[:, c])
    alpha, F = method.alpha_, conv.train_features
    torch.testing.assert_close(tau, alpha[:, 2] * (F[:7] @ F.T))
    own = alpha[torch.arange(len(conv)), conv.y]
    torch.testing.assert_close(method.self_influence(), own * F.square().sum(1))


def test_dualda_on_z_scores_leaves_constant_columns_out():
    F, y = features(60)
    net = linear_net(torch.cat([F, torch.full((60, 1), 5.0)], 1), y)
    plain = linear_net(F, y)
    z = (F - F.mean(0)) / F.std(0, unbiased=False)
    method = DualDA(C=0.1, normalise=True, tol=1e-6).fit(net)
    expected = method.alpha_.T[net.y[:4]] * (z[:4] @ z.T)
    torch.testing.assert_close(method.attribute(net.x[:4], net.y[:4]), expected)
    torch.testing.assert_close(
        method.attribute(net.x[:4]), DualDA(C=0.1, normalise=True, tol=1e-6).fit(plain).attribute(F[:4])
    )


def test_dualda_refuses_a_class_without_points(conv):
    rows = conv.y != 2
    with pytest.raises(ValueError, match=r"no training point of class \[2\]"):
        DualDA().fit(conv.on(conv.x[rows], conv.y[rows]))


def test_representer_points_rebuild_the_logits(linear):
    method = RepresenterPoints(l2=1e-3).fit(linear)
    F = linear.augmented(linear.train_features)
    assert method.gradient_ < 1e-6
    total = torch.stack([method.attribute(linear.x, torch.full((60,), c)).sum(1) for c in range(3)], 1)
    torch.testing.assert_close(total, F @ method.weight_.T, rtol=1e-4, atol=1e-4)
    assert correlation(total, linear.logits(linear.train_features)) > 0.99


# --- gradients


@pytest.mark.parametrize("output", OUTPUTS)
def test_gradient_in_the_logits(output):
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 3, 4, 1])
    value = explained(logits, target, output)
    p = logits.softmax(1).gather(1, target[:, None]).squeeze(1)
    expected = {"margin": (p / (1 - p)).log(), "logp": p.log(), "logit": logits.gather(1, target[:, None]).squeeze(1)}
    torch.testing.assert_close(value, expected[output])
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(output_gradient(logits.detach(), target, output), gradient)


def slow_gradients(net, x, targets, output):
    rows = []
    for one, c in zip(x, targets):
        value = explained(net.model(one[None])[0], c, output)
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(net.model.parameters()))]))
    return torch.stack(rows)


@pytest.mark.parametrize("output", OUTPUTS)
def test_per_sample_gradients(conv, output):
    made = per_sample_gradients(conv, conv.x[:9], conv.y[:9], output=output, batch_size=4)
    torch.testing.assert_close(made, slow_gradients(conv, conv.x[:9], conv.y[:9], output))


def test_head_gradients_are_those_of_the_head(conv):
    whole = slow_gradients(conv, conv.x, conv.y, "logp")
    last = torch.cat([whole[:, -21:-3].view(-1, 3, 6), whole[:, -3:, None]], 2).flatten(1)  # weights, biases -> (K, D)
    torch.testing.assert_close(HeadCurvature(conv).train(), last)
    torch.testing.assert_close(TracIn().fit(conv).attribute(conv.x, conv.y), last @ last.T)
    torch.testing.assert_close(TracIn(layers="all").fit(conv).attribute(conv.x, conv.y), whole @ whole.T)
    cosine = nn.functional.normalize(whole, dim=1)
    made = TracIn(layers="all", cosine=True).fit(conv).attribute(conv.x, conv.y)
    torch.testing.assert_close(made, cosine @ cosine.T)


def test_projection_keeps_inner_products():
    g = torch.randn(6, 40_000, generator=torch.Generator().manual_seed(0))  # more rows than a block has
    R = RandomProjection(256, random_state=1)
    error = (R(g) @ R(g).T - g @ g.T) / (g.norm(dim=1)[:, None] * g.norm(dim=1))
    assert error.abs().max() < 5 / 256**0.5  # five standard deviations
    assert torch.equal(R(g), RandomProjection(256, random_state=1)(g))
    assert not torch.equal(R(g[:1]), RandomProjection(256, random_state=2)(g[:1]))


def test_too_many_gradients_are_refused(conv, monkeypatch):
    monkeypatch.setattr("shared.influence._gradients._BUDGET", 100)
    with pytest.raises(ValueError, match="give projection"):
        per_sample_gradients(conv, conv.x, conv.y)


def test_tracin_sums_over_checkpoints(conv):
    other = conv_net(seed=1)
    states = [Checkpoint(n.model.state_dict(), lr) for n, lr in ((conv, 0.1), (other, 0.3))]
    expected = sum(lr * TracIn().fit(conv.at(c)).attribute(conv.x[:3], conv.y[:3]) for c, lr in zip(states, (0.1, 0.3)))
    torch.testing.assert_close(TracIn(checkpoints=states).fit(conv).attribute(conv.x[:3], conv.y[:3]), expected)
    self_influence = TracIn(checkpoints=states).fit(conv).self_influence()
    torch.testing.assert_close(
        self_influence, TracIn(checkpoints=states).fit(conv).attribute(conv.x, conv.y).diagonal()
    )


@pytest.mark.parametrize("layers", ["head", "all"])
def test_tracin_agrees_with_captum(layers, tmp_path):
    """captum's fast form leaves the head's bias out, so there the head has none."""
    influence = pytest.importorskip("captum.influence")
    conv = conv_net(head_bias=layers == "all")
    data = torch.utils.data.TensorDataset(conv.x, conv.y)
    paths = [str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]
    models = [conv.model, conv_net(seed=1, head_bias=layers == "all").model]

    def load(model, path):
        model.load_state_dict(models[paths.index(path)].state_dict())
        return 0.7

    arguments = {"loss_fn": nn.CrossEntropyLoss(reduction="sum"), "batch_size": 16}
    model = copy.deepcopy(conv.model)
    if layers == "head":
        theirs = influence.TracInCPFast(model, model.head, data, paths, load, **arguments)
    else:
        theirs = influence.TracInCP(model, data, paths, load, sample_wise_grads_per_batch=True, **arguments)
    expected = theirs.influence((conv.x[:6], conv.y[:6]), show_progress=False).double()
    ours = TracIn(checkpoints=[Checkpoint(m.state_dict(), 0.7) for m in models], layers=layers).fit(conv)
    torch.testing.assert_close(ours.attribute(conv.x[:6], conv.y[:6]), expected, rtol=1e-5, atol=1e-6)


def test_similarity(conv):
    F = conv.train_features
    cosine = nn.functional.cosine_similarity(F[:3, None], F[None], dim=2)
    torch.testing.assert_close(Similarity(kind="cosine").fit(conv).attribute(conv.x[:3]), cosine)
    x = 0.9 * conv.x[:3]
    torch.testing.assert_close(
        Similarity(kind="l2").fit(conv).attribute(x), -(conv.features(x)[:, None] - F).norm(dim=2)
    )
    signs = torch.where(conv.predict(conv.x[:3])[:, None] == conv.y, 1.0, -1.0)
    torch.testing.assert_close(
        Similarity(kind="dot", signed=True).fit(conv).attribute(conv.x[:3]), signs * (F[:3] @ F.T)
    )


# --- influence functions


def jacobian_ggn(net):
    """The definition, from full Jacobians."""
    names, values = zip(*net.model.named_parameters())
    G = 0
    for one in net.x:

        def run(*p, one=one):
            return torch.func.functional_call(net.model, dict(zip(names, p)), one[None])[0]

        J = torch.cat([j.flatten(1) for j in torch.autograd.functional.jacobian(run, values)], 1)
        p = net.model(one[None])[0].softmax(0).detach()
        G = G + J.T @ (p.diag() - p[:, None] * p) @ J
    return G / len(net)


def test_curvature_by_definition(linear):
    small = conv_net(n=9)
    torch.testing.assert_close(FullCurvature(small).dense(), jacobian_ggn(small), rtol=1e-8, atol=1e-10)
    head = HeadCurvature(linear)
    V = torch.randn(4, head.size, dtype=torch.float64)
    torch.testing.assert_close(head.matvec(V), V @ head.dense().T)
    W = jacobian_ggn(linear)
    order = torch.cat([torch.arange(18).view(3, 6), torch.arange(18, 21)[:, None]], 1).flatten()  # weights, then biases
    torch.testing.assert_close(head.dense(), W[order][:, order])
    rows = torch.tensor([3, 3, 5])
    torch.testing.assert_close(head.matvec(V, rows), HeadCurvature(linear.on(linear.x[rows], linear.y[rows])).matvec(V))


def test_full_train_dot(conv):
    curvature = FullCurvature(conv)
    V = torch.randn(3, curvature.size, dtype=torch.float64)
    torch.testing.assert_close(curvature.train_dot(V), V @ curvature.train().T)


@pytest.mark.parametrize("output", OUTPUTS)
def test_influence_is_the_derivative_of_retraining(output):
    """d output / d weight of a training point, by retraining with its weight moved by ±1e-3."""
    l2, F, y = 1e-2, *features(45)
    net = linear_net(F, y, l2)
    tests, targets = features(5, seed=0)[0], torch.tensor([0, 1, 2, 0, 1])
    tau = InfluenceFunctions(solver="exact", damping=l2, output=output).fit(net).attribute(tests, targets)
    for i in (0, 7, 20):
        ends = []
        for step in (1e-3, -1e-3):
            head, weights = copy.deepcopy(net.model), torch.ones(45, dtype=F.dtype)
            weights[i] += step
            fit_head(head, F, y, weights, l2)
            ends.append(explained(head(tests).detach(), targets, output))
        slope = (ends[0] - ends[1]) / 2e-3 * 45  # the loss is a mean
        torch.testing.assert_close(tau[:, i], slope, rtol=1e-3, atol=1e-4 * float(tau.abs().max()))


def test_influence_predicts_leaving_a_point_out():
    l2, F, y = 0.1, *features(60, seed=2)
    net = linear_net(F, y, l2)
    tests, targets = F[:6] * 0.9, y[:6]
    tau = InfluenceFunctions(solver="exact", damping=l2).fit(net).attribute(tests, targets)
    whole, changes = explained(net.logits(tests), targets, "margin"), []
    for i in range(60):
        head, weights = copy.deepcopy(net.model), torch.ones(60, dtype=F.dtype)
        weights[i] = 0
        fit_head(head, F, y, weights, l2)
        changes.append(whole - explained(head(tests).detach(), targets, "margin"))
    assert correlation(tau, torch.stack(changes, 1)) > 0.99


def test_solvers_agree_with_the_exact_one(conv, linear):
    for net, layers in ((linear, "head"), (conv, "head"), (conv, "all")):
        exact = InfluenceFunctions(solver="exact", layers=layers, damping=1e-2).fit(net)
        tau = exact.attribute(net.x[:4])
        scale = float(tau.abs().max())
        cg = InfluenceFunctions(solver="cg", layers=layers, damping=1e-2, tol=1e-9, max_iterations=500).fit(net)
        torch.testing.assert_close(cg.attribute(net.x[:4]), tau, rtol=0, atol=1e-6 * scale)
        assert cg.residual_ < 1e-9
        torch.testing.assert_close(cg.self_influence(), exact.self_influence(), rtol=1e-5, atol=1e-6)
        lissa = InfluenceFunctions(solver="lissa", layers=layers, damping=1e-2, depth=1500, points_per_step=10**6).fit(
            net
        )
        assert correlation(lissa.attribute(net.x[:4]), tau) > 0.98
        size = exact.curvature.size
        arnoldi = InfluenceFunctions(solver="arnoldi", layers=layers, damping=1e-2, steps=size, rank=size).fit(net)
        torch.testing.assert_close(arnoldi.attribute(net.x[:4]), tau, rtol=0, atol=2e-2 * scale)


def test_self_influence_is_the_diagonal_for_the_log_probability(linear):
    for solver in ("exact", "cg", "arnoldi"):
        method = InfluenceFunctions(solver=solver, output="logp", damping=1e-2, tol=1e-9, max_iterations=500).fit(
            linear
        )
        tau = method.attribute(linear.x, linear.y)
        torch.testing.assert_close(method.self_influence(), tau.diagonal(), rtol=1e-5, atol=1e-7)


def test_lissa_says_when_it_diverges(linear):
    with pytest.raises(DivergenceError, match="scale"):
        InfluenceFunctions(solver="lissa", scale=0.01, depth=300).fit(linear).attribute(linear.x[:2])


def test_exact_refuses_many_parameters(conv, monkeypatch):
    monkeypatch.setattr("shared.influence._influence_functions._DENSE", 10)
    with pytest.raises(ValueError, match="up to 10 parameters"):
        InfluenceFunctions(solver="exact").fit(conv)


# --- TRAK


def test_trak_by_its_formula(conv):
    method = TRAK(projection=12, random_state=4).fit(conv)
    R = RandomProjection(12, random_state=4)
    phi = R(slow_gradients(conv, conv.x, conv.y, "margin"))
    test = R(slow_gradients(conv, conv.x[:5], conv.y[:5], "margin"))
    doubt = 1 - conv.model(conv.x).softmax(1)[torch.arange(len(conv)), conv.y].detach()
    expected = test @ torch.linalg.inv(phi.T @ phi) @ phi.T * doubt
    torch.testing.assert_close(method.attribute(conv.x[:5], conv.y[:5]), expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(method.self_influence(), method.attribute(conv.x, conv.y).diagonal())


def test_trak_averages_over_networks(conv):
    other = conv_net(seed=1)
    both = TRAK(projection=12, checkpoints=[Checkpoint(n.model.state_dict()) for n in (conv, other)]).fit(conv)
    first = TRAK(projection=12, random_state=0).fit(conv)
    second = TRAK(projection=12, random_state=1).fit(conv.at(Checkpoint(other.model.state_dict())))
    parts = [m.attribute(conv.x[:3], conv.y[:3]) / m.doubt_ for m in (first, second)]
    expected = (parts[0] + parts[1]) / 2 * (first.doubt_ + second.doubt_) / 2
    torch.testing.assert_close(both.attribute(conv.x[:3], conv.y[:3]), expected)


def test_trak_refuses_more_dimensions_than_points(conv):
    with pytest.raises(ValueError, match="damping"):
        TRAK(projection=41).fit(conv)


# --- TrainedClassifier


def test_random_scores_come_from_the_generator(conv):
    a, b = (RandomAttribution(torch.Generator().manual_seed(3)).fit(conv).attribute(conv.x[:2]) for _ in range(2))
    assert torch.equal(a, b)


def test_classifier_refuses(conv):
    x, y = conv.x, conv.y
    for (model, inputs, labels, head), error, message in [
        ((conv.model, x, y, "body.0"), TypeError, "linear layers: head"),
        ((conv.model, x, y[:-1], "head"), ValueError, "y has shape"),
        ((conv.model, x, y + 1, "head"), ValueError, "3 classes"),
        ((conv.model, x, y.double(), "head"), ValueError, "integer"),
        ((conv.model, x * torch.inf, y, "head"), ValueError, "x has .* NaN or infinite"),
        ((conv.model, x[:0], y[:0], "head"), ValueError, "x is empty"),
        ((conv.model, {"pixel_values": x}, y, "head"), TypeError, "x must be one tensor of inputs; got dict"),
        ((copy.deepcopy(conv.model).train(), x, y, "head"), RuntimeError, "eval"),
    ]:
        with pytest.raises(error, match=message):
            TrainedClassifier(model, inputs, labels, head=head)


@pytest.mark.parametrize("name", METHODS)
def test_the_batch_size_changes_nothing(conv, name):
    """Every pass over data goes through the network's `batch_size`."""
    seen = []
    handle = conv.model.register_forward_pre_hook(lambda _module, args: seen.append(len(args[0])))
    results = []
    for size in (256, 7):
        net = TrainedClassifier(conv.model, conv.x, conv.y, head="head", batch_size=size)
        method = METHODS[name]().fit(net)
        results.append((method.attribute(conv.x[:9]), method.self_influence()))
    handle.remove()
    assert max(seen) > 7
    assert max(seen[seen.index(7) :]) == 7
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_maps_of_pairs_do_not_depend_on_the_batch_size(conv):
    method = DualDA(C=0.1).fit(conv)
    rows = torch.arange(9)
    whole, parts = (explain_pairs(method, conv.x[0], rows, batch_size=size) for size in (None, 2))
    torch.testing.assert_close(whole.train, parts.train)
    torch.testing.assert_close(whole.test, parts.test)


def test_frozen_weights_count_in_no_gradient(conv):
    """A network whose first layer is frozen has the gradients of the other parameters, and no others."""
    model = copy.deepcopy(conv.model)
    model.body[0].requires_grad_(False)
    frozen = TrainedClassifier(model, conv.x, conv.y, head="head")
    trainable = [p.numel() for p in model.parameters() if p.requires_grad]
    whole = per_sample_gradients(conv, conv.x[:5], conv.y[:5])
    found = per_sample_gradients(frozen, conv.x[:5], conv.y[:5])
    assert found.shape[1] == sum(trainable) < whole.shape[1]
    torch.testing.assert_close(found, whole[:, -sum(trainable) :])
    curvature = FullCurvature(frozen)
    size = FullCurvature(conv).size
    V = torch.randn(2, curvature.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    padded = torch.cat([V.new_zeros(2, size - curvature.size), V], 1)
    torch.testing.assert_close(curvature.matvec(V), FullCurvature(conv).matvec(padded)[:, -curvature.size :])


def test_a_model_without_gradients_by_sample_is_refused_by_name(conv):
    model = copy.deepcopy(conv.model).requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        TracIn(layers="all").fit(TrainedClassifier(model, conv.x, conv.y, head="head"))

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTM(4, 5, batch_first=True)
            self.out = nn.Linear(5, 2)

        def forward(self, x):
            return self.out(self.cell(x)[0][:, -1])

    net = TrainedClassifier(Recurrent().eval(), torch.rand(6, 3, 4), torch.arange(6) % 2, head="out")
    with pytest.raises(ValueError, match=r"gradients of 'cell' \(recurrent\)"):
        InfluenceFunctions(layers="all").fit(net)
    assert TracIn().fit(net).attribute(net.x[:2]).shape == (2, 6)


def test_randomised_keeps_the_values_and_not_their_places(conv):
    other = conv.randomised(torch.Generator().manual_seed(0))
    for p, q in zip(conv.model.parameters(), other.model.parameters()):
        assert torch.equal(p.flatten().sort().values, q.flatten().sort().values)
    assert not torch.equal(conv.train_features, other.train_features)
