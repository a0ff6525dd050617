"""Corrections: exact identities, conditions, and the training penalties."""

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from torch import nn

from shared import correction, hooks, lrp, probes

LAYER = "3"


@pytest.fixture
def setting(net):
    """The net with two artifact directions at its last convolution (after it: ReLU, average)."""
    model, x = net
    rng = torch.Generator().manual_seed(0)
    H = torch.randn(60, 6, generator=rng)
    Y = torch.stack([H[:, 0] + H[:, 1] > 0, H[:, 2] > 0], 1).long()
    return model, x, probes.fit_directions(H, Y, pool="mean", channel_axis=1, layer=LAYER)


def test_projective_correction_from_its_definition(setting):
    model, x, directions = setting
    a = model[:4](x).detach()
    got = correction.PClArC(directions, LAYER).correct(a)
    V = torch.stack([d.vector for d in directions]).T.double().numpy()
    z = torch.stack([d.mean_neg for d in directions]).mean(0).double().numpy()
    for n, i, j in ((0, 0, 0), (3, 2, 5)):
        h = a[n, :, i, j].double().numpy() - z
        residual = h - V @ np.linalg.lstsq(V, h, rcond=None)[0]
        assert got[n, :, i, j].numpy() == pytest.approx(z + residual, abs=1e-6)


def test_projective_correction_is_idempotent_and_keeps_what_is_right(setting):
    _, _, directions = setting
    clarc = correction.PClArC(directions[:1], LAYER)
    H = torch.randn(20, 6)
    once = clarc.correct(H)
    assert torch.allclose(clarc.correct(once), once, atol=1e-6)
    assert torch.allclose(
        once @ directions[0].vector, (directions[0].mean_neg @ directions[0].vector).expand(20), atol=1e-6
    )
    augmentive = correction.AClArC(directions[:1], LAYER).correct(H)
    assert torch.allclose(
        augmentive @ directions[0].vector, (directions[0].mean_pos @ directions[0].vector).expand(20), atol=1e-5
    )


def test_both_forms_agree_where_the_network_averages_linearly(net):
    """At the input of the average, position-wise and broadcast corrections have the same logits."""
    model, x = net
    H = torch.randn(40, 6)
    direction = probes.fit_direction(H, (H[:, 0] > 0).long(), pool="mean", channel_axis=1, layer="4")
    logits = [
        correction.predict(model, x, correction=correction.PClArC(direction, "4", form=form))
        for form in ("position", "broadcast")
    ]
    assert torch.allclose(*logits, atol=1e-5)
    assert not torch.allclose(logits[0], correction.predict(model, x), atol=1e-3)


def test_empty_condition_is_bit_identical_and_always_true_equals_projective(setting):
    model, x, directions = setting
    clarc = correction.PClArC(directions, LAYER)
    never = correction.RClArC(clarc, lambda predicted, pooled: torch.zeros(len(predicted), 2))
    always = correction.RClArC(clarc, lambda predicted, pooled: torch.ones(len(predicted), 2))
    assert torch.equal(never.logits(model, x), model(x).detach())
    assert torch.allclose(always.logits(model, x), correction.predict(model, x, correction=clarc), atol=1e-6)


def test_conditions(setting):
    model, x, directions = setting
    clarc = correction.PClArC(directions, LAYER)
    plain = model(x).detach()
    predicted = plain.argmax(1)
    detectors = [lambda H, d=d: d.project(H) > d.project(H).median() for d in directions]
    pooled = model[:4](x).detach().mean((2, 3))
    fires = torch.stack([detect(pooled) for detect in detectors], 1)
    listed = torch.zeros(4, 2, dtype=torch.bool)
    listed[int(predicted[0]), 1] = True
    given = {"class_map": {int(predicted[0]): [1]}, "detectors": detectors}
    expected = {
        "class": listed[predicted],
        "artifact": fires,
        "class+artifact": listed[predicted] & fires,
    }
    for condition, active in expected.items():
        reactive = correction.RClArC(clarc, condition, **given)
        assert torch.equal(reactive.active(predicted, pooled, 4), active)
        logits = reactive.logits(model, x)
        for i in range(len(x)):
            want = tuple(active[i].nonzero().flatten().tolist())
            if not want:
                assert torch.equal(logits[i], plain[i])
                continue
            a = clarc.correct(model[:4](x[i : i + 1]).detach(), active=want)
            assert torch.allclose(logits[i], model[4:](a)[0], atol=1e-6)


