"""RelDrop and random erasing: against slow re-implementations, on corners, at the ends of their settings."""

import math

import pytest
import torch
from torch import nn

from shared.correction import (
    RandomErasing,
    RelDropBlock,
    RelDropPatch,
    RelDropPixel,
    RelDropPoints,
    fit_with_dropout,
    occlude,
    training_relevance,
)
from shared.lrp import UnsupportedModule
from shared.nets import ConvNorm

RECTANGLES = [RandomErasing, RelDropBlock, RelDropPatch]
ALL = [*RECTANGLES, RelDropPixel]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def cnn():
    torch.manual_seed(0)
    return nn.Sequential(ConvNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


class PointNet(nn.Module):
    """Shared layers per point, the largest value of each feature over points, a linear head (Qi et al. 2017)."""

    def __init__(self):
        super().__init__()
        self.each = nn.Sequential(
            *(nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.ReLU()), *(nn.Conv1d(8, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        )
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.each(x).amax(2))


@pytest.fixture
def clouds():
    torch.manual_seed(0)
    return PointNet(), torch.randn(6, 3, 40), torch.arange(6) % 3


def extent(mask):
    """Top, left, height, width of one rectangle."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


@pytest.mark.parametrize("kind", RECTANGLES)
def test_hides_one_rectangle_of_the_size_asked_for(kind):
    masks = kind(area=(0.1, 0.3), aspect=0.5).mask(torch.rand(300, 20, 24, generator=seeded()), generator=seeded(1))
    divisor = 5 if kind is RelDropPatch else 1
    for mask in masks:
        _, _, height, width = extent(mask)
        assert mask.sum() == height * width
        assert height * width <= 1.25 * 0.3 * 480 / divisor
    if kind is RandomErasing:  # never cut off
        areas = masks.flatten(1).sum(1) / 480
        assert areas.min() > 0.08
        assert areas.mean() == pytest.approx(0.2, abs=0.01)
        places = masks.float().mean(0)
        assert torch.allclose(places, places.flip(0), atol=0.12)
        assert torch.allclose(places, places.flip(1), atol=0.12)


def test_the_block_is_the_official_rectangle_cut_off_at_the_border():
    relevance = torch.rand(200, 9, 13, generator=seeded(3))
    drop = RelDropBlock(area=(0.1, 0.5), aspect=0.4)
    masks = drop.mask(relevance, generator=seeded(4))
    height, width, fits = drop._sizes(relevance, seeded(4))
    for r, mask, h, w, fit in zip(relevance, masks, height.tolist(), width.tolist(), fits):
        row, column = divmod(int(r.argmax()), 13)
        top, left = round(row - h / 2), round(column - w / 2)
        wanted = torch.zeros(9, 13, dtype=torch.bool)
        wanted[max(top, 0) : top + h, max(left, 0) : left + w] = fit
        assert torch.equal(mask, wanted)
        assert mask[row, column]  # the most relevant pixel is always hidden


@pytest.mark.parametrize("corner", [(0, 0), (0, 9), (9, 0), (9, 9)])
def test_a_corner_is_clipped_and_not_wrapped(corner):
    relevance = torch.zeros(1, 10, 10)
    relevance[0, *corner] = 1
    mask = RelDropBlock(area=(0.3, 0.3), aspect=1).mask(relevance)[0]  # a square of 5: rows -2 to 2, or 6 to 10
    top, left, height, width = extent(mask)
    assert (top, left) == tuple(0 if at == 0 else 6 for at in corner)
    assert (height, width) == tuple(3 if at == 0 else 4 for at in corner)
    assert mask.sum() == height * width


def test_a_random_place_covers_the_most_relevant_pixel_less_often():
    relevance = torch.rand(500, 12, 12, generator=seeded())
    top = relevance.flatten(1).argmax(1)
    masks = RandomErasing().mask(relevance, generator=seeded(1)).flatten(1)
    assert masks.gather(1, top[:, None]).float().mean() < 0.4


def test_centres_are_drawn_from_the_k_most_relevant():
    relevance = torch.rand(1, 30, 30, generator=seeded()).expand(400, 30, 30)
    top = relevance[0].flatten().topk(4).indices
    masks = RelDropBlock(k_centers=4, area=(0.01, 0.01), aspect=1).mask(relevance, generator=seeded(1))
    hits = masks.flatten(1)[:, top]
    assert hits.any(1).all()
    assert hits.float().mean(0).min() > 0.15


def test_a_patch_is_a_block_of_a_fraction_of_the_area():
    relevance = torch.rand(50, 28, 28, generator=seeded())
    patch = RelDropPatch(count=4, area=(0.08, 0.4))
    block = RelDropBlock(k_centers=4, area=(0.02, 0.1))
    assert torch.equal(patch.mask(relevance, generator=seeded(1)), block.mask(relevance, generator=seeded(1)))


def test_an_image_too_small_for_any_rectangle_stays():
    x = torch.rand(3, 1, 1, 5)
    assert torch.equal(RandomErasing()(x, generator=seeded()), x)


def test_pixels_follow_the_equation():
    relevance = torch.randn(4, 5, 6, generator=seeded()).double()
    masks = RelDropPixel(alpha=0.3, beta=0.4).mask(relevance, generator=seeded(1))
    u = torch.rand(relevance.shape, generator=seeded(1)).double()
    for b, i, j in torch.cartesian_prod(*(torch.arange(n) for n in relevance.shape)).tolist():
        low, high = relevance[b].min(), relevance[b].max()
        r = (relevance[b, i, j] - low) / (high - low)
        assert bool(masks[b, i, j]) == (float(0.3 * u[b, i, j] + 0.7 * r) >= 0.6)


def test_alpha_one_is_chance_and_alpha_zero_is_the_map():
    relevance = torch.randn(50, 30, 30, generator=seeded())
    chance = RelDropPixel(alpha=1, beta=0.3).mask(relevance, generator=seeded(1)).double()
    assert float(chance.mean()) == pytest.approx(0.3, abs=3 * math.sqrt(0.3 * 0.7 / chance.numel()))
    pair = torch.stack([chance.flatten(), relevance.double().flatten()])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.02
    low, high = relevance.amin((1, 2), keepdim=True), relevance.amax((1, 2), keepdim=True)
    exact = RelDropPixel(alpha=0, beta=0.3).mask(relevance)
    assert torch.equal(exact, (relevance - low) / (high - low) >= 0.7)


def test_a_flat_map_hides_by_chance_alone():
    masks = RelDropPixel(alpha=0.5, beta=0.7).mask(torch.ones(20, 30, 30), generator=seeded())
    assert float(masks.float().mean()) == pytest.approx(0.4, abs=0.02)  # 0.5 u >= 0.3
    assert not RelDropPixel(alpha=0.3, beta=0.5).mask(torch.ones(2, 9, 9)).any()  # 0.3 u never reaches 0.5


@pytest.mark.parametrize("kind", ALL)
def test_a_batch_of_one_and_a_fill_per_channel(kind):
    x, relevance = torch.rand(1, 3, 16, 16, generator=seeded()), torch.rand(1, 16, 16, generator=seeded(2))
    out = kind(fill=[5.0, 6.0, 7.0])(x, relevance, generator=seeded(1))
    hidden = (out != x).any(1)[0]
    assert 0 < hidden.sum() < 256
    assert torch.equal(out[0][:, hidden], torch.tensor([[5.0], [6.0], [7.0]]).expand(3, int(hidden.sum())))
    assert torch.equal(out[0][:, ~hidden], x[0][:, ~hidden])


@pytest.mark.parametrize("kind", [RelDropBlock, RelDropPatch, RelDropPixel])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_image_without_a_map_stays_and_changes_no_other(kind, bad):
    x, relevance = torch.rand(4, 1, 10, 10), torch.rand(4, 10, 10)
    holed = relevance.clone()
    holed[2, 3, 3] = bad
    whole, some = kind()(x, relevance, generator=seeded()), kind()(x, holed, generator=seeded())
    assert torch.equal(some[2], x[2])
    rest = [0, 1, 3]
    assert torch.equal(some[rest], whole[rest])


def test_points_are_hidden_whole(clouds):
    net, x, y = clouds
    relevance = training_relevance(net, x, y)
    assert relevance.shape == (6, 40)
    out = RelDropPoints()(x, relevance, generator=seeded())
    hidden = (out == 0).all(1)
    assert torch.equal(hidden, (out == 0).any(1))
    assert torch.equal(hidden, RelDropPoints().mask(relevance, generator=seeded()))
    kept = relevance[~hidden].mean()
    assert relevance[hidden].mean() > kept


def test_a_point_that_is_no_maximum_has_no_relevance(clouds):
    """A max-pooled network leans on its critical points alone."""
    net, x, y = clouds
    relevance = training_relevance(net, x, y)
    critical = torch.zeros_like(relevance, dtype=torch.bool)
    critical.scatter_(1, net.eval().each(x).argmax(2), True)
    assert (relevance[~critical] == 0).all()


def test_maps_are_flat_then_epsilon_and_of_the_true_class():
    """Against the rules written out for a net of two linear layers on single pixels."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)).double().eval()
    x, y, eps = torch.randn(5, 2, 2, 2).double(), torch.tensor([0, 1, 2, 0, 1]), 1e-3
    hidden = net[1](net[0](x)).flatten(1)
    z = net(x).gather(1, y[:, None])
    upper = hidden * net[3].weight[y] / (z + eps * torch.where(z < 0, -1.0, 1.0))
    wanted = upper.view(5, 3, 2, 2).sum(1)  # the kernel sees one pixel, so Flat sends all to it, half to each channel
    assert torch.allclose(training_relevance(net, x, y), wanted.detach(), atol=1e-5)


def test_the_map_leaves_the_network_alone(cnn):
    cnn.train()
    cnn[0].norm.eval()  # frozen by its owner
    x, y = torch.rand(8, 2, 10, 10), torch.arange(8) % 3
    before = {k: v.clone() for k, v in cnn.state_dict().items()}
    training_relevance(cnn, x, y)
    assert all(torch.equal(v, before[k]) for k, v in cnn.state_dict().items())
    assert cnn.training
    assert not cnn[0].norm.training
    assert all(p.grad is None and p.requires_grad for p in cnn.parameters())


def test_the_map_is_of_the_batch_it_is_given(cnn):
    x, y = torch.rand(4, 2, 10, 10), torch.tensor([0, 1, 2, 0])
    drop, seen = RelDropBlock(p=1), []

    def maps(model, some, labels):
        seen.append((some, labels))
        return training_relevance(model, some, labels)

    out = occlude(cnn, x, y, drop, maps=maps, generator=seeded())
    assert torch.equal(seen[0][0], x)
    assert torch.equal(seen[0][1], y)
    own = seeded()
    drop.choose(4, generator=own)
    assert torch.equal(out, drop(x, training_relevance(cnn, x, y), generator=own))


def test_maps_are_computed_for_chosen_images_only(cnn):
    x, y, counts = torch.rand(200, 2, 10, 10), torch.zeros(200, dtype=torch.long), []

    def maps(_model, some, _labels):
        counts.append(len(some))
        return some.sum(1)

    out = occlude(cnn, x, y, RelDropPixel(p=0.3), maps=maps, generator=seeded())
    assert 35 < counts[0] < 85
    assert (out != x).flatten(1).any(1).sum() == counts[0]
    occlude(cnn, x, y, RandomErasing(p=0.5), maps=maps, generator=seeded())  # needs none
    assert len(counts) == 1
    assert occlude(cnn, x, y, RelDropBlock(p=0), maps=maps, generator=seeded()) is x


def test_a_block_is_drawn_for_the_whole_batch_or_none():
    drop, g = RelDropBlock(p=0.5), seeded()
    draws = torch.stack([drop.choose(7, generator=g) for _ in range(200)])
    assert (draws.all(1) | ~draws.any(1)).all()
    assert float(draws[:, 0].float().mean()) == pytest.approx(0.5, abs=0.1)


def trained(drop, **options):
    torch.manual_seed(0)
    net = nn.Sequential(ConvNorm(1, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    g = seeded(5)
    x, y = torch.rand(21, 1, 8, 8, generator=g), torch.arange(21) % 2
    jitter = lambda batch, generator: batch + 0.1 * torch.rand(batch.shape, generator=generator)  # noqa: E731
    fit_with_dropout(net, x, y, dropout=drop, epochs=2, batch_size=10, augment=jitter, generator=seeded(1), **options)
    return torch.cat([v.flatten().double() for v in net.state_dict().values()])


@pytest.mark.parametrize("drop", [RelDropBlock(p=0), RandomErasing(p=0), RelDropPixel(beta=0, p=1)])
def test_hiding_nothing_is_plain_training_to_the_bit(drop):
    assert torch.equal(trained(drop), trained(None))


def test_hiding_something_is_not():
    plain, block = trained(None), trained(RelDropBlock(p=1))
    assert not torch.equal(plain, block)
    assert torch.equal(block, trained(RelDropBlock(p=1)))
    flat = trained(RelDropBlock(p=1), maps=lambda _m, x, _y: torch.zeros(len(x), *x.shape[2:]))
    assert not torch.equal(block, flat)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (RelDropPixel, {"alpha": 1.1}),
        (RelDropPixel, {"alpha": math.nan}),
        (RelDropPixel, {"beta": -0.1}),
        (RelDropPoints, {"beta": 2}),
        (RelDropBlock, {"p": 1.5}),
        (RandomErasing, {"p": -0.1}),
        (RelDropBlock, {"k_centers": 0}),
        (RelDropPatch, {"count": 0}),
        (RandomErasing, {"area": (0.0, 0.4)}),
        (RelDropBlock, {"area": (0.5, 0.4)}),
        (RelDropBlock, {"aspect": 0.0}),
        (RelDropBlock, {"fill": math.nan}),
    ],
)
def test_settings_out_of_range_are_named(kind, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}"):
        kind(**options)


def test_bad_calls_are_named():
    x, relevance = torch.rand(2, 3, 6, 6), torch.rand(2, 6, 6)
    for drop, args, name in (
        (RelDropBlock(), (x, None), "relevance"),
        (RelDropBlock(), (x, relevance[:1]), "relevance"),
        (RelDropBlock(), (x, relevance[0]), "relevance"),
        (RelDropBlock(), (x * math.nan, relevance), "x"),
        (RelDropBlock(fill=[1.0, 2.0]), (x, relevance), "fill"),
        (RelDropPixel(), (x[0, 0], relevance), "x"),
        (RandomErasing(), (torch.rand(2, 3, 6), None), "relevance"),
    ):
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            drop(*args)


def test_a_layer_without_a_rule_is_named():
    class Squared(nn.Module):
        def forward(self, x):
            return x**2

    net = nn.Sequential(nn.Conv2d(1, 2, 3), Squared(), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(UnsupportedModule, match="Squared"):
        training_relevance(net, torch.rand(2, 1, 4, 4), torch.tensor([0, 1]))
