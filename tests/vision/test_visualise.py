"""Canvases, transforms, objectives and `render`: from their equations, and one image from another's."""

import math

import pytest
import torch
from torch import nn

from shared.vision import visualise as v


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=seeded(seed))


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).eval()


# --- sort matching ----------------------------------------------------------------------------------------------------


def test_sort_match_is_the_mean_squared_wasserstein_distance_of_the_channels():
    z, other = rand(3, 4, 5, 6).double(), rand(3, 4, 30, seed=1).double()
    by_hand = torch.zeros(3, dtype=torch.float64)
    for b in range(3):
        for c in range(4):
            pairs = zip(sorted(z[b, c].flatten().tolist()), sorted(other[b, c].tolist()))
            by_hand[b] += sum((p - q) ** 2 for p, q in pairs) / 30 / 4
    assert torch.allclose(v.sort_match(z, other.sort(-1).values), by_hand, atol=1e-12)


def test_sort_match_is_what_pot_says():
    """Numbers of `ot.wasserstein_1d(z, r, p=2)`, averaged over channels (POT 0.9.7)."""
    values = torch.rand(2, 2, 3, 20, generator=seeded())
    stored = torch.tensor([0.00457062, 0.00789889])
    assert torch.allclose(v.sort_match(values[0], values[1].sort(-1).values), stored, atol=1e-6)


def test_sort_match_is_zero_for_any_order_and_weighs_channels():
    reference = rand(2, 3, 9).sort(-1).values
    mixed = reference[:, :, torch.randperm(9, generator=seeded())].view(2, 3, 3, 3)
    assert v.sort_match(mixed, reference).abs().max() == 0
    only = torch.tensor([0.0, 3.0, 0.0])
    shifted = mixed + torch.tensor([5.0, 0.5, 7.0])[:, None, None]
    assert torch.allclose(v.sort_match(shifted, reference, weight=only), torch.full((2,), 0.25), atol=1e-6)


def test_sort_match_draws_each_value_to_its_own_rank():
    z = torch.tensor([[[3.0, 1.0, 2.0]]], requires_grad=True)
    reference = torch.tensor([[[0.0, 5.0, 7.0]]])
    v.sort_match(z, reference).sum().backward()
    assert torch.allclose(z.grad, 2 * (z.detach() - torch.tensor([[[7.0, 0.0, 5.0]]])) / 3)
    apart = rand(2, 2, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: v.sort_match(x, rand(2, 2, 6, seed=2).double().sort(-1).values), apart)


def test_references_are_sorted_before_they_are_averaged():
    net, x = network(), rand(24, 1, 8, 8)
    groups = torch.arange(24) % 2
    found = v.sorted_features(net, ["1"], x, groups=groups, batch_size=7)["1"]
    acts = net[:2](x).detach().flatten(2)
    for g in range(2):
        mine = acts[groups == g]
        assert torch.allclose(found[g], mine.sort(-1).values.mean(0), atol=1e-6)
        assert not torch.allclose(found[g], mine.mean(0).sort(-1).values, atol=1e-3)
        pooled = mine.transpose(0, 1).flatten(1).sort(-1).values.view(4, 64, 12).mean(-1)
        assert not torch.allclose(found[g], pooled, atol=1e-3)


def test_references_of_tokens_and_of_maps():
    net = nn.Sequential(nn.Flatten(2), nn.Linear(9, 5)).eval()  # (B, C, 9) -> (B, C tokens, 5 features)
    x = rand(12, 4, 3, 3)
    found = v.sorted_features(net, "1", x, channel_axis=-1)["1"]
    assert torch.allclose(found[0], net(x).detach().transpose(1, 2).sort(-1).values.mean(0), atol=1e-6)
    halved = v.sorted_features(
        network(), "0", x[:, :1], relevance=lambda x, g: {"0": torch.full((len(x), 4, 3, 3), 0.5)}
    )
    assert torch.allclose(2 * halved["0"], v.sorted_features(network(), "0", x[:, :1])["0"], atol=1e-6)


