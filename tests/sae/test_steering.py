"""Edits by their definitions, steered pairs beside one splice each, steerability by hand, controls, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from shared import hooks
from shared import sae as room
from shared.sae import SAEConfig, SparseDict, Steerability, splice


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


class Tower(nn.Module):
    """Blocks that give the residual stream; the output is of the first token, as an image tower's."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Mixing() for _ in range(3))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.linear(x).tanh() + x.mean(1, keepdim=True)


@pytest.fixture
def tower():
    torch.manual_seed(0)
    return Tower().eval()


def images():
    return torch.randn(4, 7, 8, generator=rng(1))


def make(mode="none"):
    made = SparseDict(SAEConfig("standard", 8, 32, normalize_activations=mode), generator=rng(2))
    made.W_dec.data *= torch.linspace(0.5, 2, 32)[:, None]  # rows of other lengths than one
    return made


# --- edits ------------------------------------------------------------------------------------------------------


def test_edits_change_what_they_say():
    codes = torch.randn(3, 2, 6, generator=rng()).abs()
    for found, changed in (
        (room.set_feature(2, 1.5)(codes), {2: torch.full((3, 2), 1.5)}),
        (room.set_feature([2, 4], [1.5, -1])(codes), {2: torch.full((3, 2), 1.5), 4: torch.full((3, 2), -1.0)}),
        (room.scale_feature(5, 3)(codes), {5: 3 * codes[..., 5]}),
        (room.suppress([0, 1])(codes), {0: torch.zeros(3, 2), 1: torch.zeros(3, 2)}),
    ):
        for j in range(6):
            assert torch.equal(found[..., j], changed.get(j, codes[..., j]))


def test_nothing_suppressed_is_the_identity(tower):
    x = images()
    plain = tower(x)
    with splice(tower, "layers.1", make(), edit=room.suppress([])):
        assert torch.equal(tower(x), plain)
    with splice(tower, "layers.1", make(), edit=room.scale_feature([3, 4], 1)):
        assert torch.allclose(tower(x), plain, atol=1e-6)


def test_hooks_are_removed_after_an_exception(tower):
    x = images()
    plain = tower(x)
    with pytest.raises(ValueError, match="feature 99 is out of range; there are 32"):
        with splice(tower, "layers.1", make(), edit=room.set_feature(99, 1.0)):
            tower(x)
    assert torch.equal(tower(x), plain)
    with splice(tower, "layers.1", make(), edit=room.set_feature(3, 9.0)):
        assert not torch.allclose(tower(x), plain)
    assert torch.equal(tower(x), plain)


@pytest.mark.parametrize("mode", ["none", "layer_norm"])
@pytest.mark.parametrize("error", ["keep", "drop"])
def test_codes_edited_by_hand_are_a_splice(tower, mode, error):
    x, sae, edit = images(), make(mode), room.suppress([1, 2, 3])
    with torch.no_grad(), hooks.capture(tower, "layers.1") as plain:
        tower(x)
    with (
        torch.no_grad(),
        splice(tower, "layers.1", sae, edit=edit, error=error),
        hooks.capture(tower, "layers.1") as seen,
    ):
        tower(x)
        found = room.edit_codes(sae, plain["layers.1"], edit, error=error)
    assert torch.equal(found, seen["layers.1"])
    with pytest.raises(ValueError, match="error='kept' is unknown"):
        room.edit_codes(sae, x, edit, error="kept")


# --- units ------------------------------------------------------------------------------------------------------


def upper_of(model, layer):
    def upper(hidden):
        with hooks.resume_from(model, layer, hidden):
            return model(torch.zeros_like(hidden))

    return upper


@pytest.mark.parametrize("mode", ["none", "layer_norm"])
@pytest.mark.parametrize("layer", ["layers.0", "layers.2"])
def test_pairs_at_once_are_one_splice_each(tower, mode, layer):
    x, sae, features = images(), make(mode), [3, 0, 17]
    strengths = torch.tensor([2.0, -1.0, 0.0])
    with torch.no_grad(), hooks.capture(tower, layer) as seen:
        tower(x)
    units = room.feature_units(sae, seen[layer], features)
    for batch in (1, 5, 512):
        found = room.steer_units(upper_of(tower, layer), seen[layer], units, strengths, batch_size=batch)
        assert found.shape == (3, 4, 5)
        for j, s, one in zip(features, strengths.tolist(), found):
            with torch.no_grad(), splice(tower, layer, sae, edit=room.set_feature(j, s)):
                assert torch.allclose(tower(x), one, atol=1e-5)