def test_results_do_not_depend_on_the_batch(setting):
    model, x, directions = setting
    clarc = correction.PClArC(directions, LAYER)
    reactive = correction.RClArC(clarc, lambda predicted, pooled: pooled[:, :2] > pooled[:, 2:4])
    together = correction.predict(model, x, correction=reactive)
    stored = model[:4](x).detach()
    for change in (None, clarc, reactive):  # from stored activations the same
        from_head = correction.predict_from(model[4:], stored, correction=change)
        assert torch.allclose(from_head, correction.predict(model, x, correction=change), atol=1e-6)
    assert torch.allclose(correction.predict(model, x, correction=reactive, batch_size=1), together, atol=1e-6)


def test_a_pooling_mismatch_is_refused(net):
    maps, y = torch.rand(20, 6, 4, 4), torch.arange(20) % 2
    direction = probes.fit_direction(maps, y, pool="max", channel_axis=1, layer=LAYER)
    with pytest.raises(correction.PoolMismatchError, match="pooled by 'max'"):
        correction.PClArC(direction, LAYER)
    correction.PClArC(direction, LAYER, force=True)
    clarc = correction.PClArC(direction, LAYER, form="broadcast")
    moved = clarc.correct(maps) - maps
    assert torch.allclose(moved, moved[:, :, :1, :1].expand_as(moved), atol=1e-6)


def test_detector_is_a_linear_svm():
    rng = np.random.default_rng(0)
    H = torch.from_numpy(rng.standard_normal((200, 5)))
    y = (H[:, 0] + 0.3 * torch.from_numpy(rng.standard_normal(200)) > 0.5).long()
    ours = correction.ArtifactDetector().fit(H, y)
    size = H.std(0)
    peer = LinearSVC(C=1.0, class_weight="balanced", dual=False, tol=1e-8).fit((H / size).numpy(), y.numpy())
    assert ours.decision_function(H).numpy() == pytest.approx(peer.decision_function((H / size).numpy()), abs=1e-4)
    assert torch.equal(ours(H), ours.decision_function(H) > 0)


def test_right_reason_penalty(net):
    model, x = net
    v = torch.randn(6)
    with hooks.capture(model, "4", detach=False) as seen:
        logits = model(x)
        for target, scalar in {"max_logit": logits.amax(1), "all_logits": logits.sum(1)}.items():
            gradient = torch.autograd.grad(scalar.sum(), seen["4"], retain_graph=True)[0].mean((2, 3))
            expected = (gradient @ (v / v.norm())).square().mean()
            assert torch.allclose(correction.RRClArCLoss(v, target=target, channel_axis=1)(logits, seen["4"]), expected)
        loss = correction.RRClArCLoss(v, channel_axis=1, generator=torch.Generator().manual_seed(0))(logits, seen["4"])
        (slope,) = torch.autograd.grad(loss, model[7].weight)
    assert slope.abs().max() > 0  # it trains the layers behind
    with torch.no_grad():
        unit = v / v.norm()
        model[7].weight -= model[7].weight @ unit[:, None] * unit  # a head with W v = 0 has no penalty
    with hooks.capture(model, "4", detach=False) as seen:
        assert correction.RRClArCLoss(v, channel_axis=1)(model(x), seen["4"]) < 1e-12