def test_matching_is_the_weighted_sum_and_zero_for_its_own_reference():
    net, x = network(), rand(2, 1, 8, 8)
    with pytest.warns(UserWarning, match="groups: the smallest has 1"):
        refs = v.sorted_features(net, ["0", "2"], x, groups=torch.tensor([0, 1]))
    seen = {"0": net[0](x), "2": net[:3](x)}
    assert v.matching(refs).loss(seen, None, x).abs().max() < 1e-12
    swapped = {k: r.flip(0) for k, r in refs.items()}
    parts = {k: v.sort_match(seen[k], swapped[k]) for k in refs}
    total = v.matching(swapped, weights={"2": 3.0}).loss(seen, None, x)
    assert torch.allclose(total, parts["0"] + 3 * parts["2"])
    masked = v.matching(swapped, relevance=lambda images: {"0": torch.zeros_like(seen["0"])}).loss(seen, None, x)
    assert torch.allclose(masked, parts["2"] + swapped["0"].square().mean((1, 2)))
    important = v.matching(swapped, importance={"0": torch.zeros(2, 4)}).loss(seen, None, x)
    assert torch.allclose(important, parts["2"])


def test_unit_range_and_its_constants():
    maps = torch.stack([rand(3, 3) * 7 - 2, torch.full((3, 3), 4.0)])[None]
    found = v.unit_range(maps)[0]
    assert found[0].min() == 0
    assert found[0].max() == 1
    assert found[1].abs().max() == 0


# --- canvases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 9, 7), (3, 8, 8)])
def test_fourier_is_an_inverse_transform_with_falling_energy(shape):
    canvas = v.FourierCanvas(40, shape, std=0.05, decay=1.5, generator=seeded())
    images = canvas()
    assert images.shape == (40, *shape)
    assert 0 <= images.min()
    assert images.max() <= 1
    gradient = torch.autograd.grad(images.square().sum(), canvas.spectrum)[0].abs().sum((0, 1))
    # the imaginary parts of what is its own mirror image have no effect; every other number has
    assert int((gradient == 0).sum()) <= 4
    if shape[0] == 1:
        power = torch.fft.rfft2(torch.logit(images), norm="ortho").abs().square().mean((0, 1))
        line = torch.log(power[0, 1:4] / power[0, 2])
        slope = (line[2] - line[0]) / math.log(3)
        assert -3.6 < slope < -2.4  # energy is magnitude squared: twice the decay


def test_fourier_by_the_sum_over_frequencies():
    canvas = v.FourierCanvas(1, (1, 4, 4), std=0.0)
    with torch.no_grad():
        canvas.spectrum[0, 0, 1, 0, 0] = 2.0  # frequency 1/4 down; 1 at the frequency -1/4 by symmetry of rows
        canvas.spectrum[0, 0, 3, 0, 0] = 2.0
    wave = torch.cos(2 * math.pi * torch.arange(4) / 4) * 2 * 2 * 4 / 4 / 4  # two terms, 1/f = 4, norm 4, factor 4
    assert torch.allclose(torch.logit(canvas()[0, 0]), wave[:, None].expand(4, 4), atol=1e-5)


def test_maco_keeps_magnitudes_and_moves_phases():
    real = rand(20, 1, 8, 6)
    magnitudes = v.mean_spectrum(real)
    assert torch.allclose(magnitudes[0, 2, 1], torch.fft.fft2(real)[:, 0, 2, 1].abs().mean())
    canvas = v.MacoCanvas(2, magnitudes, 6, level=0.3, generator=seeded())
    before = torch.logit(canvas().detach())
    with torch.no_grad():
        canvas.phase.add_(torch.randn(canvas.phase.shape, generator=seeded(1)))
    after = torch.logit(canvas().detach())
    assert not torch.allclose(before, after, atol=0.1)
    for image in (before, after):  # standardised: one factor for all frequencies, where the transform keeps its phase
        shares = torch.fft.rfft2(image - math.log(0.3 / 0.7))[:, 0, 1:4, 1] / magnitudes[0, 1:4, 1]
        assert torch.allclose(shares.abs(), shares.abs()[:, :1].expand(2, 3), rtol=1e-3)


def test_pixels_stay_in_range_and_start_where_told():
    start = rand(2, 1, 5, 5) * 3 - 1
    canvas = v.PixelCanvas(2, (1, 5, 5), start=start)
    assert torch.equal(canvas(), start.clamp(0, 1))
    noise = v.PixelCanvas(4, (1, 30, 30), level=0.4, std=0.05, generator=seeded())().detach()
    assert abs(float(noise.mean()) - 0.4) < 0.01
    assert abs(float(noise.std()) - 0.05) < 0.01