@pytest.mark.parametrize("mode", ["none", "layer_norm"])
def test_a_units_own_value_changes_nothing(tower, mode):
    one = images()[:1, :1]  # with one token the own value is one number per unit
    with torch.no_grad(), hooks.capture(tower, "layers.1") as seen:
        plain = tower(one)
    hidden = seen["layers.1"]
    for units in (room.feature_units(make(mode), hidden, range(32)), room.neuron_units(hidden, range(8))):
        own = units.values[0, 0]
        found = room.steer_units(upper_of(tower, "layers.1"), hidden, units, own)
        assert torch.allclose(found, plain.expand_as(found), atol=1e-5)
        assert torch.allclose(room.step_size(hidden, units, own), torch.zeros(len(own)), atol=1e-6)


def test_neurons_are_set_on_all_tokens(tower):
    hidden = images()
    units = room.neuron_units(hidden, [2, 5])
    found = room.steer_units(lambda h: h, hidden, units, torch.tensor([3.0, -3.0]))
    for j, s, one in ((2, 3.0, found[0]), (5, -3.0, found[1])):
        wanted = hidden.clone()
        wanted[..., j] = s
        assert torch.allclose(one, wanted, atol=1e-6)


@pytest.mark.parametrize("mode", ["none", "layer_norm"])
def test_random_units_step_as_far(mode):
    hidden = images()
    units = room.feature_units(make(mode), hidden, range(32))
    null = room.random_units(units, generator=rng(3))
    strengths = torch.linspace(-1, 3, 32)
    steps = [room.steer_units(lambda h: h, hidden, u, strengths) - hidden for u in (units, null)]
    assert torch.allclose(steps[0].norm(dim=-1), steps[1].norm(dim=-1), atol=1e-5)
    assert torch.allclose(
        steps[1].flatten(1).norm(dim=1) / hidden.norm(), room.step_size(hidden, null, strengths), atol=1e-5
    )
    cosine = torch.cosine_similarity(units.directions, null.directions)
    assert cosine.abs().max() < 0.95
    assert torch.equal(room.random_units(units, generator=rng(3)).directions, null.directions)


def test_strengths_are_quantiles_over_the_active_tokens():
    hidden = images()
    units = room.neuron_units(hidden, range(8))
    assert torch.allclose(units.at(0.99), torch.quantile(hidden.reshape(-1, 8), 0.99, dim=0))
    values = hidden.relu().index_fill(-1, torch.tensor([5]), 0.0)
    found = units._replace(values=values).at(0.9)
    for j in set(range(8)) - {5}:
        assert found[j] == pytest.approx(float(torch.quantile(values[..., j][values[..., j] > 0], 0.9)), rel=1e-5)
    assert found[5] == 0


# --- steerability -----------------------------------------------------------------------------------------------


def test_steerability_by_hand():
    base = torch.zeros(2, 4)
    steered = torch.zeros(2, 2, 4)
    steered[0, :, 1] = math.log(4)  # p(1) goes from 1/4 to 4/7 in both images
    steered[1, 0, 2], steered[1, 1, 3] = math.log(4), math.log(2)  # each image to a word of its own
    steered[:, :, 0] += torch.tensor([0.1, 0.2])[:, None]
    found = room.steerability(base, steered)
    assert found.target.tolist() == [1, 2]
    e = math.exp(0.1)
    assert found.gain[0] == pytest.approx(4 / (4 + 2 + e) - 1 / 4, abs=1e-6)
    assert found.consistency.tolist() == [1.0, 0.5]
    change = steered.mean(1)[0]
    median = change.median()
    spread = (change - median).abs().median().clamp_min(1e-12 * float(change.abs().max()))  # in the logits' unit
    assert found.selectivity[0] == pytest.approx(float((change[1] - median) / spread), rel=1e-5)


