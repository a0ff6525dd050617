"""Split layers against the layer itself, for any shares and sources; parts by hand; what can't be split is refused."""

import itertools

import pytest
import torch
from torch import nn

from shared.circuits import Split, SplitLayer, rewired, source_sets, split_by_shares, split_by_sources
from shared.hooks import capture
from shared.zoo import load_model


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def random_shares(k, inputs, generator):
    """Soft, or hard with common inputs, by turns."""
    soft = torch.rand(k, inputs, generator=generator, dtype=torch.float64) ** 3
    return soft / soft.sum(0)


def random_sources(k, inputs, generator):
    owner = torch.randint(0, k + 1, (inputs,), generator=generator)  # k: common
    return owner == torch.arange(k)[:, None]


LAYERS = {
    "linear": (lambda: nn.Linear(12, 7), (5, 12)),
    "tokens": (lambda: nn.Linear(12, 7, bias=False), (2, 3, 12)),
    "conv": (lambda: nn.Conv2d(12, 7, 3, padding=1), (2, 12, 6, 5)),
    "pointwise": (lambda: nn.Conv2d(12, 7, 1, bias=False), (2, 12, 6, 5)),
    "strided": (lambda: nn.Conv2d(12, 7, (3, 2), stride=(2, 1), padding=(0, 2), dilation=(1, 2)), (2, 12, 9, 8)),
    "reflected": (lambda: nn.Conv2d(12, 7, 3, padding="same", padding_mode="reflect"), (2, 12, 6, 5)),
    "series": (lambda: nn.Conv1d(12, 7, 4, stride=3), (2, 12, 11)),
    "volume": (lambda: nn.Conv3d(12, 7, 2), (2, 12, 3, 4, 3)),
    "unbatched": (lambda: nn.Conv2d(12, 7, 3), (12, 6, 5)),
}