# --- transforms -------------------------------------------------------------------------------------------------------


def test_rolls_are_rolls_of_each_image():
    x = rand(20, 2, 6, 7)
    out = v.roll_jitter(3)(x, seeded())
    shifts = [
        {(dy, dx) for dy in range(-3, 4) for dx in range(-3, 4) if torch.equal(torch.roll(a, (dy, dx), (1, 2)), b)}
        for a, b in zip(x, out)
    ]
    assert all(shifts)
    assert len({min(s) for s in shifts}) > 5
    assert torch.equal(v.roll_jitter(0)(x, seeded()), x)


def test_crops_turns_and_windows():
    x = rand(5, 1, 8, 8)
    crop = v.random_crop(3)(x, seeded())
    assert all(
        any(torch.equal(c, a[:, i : i + 5, j : j + 5]) for i in range(4) for j in range(4)) for a, c in zip(x, crop)
    )
    assert torch.allclose(v.random_turn(scale=0, degrees=0)(x, seeded()), x, atol=1e-6)
    assert torch.allclose(v.random_window(1, 1)(x, seeded()), x, atol=1e-5)
    wide = torch.arange(16.0).view(1, 1, 1, 16).expand(1, 1, 16, 16)
    small = v.random_window(0.5, 0.5)(wide, seeded())[0, 0, 3]
    assert torch.allclose(small[2:-2].diff(), torch.full((11,), 0.5), atol=1e-4)  # twice as large
    turned = v.random_turn(scale=0, degrees=180)
    assert not torch.allclose(turned(x, seeded(2)), x, atol=1e-2)
    assert v.pad(2, value=0.25)(x, None)[0, 0, 0, 0] == 0.25
    assert abs(float(v.random_noise(0.3)(torch.zeros(1, 1, 50, 50), seeded()).std()) - 0.3) < 0.02
    out = x
    for move in v.standard_transforms(margin=2, first=2, last=2):
        out = move(out, seeded())
    assert out.shape[2:] == (8, 8)


# --- objectives and render --------------------------------------------------------------------------------------------


def test_objectives_are_what_they_say():
    net, x = network(), rand(6, 1, 8, 8)
    output, maps = net(x), net[:3](x)
    rows, seen = torch.arange(6), {"2": maps}
    tiled = torch.tensor([2, 0, 1, 2, 0, 1])  # two copies of three images
    assert torch.equal(v.logit([2, 0, 1]).loss({}, output, x), -output[rows, tiled])
    assert torch.equal(v.channel("2", [2, 0, 1]).loss(seen, output, x), -maps.mean((2, 3))[rows, tiled])
    assert torch.equal(v.neuron("2", [2, 0, 1]).loss(seen, output, x), -maps[rows, tiled, 2, 2])
    assert torch.equal(v.neuron("2", [1], position=(0, -1)).loss(seen, output, x), -maps[:, 1, 0, -1])
    wanted = rand(3, 5, seed=3)
    found = v.direction("2", wanted).loss(seen, output, x)[4]
    cosines = [
        torch.dot(maps[4, :, i, j], wanted[1]) / maps[4, :, i, j].norm() / wanted[1].norm()
        for i in range(4)
        for j in range(4)
    ]
    assert torch.allclose(found, -torch.stack(cosines).mean(), atol=1e-6)
    both = v.logit([2, 0, 1]) + 2.0 * v.channel("2", [0, 0, 0])
    assert both.layers == ("2",)
    assert torch.allclose(both.loss(seen, output, x), -output[rows, tiled] - 2 * maps.mean((2, 3))[:, 0])


def test_pixels_climb_to_the_sign_of_a_linear_layer():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    done = v.render(net, v.logit([0, 1]), v.PixelCanvas(2, (1, 4, 4), generator=seeded()), steps=60)
    assert torch.equal(done.images.flatten(1), (net[1].weight > 0).float())
    assert (done.losses[-1] < done.losses[0]).all()