def test_steerability_against_loops_and_under_permutation():
    base, steered = torch.randn(3, 9, generator=rng()), torch.randn(6, 3, 9, generator=rng(1)) * 3
    found = room.steerability(base, steered)
    for f in range(6):
        p = torch.stack([steered[f, n].softmax(0) - base[n].softmax(0) for n in range(3)])
        word = int(p.mean(0).argmax())
        assert int(found.target[f]) == word
        assert float(found.gain[f]) == pytest.approx(float(p.mean(0)[word]), abs=1e-6)
        agree = [int(row.argmax()) == word for row in p]
        assert float(found.consistency[f]) == pytest.approx(sum(agree) / 3)
    order = torch.randperm(9, generator=rng(2))
    again = room.steerability(base[:, order], steered[..., order])
    assert torch.equal(order[again.target], found.target)
    for name in ("gain", "selectivity", "consistency"):
        assert torch.allclose(getattr(again, name), getattr(found, name), atol=1e-5)


def test_an_unsteered_model_gains_nothing():
    base = torch.randn(3, 9, generator=rng())
    found = room.steerability(base, base.expand(4, -1, -1))
    assert torch.equal(found.gain, torch.zeros(4))
    assert not room.is_steerable(found, found).any()


def test_steerable_needs_gain_and_agreement():
    gain = torch.linspace(0, 1, 101)
    null = Steerability(torch.zeros(101).long(), gain, gain, gain)
    found = Steerability(
        torch.tensor([3, 3, 5, 7]),
        torch.tensor([0.9, 0.97, 0.97, 0.99]),
        torch.zeros(4),
        torch.tensor([1, 1, 0.4, 0.5]),
    )
    steerable = room.is_steerable(found, null)
    assert steerable.tolist() == [False, True, False, True]
    assert room.coverage(found, steerable) == 2
    assert room.coverage(found, torch.zeros(4)) == 0


# --- ranking ----------------------------------------------------------------------------------------------------


def test_contrast_and_ranking_by_loops():
    codes = torch.randn(40, 3, 10, generator=rng()).relu()
    attribute = torch.rand(40, generator=rng(1)) < 0.4
    codes[attribute] += torch.linspace(0, 1, 10)
    codes[..., 7] = 0
    rows = codes.mean(1)
    score = room.code_contrast(codes, attribute)
    scaled = room.code_contrast(codes, attribute, standardise=True)
    assert torch.allclose(score, room.code_contrast(rows, attribute), equal_nan=True)
    assert score[7].isnan()
    for j in set(range(10)) - {7}:
        a, b = rows[attribute, j], rows[~attribute, j]
        assert float(score[j]) == pytest.approx(float(a.mean() - b.mean()), abs=1e-5)
        pooled = ((a.var(correction=0) * len(a) + b.var(correction=0) * len(b)) / 40).sqrt()
        assert float(scaled[j]) == pytest.approx(float(score[j] / pooled), rel=1e-4)
    order = room.rank_by_contrast(codes, attribute, exclude=[9])
    wanted = sorted((j for j in range(10) if j not in (7, 9) and score[j] > 0), key=lambda j: -float(score[j]))
    assert order.tolist() == wanted
    flipped = room.code_contrast(codes, ~attribute)
    assert torch.allclose(flipped, -score, equal_nan=True)


def test_what_tells_the_classes_apart_stays():
    target = torch.arange(40) % 2
    attribute = torch.arange(40) // 2 % 2 == 1
    codes = torch.zeros(40, 3)
    codes[:, 0] = attribute.float()  # only the attribute
    codes[:, 1] = attribute.float() + 2 * target  # more of the class
    codes[:, 2] = 2 * attribute.float() + target  # more of the attribute
    assert room.rank_by_contrast(codes, attribute).tolist() == [2, 0, 1]
    assert room.rank_by_contrast(codes, attribute, target=target).tolist() == [2, 0]