def test_input_gradient_penalty(net):
    model, x = net
    mask = torch.zeros(10, 16, 16)
    images = x.clone().requires_grad_()
    assert correction.rrr_loss(model(images), images, mask) == 0
    mask[:, :4] = 1
    value = correction.rrr_loss(model(images), images, mask)
    g = torch.autograd.grad(model(images).log_softmax(1).sum(), images)[0]
    assert torch.allclose(value, g[:, :, :4].square().sum((1, 2, 3)).mean())
    assert 0 <= correction.rrr_loss(model(images), images, mask, form="cosine") <= 1


def test_freezing_follows_the_order_of_execution(net):
    model, x = net
    model.train()
    with correction.freeze_up_to(model, "3", x) as trainable:
        assert {id(p) for p in trainable} == {id(p) for p in model[7].parameters()}
        assert not model[0].training
        assert model[7].training
        assert not model[3].weight.requires_grad
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())


def test_refit_on_balanced_groups_undoes_a_shortcut():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 3000)
    cue = np.where(rng.random(3000) < 0.95, y, 1 - y)
    F = torch.from_numpy(np.stack([y + rng.normal(0, 0.7, 3000), 3 * cue + rng.normal(0, 0.3, 3000)], 1))
    y, groups = torch.from_numpy(y), torch.from_numpy(2 * y + cue)
    W, b = correction.last_layer_refit(F, y, groups=groups, generator=np.random.default_rng(0))
    naive, c = correction.last_layer_refit(F, y, groups=y, generator=np.random.default_rng(0))
    worst = [correction.group_accuracy(F.float() @ w.T + e, y, groups=groups)["worst"] for w, e in ((W, b), (naive, c))]
    assert worst[0] > 0.7 > worst[1]
    moved = correction.prior_shift(torch.zeros(2), torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1]))
    assert torch.allclose(moved.softmax(0), torch.tensor([0.9, 0.1]))


def test_relevance_in_a_mask():
    R = torch.tensor([[[1.0, -3], [0, 0]], [[0, 0], [0, 0]]])
    mask = torch.tensor([[True, False], [False, False]]).expand(2, 2, 2)
    share = correction.artifact_relevance(R, mask)
    assert share[0] == 0.25
    assert torch.isnan(share[1])
    assert correction.artifact_relevance(R[:, None].repeat(1, 3, 1, 1), mask[:, None])[0] == 0.25


def test_bad_input(setting):
    model, x, directions = setting
    clarc = correction.PClArC(directions, LAYER)
    with pytest.raises(ValueError, match="needs class_map"):
        correction.RClArC(clarc, "class")
    with pytest.raises(ValueError, match="one detector per direction"):
        correction.RClArC(clarc, "artifact", detectors=[lambda H: H])
    with pytest.raises(ValueError, match="names artifacts"):
        correction.RClArC(clarc, "class", class_map={0: [2]})
    with pytest.raises(KeyError, match="class 9"):
        correction.RClArC(clarc, "class", class_map={9: [0]}).logits(model, x)
    with pytest.raises(ValueError, match="'class'"):
        correction.RClArC(clarc, "clas", class_map={})
    with pytest.raises(ValueError, match="eval"):
        correction.RClArC(clarc, "class", class_map={0: [0]}).logits(nn.Sequential(*model, nn.Dropout()), x)
    with pytest.raises(ValueError, match="fitted at '3'"):
        correction.PClArC(directions, "0")
    with pytest.warns(UserWarning, match="linearly dependent"):
        correction.PClArC([directions[0], directions[0]], LAYER)
    with pytest.raises(ValueError, match="every class must occur"):
        correction.last_layer_refit(
            torch.randn(4, 2), torch.ones(4, dtype=torch.long), generator=np.random.default_rng(0)
        )


