"""Attribution methods: equations, retraining, captum, invariants that hold for all, bad input."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from shared.influence import (
    TRAK,
    Checkpoint,
    DualDA,
    InfluenceFunctions,
    RandomAttribution,
    RandomProjection,
    RepresenterPoints,
    Similarity,
    TracIn,
    TrainedClassifier,
    mislabelling_detection,
    per_sample_gradients,
)
from shared.influence._curvature import HeadCurvature
from shared.influence._outputs import OUTPUTS, explained, output_gradient
from tests.influence.nets import conv_net, features, linear_net

METHODS = {
    "dualda": lambda: DualDA(C=0.1),
    "representer": lambda: RepresenterPoints(),
    "ekfac": lambda: InfluenceFunctions(solver="ekfac"),
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


def test_sparsified_representer_points_keep_the_largest_coefficients(linear):
    whole, few = (RepresenterPoints(l2=1e-3, kept=share).fit(linear).alpha_ for share in (1.0, 0.25))
    assert int((few != 0).sum()) == few.numel() - round(0.75 * few.numel())
    torch.testing.assert_close(few[few != 0], whole[few != 0])
    assert whole[few != 0].abs().min() >= whole[few == 0].abs().max()


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


@pytest.mark.parametrize(
    "method", [TracIn(cosine=True), TracIn(cosine=True, layers="all"), Similarity(kind="cosine"), Similarity(kind="l2")]
)
def test_a_self_influence_that_is_the_same_for_all_says_so_and_ranks_none(conv, method):
    """To the bit: rounding would else put wrong labels into some order."""
    with pytest.warns(UserWarning, match=f"{method.name} gives all training points .* ranks none of them"):
        own = method.fit(conv).self_influence()
    assert len(own.unique()) == 1
    torch.testing.assert_close(own, method.attribute(conv.x, conv.y).diagonal(), atol=1e-3, rtol=1e-5)
    wrong = torch.arange(len(own)) < 3
    found = mislabelling_detection(own, wrong)
    assert found.score == pytest.approx(found.chance)


def test_cosines_over_checkpoints_sum_their_learning_rates(conv):
    states = [Checkpoint(n.model.state_dict(), lr) for n, lr in ((conv, 0.1), (conv_net(seed=1), 0.3))]
    with pytest.warns(UserWarning, match="ranks none"):
        own = TracIn(checkpoints=states, cosine=True).fit(conv).self_influence()
    assert own.tolist() == [0.1 + 0.3] * len(conv)


def test_others_do_not_warn(conv):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TracIn().fit(conv).self_influence()


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


def test_random_scores_come_from_the_generator(conv):
    a, b = (RandomAttribution(torch.Generator().manual_seed(3)).fit(conv).attribute(conv.x[:2]) for _ in range(2))
    assert torch.equal(a, b)


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