def test_one_image_alone_is_what_it_is_in_a_batch():
    net, start = network().double(), rand(3, 1, 8, 8).double()  # batches of other sizes round differently
    refs = v.sorted_features(net, ["0", "2"], rand(30, 1, 8, 8, seed=5).double(), groups=torch.arange(30) % 3)
    together = v.render(net, v.matching(refs), v.PixelCanvas(3, (1, 8, 8), start=start), steps=5, lr=0.01).images
    for i in range(3):
        alone = {k: r[i : i + 1] for k, r in refs.items()}
        canvas = v.PixelCanvas(1, (1, 8, 8), start=start[i : i + 1])
        assert torch.allclose(
            v.render(net, v.matching(alone), canvas, steps=5, lr=0.01).images[0], together[i], atol=1e-6
        )


def test_matching_brings_the_distribution_and_leaves_the_model():
    net = network()
    flags = [p.requires_grad for p in net.parameters()]
    refs = v.sorted_features(net, ["0", "2"], 0.2 + 0.1 * rand(20, 1, 8, 8, seed=5))
    canvas = v.PixelCanvas(1, (1, 8, 8), generator=seeded())
    done = v.render(
        net,
        v.matching(refs),
        canvas,
        steps=150,
        lr=0.05,
        schedule="cosine",
        warmup=10,
        transforms=[v.roll_jitter(1)],
        generator=seeded(),
    )
    assert done.losses[-10:].mean() < 0.1 * done.losses[0].mean()
    assert done.alpha.shape == (1, 8, 8)
    assert 0 <= done.alpha.min() <= done.alpha.max() == 1
    assert [p.requires_grad for p in net.parameters()] == flags
    assert all(p.grad is None for p in net.parameters())
    assert not net._forward_hooks