def test_every_correction_applies_to_the_model_itself(setting):
    model, x, directions = setting
    clarc = correction.PClArC(directions, LAYER)
    reactive = correction.RClArC(clarc, lambda predicted, pooled: pooled[:, :2] > pooled[:, 2:4])
    plain = model(x).detach()
    for change in (clarc, correction.AClArC(directions, LAYER), reactive):
        with change.applied(model) as same, torch.no_grad():
            assert same is model
            torch.testing.assert_close(model(x), change.logits(model, x), atol=1e-6, rtol=1e-6)
            assert not torch.allclose(model(x), plain, atol=1e-4)
        assert torch.equal(model(x), plain)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("composite", [lrp.EpsilonPlus, lrp.EpsilonPlusFlat])  # the second has a rule for the input
def test_a_reactive_model_can_be_explained(setting, composite):
    """Relevance of the corrected samples is that of the projective model, of the others that of the plain one."""
    model, x, directions = setting
    clarc = correction.PClArC(directions, LAYER)
    rows = torch.arange(10) % 2 == 0
    reactive = correction.RClArC(clarc, lambda predicted, pooled: rows[: len(predicted), None].expand(-1, 2))

    def explain():
        return lrp.attribute(model, x, 1, composite=composite()).relevance

    plain = explain()
    with clarc.applied(model):
        projective = explain()
    with reactive.applied(model):
        mixed = explain()
    torch.testing.assert_close(mixed[rows], projective[rows])
    torch.testing.assert_close(mixed[~rows], plain[~rows])
    assert not torch.allclose(projective, plain, atol=1e-4)


@pytest.mark.parametrize("condition", ["class", "artifact", "class+artifact"])
def test_a_reactive_model_runs_each_module_once(setting, condition):
    """Whatever the condition asks for; and it says what `logits` says."""
    model, x, directions = setting
    detectors = [lambda H, j=j: H[:, j] > H[:, j].median() for j in range(2)]
    map_ = {c: [c % 2] for c in range(4)}
    reactive = correction.RClArC(correction.PClArC(directions, LAYER), condition, class_map=map_, detectors=detectors)
    with torch.no_grad(), reactive.applied(model), hooks.capture(model, ["0", LAYER], every_call=True) as seen:
        found = model(x)
    assert [len(seen[name]) for name in ("0", LAYER)] == [1, 1]
    torch.testing.assert_close(found, reactive.logits(model, x))


def test_ones_own_correction_needs_three_methods(setting):
    model, x, _ = setting

    class Shift(correction.Correction):
        layer = LAYER

        def applied(self, model):
            return hooks.steer(model, {self.layer: torch.ones(6)})

        def logits(self, model, x):
            with self.applied(model):
                return model(x)

        def logits_from(self, head, activation):
            return head(hooks.steered(activation, torch.ones(6), channel_axis=1))

    logits = correction.predict(model, x, correction=Shift(), batch_size=3)
    stored = correction.predict_from(model[4:], model[:4](x).detach(), correction=Shift(), batch_size=4)
    torch.testing.assert_close(logits, stored)
    with pytest.raises(TypeError, match="abstract"):
        correction.Correction()


def test_mappings_are_predicted_in_batches(setting):
    model, x, directions = setting

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, pixel_values):
            return self.inner(pixel_values)

    moved = [probes.Direction(**{**vars(d), "layer": f"inner.{LAYER}"}) for d in directions]
    clarc = correction.PClArC(moved, f"inner.{LAYER}")
    reactive = correction.RClArC(clarc, lambda predicted, pooled: pooled[:, :2] > pooled[:, 2:4])
    for change, same in ((clarc, correction.PClArC(directions, LAYER)), (reactive, None)):
        named = correction.predict(Named(), {"pixel_values": x}, correction=change, batch_size=4)
        if same is not None:
            torch.testing.assert_close(named, correction.predict(model, x, correction=same))
        else:
            torch.testing.assert_close(named, correction.predict(Named(), {"pixel_values": x}, correction=change))


def test_a_detector_is_fitted_first():
    with pytest.raises(ValueError, match=r"isn't fitted; call fit\(H, y\)"):
        correction.ArtifactDetector().predict(torch.ones(2, 3))