def worst(layer, split, x):
    with torch.no_grad():
        want = layer(x)
        return float((split(x) - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("form", ["shares", "sources"])
def test_a_split_layer_is_the_layer(name, form):
    """24 random splits of each: any number of sub-units, of several units at once."""
    make, shape = LAYERS[name]
    torch.manual_seed(1)
    for seed in range(24):
        generator, layer = gen(seed), make().double()
        draw, split_by = (random_shares, split_by_shares) if form == "shares" else (random_sources, split_by_sources)
        units = torch.randperm(7, generator=generator)[: 1 + seed % 5].tolist()
        splits = {unit: split_by(draw(2 + (seed + unit) % 4, 12, generator)) for unit in units}
        x = 100 * torch.randn(shape, generator=generator, dtype=torch.float64)
        assert worst(layer, SplitLayer(layer, splits), x) < 1e-13
        assert worst(layer.float(), SplitLayer(layer.float(), splits), x.float()) < 5e-6


def test_sub_units_by_hand():
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight[1], layer.bias[1] = torch.tensor([1.0, 2, 3, 4]), 6.0
    sources = torch.tensor([[True, False, False, False], [False, True, False, False]])
    x = torch.tensor([[1.0, 10, 100, 1000]])
    split = SplitLayer(layer, {1: split_by_sources(sources)})
    assert split.subunits(x)[1].tolist() == [[1 + 300 + 4000 + 6, 20 + 300 + 4000 + 6, 300 + 4000 + 6]]
    assert split.columns(1) == [1, 2, 3]
    assert split(x)[0, 1] == 4327
    shares = torch.tensor([[1, 0, 0.5, 0.25], [0, 1, 0.25, 0.25], [0, 0, 0.25, 0.5]])
    split = SplitLayer(layer, {1: split_by_shares(shares)})
    assert split.subunits(x)[1].tolist() == [[1 + 150 + 1000 + 2, 20 + 75 + 1000 + 2, 75 + 2000 + 2]]
    assert split(x)[0, 1] == 4327
    assert split.columns(1) == [1, 2, 3]


def test_both_forms_agree_where_nothing_is_common():
    layer, sources = nn.Conv2d(6, 3, 3), torch.arange(6) % 3 == torch.arange(3)[:, None]
    layer.bias = None
    x = torch.randn(2, 6, 5, 5, generator=gen())
    residue = SplitLayer(layer, {2: split_by_sources(sources)}).subunits(x)[2]
    shares = SplitLayer(layer, {2: split_by_shares(sources.float())}).subunits(x)[2]
    assert torch.equal(residue[:, :3], shares)
    assert not residue[:, 3].any()


def test_the_merge_is_a_matrix():
    layer = nn.Conv2d(5, 4, 1)
    splits = {3: split_by_sources(random_sources(3, 5, gen())), 0: split_by_shares(random_shares(2, 5, gen()))}
    split, x = SplitLayer(layer, splits), torch.randn(2, 5, 3, 3, generator=gen())
    assert split.merge_matrix().shape == (4, 8)
    assert torch.allclose(torch.einsum("ur,brhw->buhw", split.merge_matrix(), split.rows(x)), split(x), atol=1e-6)


def test_shares_move_with_the_inputs():
    layer, shares, order = nn.Linear(8, 3), random_shares(3, 8, gen()), torch.randperm(8, generator=gen(1))
    moved = nn.Linear(8, 3)
    moved.weight, moved.bias = nn.Parameter(layer.weight[:, order]), layer.bias
    x = torch.randn(4, 8, generator=gen(2))
    one = SplitLayer(layer, {1: split_by_shares(shares)}).subunits(x)[1]
    other = SplitLayer(moved, {1: split_by_shares(shares[:, order])}).subunits(x[:, order])[1]
    assert torch.allclose(one, other, atol=1e-6)


def test_units_that_are_not_split_keep_their_bits():
    layer, x = nn.Linear(64, 5), torch.randn(9, 64, generator=gen())
    split = SplitLayer(layer, {2: split_by_shares(random_shares(2, 64, gen()))})
    assert torch.equal(split.rows.weight[[0, 1, 3, 4]], layer.weight[[0, 1, 3, 4]])
    assert torch.allclose(split(x), layer(x), atol=1e-5)


def test_no_sources_at_all_is_a_unit_twice_minus_itself():
    layer, x = nn.Linear(6, 2), torch.randn(3, 6, generator=gen())
    parts = SplitLayer(layer, {0: split_by_sources(torch.zeros(2, 6, dtype=torch.bool))}).subunits(x)[0]
    assert torch.allclose(parts, layer(x)[:, :1].expand(3, 3), atol=1e-6)


@pytest.mark.parametrize("split_by", ["shares", "sources"])
def test_steering_scales_one_sub_unit(split_by):
    sources = torch.arange(6) % 3 == torch.arange(3)[:, None]
    split = split_by_shares(sources.double()) if split_by == "shares" else split_by_sources(sources)
    layer = nn.Conv2d(6, 4, 3)
    module, x = SplitLayer(layer, {1: split, 3: split}), torch.randn(2, 6, 5, 5, generator=gen())
    part = module.subunits(x)[3][:, 2]
    with module.steered({(3, 2): 0.0, (1, 0): 1.0}):
        out = module(x)
        with module.steered({(3, 2): 3.0}):
            assert torch.allclose(module(x)[:, 3], layer(x)[:, 3] + 2 * part, atol=1e-5)
    assert torch.allclose(out[:, 3], layer(x)[:, 3] - part, atol=1e-5)
    assert torch.allclose(out[:, :3], layer(x)[:, :3], atol=1e-5)
    assert torch.allclose(module(x), layer(x), atol=1e-5)


def test_a_network_rewired_in_several_layers_says_the_same():
    """Layers of a shipped network, in float64 and float32, on images and on noise; and it is put back."""
    model = load_model("resnet-fashion").model.double()
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    x = torch.randn(8, 1, 28, 28, generator=gen(), dtype=torch.float64)
    splits = {}
    for name in names[1:]:
        inputs = model.get_submodule(name).in_channels
        forms = itertools.cycle(
            [split_by_shares(random_shares(3, inputs, gen())), split_by_sources(random_sources(2, inputs, gen()))]
        )
        splits[name] = {unit: split for unit, split in zip(range(0, 16, 2), forms)}
    before = dict(model.named_modules())
    for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        model.to(dtype)
        with torch.no_grad():
            want = model(x.to(dtype))
            with rewired(model, splits) as layers, capture(model, names[-1] + ".rows") as seen:
                assert (model(x.to(dtype)) - want).abs().max() < bound
            assert seen[names[-1] + ".rows"].shape[1] == layers[names[-1]].rows.out_channels
    assert dict(model.named_modules()) == before


def test_a_layer_with_two_names_is_split_in_both():
    layer = nn.Linear(4, 4)
    model = nn.ModuleDict({"one": layer, "other": layer})
    with rewired(model, {"one": {0: split_by_shares(torch.full((2, 4), 0.5))}}) as layers:
        assert model["one"] is model["other"] is layers["one"]
    assert model["one"] is model["other"] is layer


def test_source_sets_by_the_rule():
    two = torch.tensor([[4.0, 1, 1, -1, -1, 0], [1.0, 4, 1, -2, -1, 0]])
    assert source_sets(two, ratio=0.5).tolist() == [
        [True, False, False, True, True, False],  # the last but one would be the second's too: negative and equal
        [False, True, False, False, False, False],
    ]
    assert source_sets(two, ratio=0.2).sum() == 2  # -1 · 0.2 > -2 and -1
    three = torch.tensor([[4.0, 1], [1.0, 4], [3.0, 1]])
    assert source_sets(three, ratio=0.7).tolist() == [[False, False], [False, True], [False, False]]
    assert source_sets(three, ratio=0.8).tolist() == [[True, False], [False, True], [False, False]]


def test_at_ratio_one_only_ties_are_common():
    values = torch.rand(2, 50, generator=gen())
    values[1, 7] = values[0, 7]
    assert (~source_sets(values, ratio=1.0).any(0)).nonzero().flatten().tolist() == [7]


ONE = {0: split_by_shares(torch.full((2, 4), 0.5))}


@pytest.mark.parametrize(
    ("layer", "splits", "message"),
    [
        (nn.ReLU(), ONE, "ReLU, which has no linear sum.*the layer before it"),
        (nn.BatchNorm2d(4), ONE, "BatchNorm2d, which has no linear sum"),
        (nn.ConvTranspose2d(4, 4, 1), ONE, "ConvTranspose2d"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)), ONE, "unparametrised"),
        (nn.Conv2d(4, 4, 1, groups=2), ONE, "grouped convolution .groups=2."),
        (nn.Linear(4, 2), {}, "splits is empty"),
        (nn.Linear(4, 2), {2: ONE[0]}, "unit 2; the layer has units 0 to 1"),
        (nn.Linear(4, 2), {-1: ONE[0]}, "unit -1"),
        (nn.Linear(4, 2), {0: torch.ones(2, 4)}, "split_by_shares"),
        (nn.Linear(5, 2), ONE, r"splits\[0\].parts has shape"),
    ],
)
def test_what_cannot_be_split_is_refused_by_name(layer, splits, message):
    with pytest.raises(ValueError, match=message):
        SplitLayer(layer, splits)