def test_matched_latents_have_about_the_same_mass():
    mass = torch.arange(100).float() / 100
    chosen = torch.tensor([5, 50, 90])
    drawn = room.match_mass(mass, chosen, generator=rng(), candidates=4)
    assert (mass[drawn] - mass[chosen]).abs().max() <= 0.041
    assert not set(drawn.tolist()) & {0, 5, 50, 90}
    all_of_them = room.match_mass(torch.ones(10), torch.arange(5), generator=rng())
    assert sorted(all_of_them.tolist()) == [5, 6, 7, 8, 9]


# --- bad input --------------------------------------------------------------------------------------------------


def test_bad_edits():
    nan = float("nan")
    for make_bad, message in (
        (lambda: room.set_feature(1, nan), "strength has 1 NaN"),
        (lambda: room.set_feature(1, float("inf")), "strength has 1 NaN or infinite"),
        (lambda: room.scale_feature(1, nan), "factor has 1 NaN"),
        (lambda: room.set_feature([1, 2], [1.0, 2.0, 3.0]), "strength has 3 numbers; feature has 2"),
        (lambda: room.suppress([-1]), "features holds -1"),
        (lambda: room.suppress([1.5]), r"features holds 1\.5"),
        (lambda: room.suppress([4])(torch.ones(2, 4)), "feature 4 is out of range; there are 4, from 0 to 3"),
    ):
        with pytest.raises(ValueError, match=message):
            make_bad()


def test_bad_units(tower):
    hidden, sae = images(), make()
    units = room.feature_units(sae, hidden, [0, 1])
    same = lambda h: h  # noqa: E731
    for make_bad, message in (
        (lambda: room.feature_units(sae, hidden, [32]), "feature 32 is out of range; there are 32"),
        (lambda: room.feature_units(sae, hidden[..., :5], [0]), r"hidden has shape \(4, 7, 5\); expected \(N, T, 8\)"),
        (lambda: room.feature_units(sae, hidden[0], [0]), r"hidden has shape \(7, 8\)"),
        (lambda: room.neuron_units(hidden, [8]), "feature 8 is out of range; there are 8"),
        (lambda: room.steer_units(same, hidden, units, torch.ones(3)), r"strengths has shape \(3,\); expected \(2\)"),
        (lambda: room.steer_units(same, hidden, units, torch.tensor([1, math.nan])), "strengths has 1 NaN"),
        (lambda: room.steer_units(same, hidden[:2], units, torch.ones(2)), r"units.values has shape \(4, 7, 2\)"),
        (lambda: room.steer_units(same, hidden, units, torch.ones(2), batch_size=0), "batch_size=0 is out of range"),
        (lambda: units.at(1.5), "quantile=1.5 is out of range"),
    ):
        with pytest.raises(ValueError, match=message):
            make_bad()
    with pytest.raises(ValueError, match=r"name='layer\.1' is no module.*closest: layers"):
        upper_of(tower, "layer.1")(hidden)


def test_bad_scores():
    base, steered = torch.zeros(3, 4), torch.zeros(2, 3, 4)
    codes, attribute = torch.ones(6, 4), torch.arange(6) < 3
    for make_bad, message in (
        (lambda: room.steerability(base, steered[..., :3]), r"steered has shape \(2, 3, 3\); expected \(F, 3, 4\)"),
        (lambda: room.steerability(base * math.nan, steered), "base has 12 NaN"),
        (lambda: room.code_contrast(codes, attribute[:5]), r"attribute has shape \(5,\)"),
        (lambda: room.code_contrast(codes, attribute | True), "attribute is True for all 6 rows; both values"),
        (lambda: room.code_contrast(codes[0], attribute), r"codes has shape \(4,\)"),
        (lambda: room.code_contrast(codes * math.nan, attribute), "codes has 24 NaN"),
        (lambda: room.rank_by_contrast(codes, attribute, exclude=[4]), "feature 4 is out of range"),
        (lambda: room.rank_by_contrast(codes, attribute, target=attribute[:2]), r"target has shape \(2,\)"),
        (lambda: room.match_mass(torch.zeros(4), torch.tensor([0]), generator=rng()), "only 0 others are ever active"),
    ):
        with pytest.raises(ValueError, match=message):
            make_bad()