def test_render_is_repeatable_takes_copies_and_resizes():
    net = network()

    def make():
        canvas = v.FourierCanvas(2, (1, 8, 8), generator=seeded())
        moves = [*v.standard_transforms(margin=2, first=2, last=1), v.random_noise(0.1)]
        return v.render(
            net,
            v.logit([0, 1]),
            canvas,
            steps=6,
            copies=3,
            transforms=moves,
            prepare=lambda x: x - 0.5,
            penalty=lambda x: 0.01 * v.total_variation(x),
            generator=seeded(4),
        )

    first = make()
    assert torch.equal(first.images, make().images)
    assert first.images.shape == (2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(first.images, make().images)
    with torch.inference_mode(), pytest.raises(ValueError, match="canvas was made under inference_mode"):
        make()


def test_total_variation_by_hand():
    image = torch.tensor([[[[0.0, 1.0], [3.0, 0.0]]]])
    assert torch.allclose(v.total_variation(image), torch.tensor([10**0.5 + 10**0.5 + 2 + 0.0]))
    flat = torch.zeros(2, 1, 4, 4, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(v.total_variation(flat).sum(), flat)[0]).all()


# --- bad input --------------------------------------------------------------------------------------------------------

NAN = torch.tensor([[[[float("nan"), 0.0], [0.0, 0.0]]]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: v.sort_match(NAN, torch.zeros(1, 4)), "z has 1 NaN"),
        (lambda: v.sort_match(rand(2, 3), rand(3, 4)), "z has shape"),
        (lambda: v.sort_match(rand(2, 3, 4), torch.zeros(3, 5)), "reference has shape"),
        (lambda: v.sort_match(rand(2, 3, 4), torch.tensor([[3.0, 2, 1, 0]] * 3)), "reference isn't sorted"),
        (lambda: v.sort_match(rand(2, 3, 4), torch.zeros(3, 4), weight=rand(4)), "weight has shape"),
        (lambda: v.sorted_features(network(), ["9"], rand(12, 1, 8, 8)), "name='9' is no module"),
        (lambda: v.sorted_features(network(), ["0"], rand(0, 1, 8, 8)), "images is empty"),
        (lambda: v.sorted_features(network(), ["0"], rand(12, 1, 8, 8), groups=torch.ones(12).long()), "groups must"),
        (lambda: v.sorted_features(network(), ["0"], rand(12, 1, 8, 8), groups=torch.zeros(3)), "groups has shape"),
        (lambda: v.matching({}), "references is empty"),
        (lambda: v.matching({"0": rand(3, 4)}), r"references\['0'\] has shape"),
        (lambda: v.matching({"0": rand(3, 4, 4), "1": rand(2, 4, 4)}), "references are for different numbers"),
        (lambda: v.matching({"0": rand(3, 4, 4)}, weights={"1": 2.0}), "weights names 1"),
        (lambda: v.mean_spectrum(rand(3, 4)), "images has shape"),
        (lambda: v.unit_range(rand(3, 4)), "relevance has shape"),
        (lambda: v.total_variation(rand(3, 4)), "images has shape"),
        (lambda: v.total_variation(NAN), "images has 1 NaN"),
        (lambda: v.logit([]), "targets="),
        (lambda: v.logit([0.5]), "targets="),
        (lambda: v.direction("0", rand(3)), "vectors has shape"),
        (lambda: v.logit([0, 1]) + v.channel("0", [0, 0, 1]), "other is for 3 images"),
        (lambda: v.PixelCanvas(0, (1, 2, 2)), "n=0 is out of range"),
        (lambda: v.PixelCanvas(1, (1, 2)), "shape="),
        (lambda: v.PixelCanvas(1, (1, 2, 2), start=NAN), "start has 1 NaN"),
        (lambda: v.FourierCanvas(1, (1, 2, 2), level=1.0), "level=1.0"),
        (lambda: v.MacoCanvas(1, rand(1, 4, 4), 4), "magnitudes has shape"),
        (lambda: v.random_window(0.9, 0.5), "low=0.9"),
        (lambda: v.random_crop(8)(rand(1, 1, 8, 8), None), "less=8"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def draw(objective, **options):
    return v.render(network(), objective, v.PixelCanvas(2, (1, 8, 8), generator=seeded()), steps=2, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw(v.logit([0, 3])), "targets: the largest=3"),
        (lambda: draw(v.logit([0, 1, 2])), "objective is for 3 images; the batch holds 2"),
        (lambda: draw(v.channel("nine", [0])), "name='nine' is no module"),
        (lambda: draw(v.channel("2", [5])), "targets: the largest=5"),
        (lambda: draw(v.neuron("2", [1], position=(9, 0))), "position: its row=9"),
        (lambda: draw(v.neuron("6", [1])), "layer='6' gives shape"),
        (lambda: draw(v.direction("2", rand(1, 4))), "vectors"),
        (lambda: draw(v.matching({"0": rand(1, 4, 49).sort(-1).values})), r"references\['0'\] is of \(4, 49\)"),
        (lambda: draw(v.logit([0]), schedule="step"), "schedule='step'"),
        (lambda: draw(v.logit([0]), copies=0), "copies=0"),
        (lambda: draw(v.logit([0]), warmup=2), "warmup=2"),
        (lambda: draw(v.logit([0]), prepare=lambda x: x * float("nan")), "objective isn't finite"),
    ],
)  # fmt: skip
def test_bad_renderings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_training_mode_is_refused():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 2))
    canvas = v.PixelCanvas(2, (1, 8, 8))
    with pytest.raises(ValueError, match="model is in training mode"):
        v.render(net, v.logit([0, 1]), canvas, steps=1)
    with pytest.raises(ValueError, match="model is in training mode"):
        v.sorted_features(net, ["0"], rand(12, 1, 8, 8))


def test_an_objective_for_another_number_of_images_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    with pytest.raises(ValueError, match="objective is for 2 images; the batch holds 3"):
        v.render(net, v.logit([0, 1]), v.PixelCanvas(3, (1, 4, 4), generator=seeded()), steps=2, copies=2)


def test_sorted_features_of_many_half_precision_maps_stay_finite():
    net = nn.Sequential(nn.Identity()).eval()
    found = v.sorted_features(net, "0", torch.full((3000, 1, 2, 2), 30.0, dtype=torch.float16))["0"]
    assert found.dtype == torch.float32
    assert bool((found == 30).all())


def test_groups_that_are_no_numbers_from_zero_are_refused_by_name():
    for groups in (torch.zeros(12), torch.full((12,), -1)):
        with pytest.raises(ValueError, match="groups must be integers"):
            v.sorted_features(nn.Sequential(nn.Identity()).eval(), "0", torch.rand(12, 1, 2, 2), groups=groups)