def test_bad_splits_are_refused_by_name():
    with pytest.raises(ValueError, match=r"shares must sum to 1.*0\.01 away"):
        split_by_shares(torch.full((2, 4), 0.505))
    assert split_by_shares(torch.eye(3, dtype=torch.long)).parts.tolist() == torch.eye(3).tolist()
    with pytest.raises(ValueError, match="shares must not be negative"):
        split_by_shares(torch.tensor([[1.5], [-0.5]]))
    with pytest.raises(ValueError, match="sources must not overlap; got 4"):
        split_by_sources(torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="sources must be bool"):
        split_by_sources(torch.eye(2))
    for ratio in (0.0, 1.2, float("nan")):
        with pytest.raises(ValueError, match="ratio"):
            source_sets(torch.rand(2, 3), ratio=ratio)
    with pytest.raises(ValueError, match="contributions must have two rows"):
        source_sets(torch.rand(1, 3))
    with pytest.raises(ValueError, match="parts must add up to 1"):
        Split(torch.full((2, 4), 0.6), torch.ones(2), torch.full((2,), 0.5), 2)
    with pytest.raises(ValueError, match="bias must add up to 1"):
        Split(torch.full((2, 4), 0.5), torch.ones(2), torch.ones(2), 2)


def test_bad_places_are_refused_by_name():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    for splits, message in [
        ({}, "splits is empty"),
        ({"9": ONE}, "'9' is no module"),
        ({"1": ONE}, r"splits\['1'\].*ReLU"),
    ]:
        with pytest.raises(ValueError, match=message), rewired(model, splits):
            pass
    with pytest.raises(ValueError, match="splits names the model itself"), rewired(model[0], {"": ONE}):
        pass
    with capture(model, "0"), pytest.raises(ValueError, match="forward hooks"), rewired(model, {"0": ONE}):
        pass
    module = SplitLayer(model[0], ONE)
    for factors, message in [
        ({(1, 0): 2.0}, "unit=1 was not split"),
        ({(0, 2): 2.0}, "sub-unit"),
        ({(0, 0): float("nan")}, "factors"),
    ]:
        with pytest.raises(ValueError, match=message), module.steered(factors):
            pass
