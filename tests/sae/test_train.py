"""The loop: a step's invariants, recovery of a known dictionary, resuming, dead latents, streams, accelerate."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shared.sae import (
    ActivationStream,
    SAEConfig,
    SparseDict,
    TensorStream,
    fit,
    metrics,
    open_activations,
    write_activations,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sparse_data(n, features, mean_active, seed, noise=0.02):
    """Sums of unit features, each on with the same probability and magnitudes in [0.5, 1.5]."""
    g = rng(seed)
    on = torch.rand(n, len(features), generator=g) < mean_active / len(features)
    weights = on * (torch.rand(n, len(features), generator=g) + 0.5)
    return weights @ features + noise * torch.randn(n, features.shape[1], generator=g), on


def unit(rows, width, seed):
    return nn.functional.normalize(torch.randn(rows, width, generator=rng(seed)), dim=1)


def small(kind="topk", **more):
    extra = {"topk": {"k": 4}, "batchtopk": {"k": 4}, "matryoshka": {"k": 4, "widths": (8, 32)}}.get(kind, {})
    return SparseDict(SAEConfig(kind, 12, 32, **{**extra, **more}), generator=rng(0))


def x_small(n=600):
    return sparse_data(n, unit(20, 12, 3), 3, 4)[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_known_dictionary_is_recovered_up_to_permutation(seed):
    truth = unit(40, 64, 10 + seed)
    x, _ = sparse_data(20_000, truth, 3.6, seed)
    held_out, _ = sparse_data(4_000, truth, 3.6, 100 + seed)
    sae = SparseDict(SAEConfig("batchtopk", 64, 80, k=4), generator=rng(seed))
    before = metrics.mcc(sae.W_dec.detach(), truth)
    history = fit(sae, TensorStream(x, 256, generator=rng(seed)), 800, lr=3e-3, progress=False)
    with torch.no_grad():
        out = sae(held_out)
    assert metrics.explained_variance(held_out, out.x_hat) >= 0.95
    assert metrics.mcc(sae.W_dec.detach(), truth) >= 0.95
    assert before < 0.5
    assert metrics.l0(out.codes) == pytest.approx(4, rel=0.15)
    assert history.loss[-1] < 0.1 * history.loss[0]


def hierarchy(n, seed, directions):
    """8 parents with 4 children each; a child is on only where its parent is. Features 0–7 are the parents."""
    g = rng(seed)
    parent = torch.rand(n, 8, generator=g) < 0.25
    which = torch.randint(4, (n, 8), generator=g)
    has = parent & (torch.rand(n, 8, generator=g) < 0.8)
    child = (nn.functional.one_hot(which, 4).bool() & has[..., None]).flatten(1)
    on = torch.cat([parent, child], 1)
    weights = on * (0.75 + 0.5 * torch.rand(n, 40, generator=g))
    return weights @ directions + 0.02 * torch.randn(n, 64, generator=g), parent, has


def test_nested_losses_keep_parents_on_where_a_flat_dictionary_absorbs_them():
    absorbed = {"batchtopk": [], "matryoshka": []}
    for seed in (0, 1):
        directions = unit(40, 64, 20 + seed)
        x, _, _ = hierarchy(20_000, seed, directions)
        test, parent, child = hierarchy(4_000, 50 + seed, directions)
        for kind, more in (("batchtopk", {}), ("matryoshka", {"widths": (8, 64)})):
            sae = SparseDict(SAEConfig(kind, 64, 64, k=4, **more), generator=rng(seed))
            fit(sae, TensorStream(x, 256, generator=rng(seed)), 800, lr=1e-2, progress=False)
            with torch.no_grad():
                out = sae(test)
            absorbed[kind].append(float(metrics.absorption(out.codes, parent, child).mean()))
            assert metrics.explained_variance(test, out.x_hat) > 0.9
    flat, nested = (sum(values) / 2 for values in absorbed.values())
    assert nested < flat - 0.05


@pytest.mark.parametrize("kind", ["standard", "gated", "jumprelu", "topk", "batchtopk", "matryoshka"])
def test_rows_have_norm_one_after_every_step_and_the_same_seed_gives_the_same_weights(kind):
    runs = []
    for _ in range(2):
        sae = small(kind)
        fit(sae, TensorStream(x_small(), 64, generator=rng(1)), 15, lr=1e-2, progress=False)
        assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(32), atol=1e-5)
        runs.append(sae.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(runs[0].values(), runs[1].values(), strict=True))


def test_one_step_is_adam_on_the_projected_clipped_gradient():
    sae, reference = small(), small()
    x = x_small(64)
    stream = iter([x])
    fit(sae, stream, 1, lr=1e-3, warmup=0.0, decay=0.0, clip=0.5, initialise=False, progress=False)
    reference.training_forward(x).loss.backward()
    grad, rows = reference.W_dec.grad, reference.W_dec.detach()
    grad -= (grad * rows).sum(1, keepdim=True) * rows
    grads = [p.grad for p in reference.parameters()]
    norm = torch.cat([g.flatten() for g in grads]).norm()
    for name, parameter in reference.named_parameters():
        g = parameter.grad * min(1.0, float(0.5 / norm))
        new = parameter.detach() - 1e-3 * g / (g.abs() + 1e-8)  # Adam's first step
        if name == "W_dec":
            new = nn.functional.normalize(new, dim=1)
        assert torch.allclose(getattr(sae, name).detach(), new, atol=1e-6), name


@pytest.mark.parametrize("kind", ["standard", "topk", "matryoshka"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(kind, tmp_path):
    def run(sae, **more):
        return fit(
            sae, TensorStream(x_small(), 64, generator=rng(1)), 30, lr=1e-2, dead_after=256, progress=False, **more
        )

    unbroken = small(kind)
    history = run(unbroken, checkpoint=tmp_path / "whole.safetensors", checkpoint_every=30)

    class Killed(Exception):
        pass

    class Breaking(TensorStream):
        given = 0

        def __next__(self):
            self.given += 1
            if self.given > 17:
                raise Killed
            return super().__next__()

    path = tmp_path / "broken.safetensors"
    with pytest.raises(Killed):
        fit(small(kind), Breaking(x_small(), 64, generator=rng(1)), 30, lr=1e-2, dead_after=256, progress=False,
            checkpoint=path, checkpoint_every=10)  # fmt: skip
    resumed = small(kind)
    with torch.no_grad():
        resumed.W_dec.zero_()  # whatever was there, the checkpoint counts
    again = run(resumed, checkpoint=path)
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert again.loss == history.loss
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.safetensors", "whole.safetensors"]


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    fit(small(), TensorStream(x_small(), 64), 4, progress=False, checkpoint=path)
    with pytest.raises(ValueError, match="k: 4 there, 3 here"):
        fit(small(k=3), TensorStream(x_small(), 64), 4, progress=False, checkpoint=path)
    with pytest.raises(ValueError, match="steps: 4 there, 5 here"):
        fit(small(), TensorStream(x_small(), 64), 5, progress=False, checkpoint=path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        fit(small(), TensorStream(x_small(), 64), 4, progress=False, checkpoint=path)


def test_auxk_revives_dead_latents():
    """Latents whose pre-activations are too small to win stay dead without AuxK."""
    x, alive = x_small(2000), []
    for weight in (0.0, 1.0):
        sae = small(aux_coefficient=weight)
        with torch.no_grad():
            sae.W_enc[:, :16] *= 0.05
        fit(sae, TensorStream(x, 128, generator=rng(0)), 300, lr=5e-3, dead_after=512, progress=False)
        alive.append(1 - metrics.dead_fraction(sae.encode_sparse(x)))
    assert alive[1] > alive[0] + 0.1


def test_resampling_gives_silent_latents_a_new_start():
    x, alive = x_small(2000), []
    for every in (None, 50):
        sae = small("standard", l1_coefficient=0.05)
        with torch.no_grad():
            sae.b_enc[:16] = -10.0
        fit(sae, TensorStream(x, 128, generator=rng(0)), 300, lr=3e-3, resample_every=every, progress=False)
        alive.append(1 - metrics.dead_fraction(sae.encode(x)))
    assert alive[1] >= alive[0] + 0.4


def test_a_skip_transcoder_learns_a_layer():
    torch.manual_seed(0)  # of the layer
    x = x_small(3000)
    layer = nn.Linear(12, 5)
    with torch.no_grad():
        y = layer(x).relu()
    sae = SparseDict(SAEConfig("topk", 12, 48, k=4, d_out=5, skip=True), generator=rng(0))
    fit(sae, TensorStream(x, 128, y=y, generator=rng(0)), 400, lr=5e-3, progress=False)
    with torch.no_grad():
        assert metrics.explained_variance(y, sae(x).x_hat) > 0.9


class FakeAccelerator:
    """accelerate's interface, as far as the loop uses it: wraps the module and sees every backward."""

    def __init__(self):
        self.num_processes, self.is_main_process, self.calls = 1, True, []

    def prepare(self, module, optimizer):
        self.calls.append("prepare")

        class Wrapped(nn.Module):
            def __init__(self):
                super().__init__()
                self.module = module

            def forward(self, *args):
                return self.module(*args)

        return Wrapped(), optimizer

    def backward(self, loss):
        self.calls.append("backward")
        loss.backward()

    def clip_grad_norm_(self, parameters, norm):
        self.calls.append("clip")
        return nn.utils.clip_grad_norm_(parameters, norm)


def test_anything_with_accelerates_interface_drives_the_loop():
    plain, accelerated, accelerator = small(), small(), FakeAccelerator()
    fit(plain, TensorStream(x_small(), 64), 5, progress=False)
    fit(accelerated, TensorStream(x_small(), 64), 5, progress=False, accelerator=accelerator)
    assert accelerator.calls == ["prepare", *["backward", "clip"] * 5]
    for a, b in zip(plain.parameters(), accelerated.parameters(), strict=True):
        assert torch.equal(a, b)


def test_bad_batches_stop_the_run_at_once():
    bad = x_small(128)
    bad[70, 3] = float("nan")
    sae = small()
    before = copy.deepcopy(sae.state_dict())
    with pytest.raises(ValueError, match="1 NaN"):
        fit(sae, TensorStream(bad, 128), 3, progress=False)
    assert all(torch.equal(before[name], value) for name, value in sae.state_dict().items())
    with pytest.raises(ValueError, match=r"\(64, 11\).*12 wide"):
        fit(small(), TensorStream(x_small()[:, :11], 64), 3, progress=False)
    with pytest.raises(ValueError, match="stream ended after 2 batches"):
        fit(small(), iter([x_small(64)] * 2), 3, progress=False)
    for bad in ({"lr": 0.0}, {"warmup": 1.5}, {"clip": 0.0}, {"resample_every": 10}, {"threshold_beta": 2.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            fit(small(), TensorStream(x_small(), 64), 3, progress=False, **bad)


def test_tensor_stream_gives_every_row_once_an_epoch_and_pairs_stay_pairs():
    x = torch.arange(20.0)[:, None]
    stream = TensorStream(x, 5, y=-x, generator=rng(3))
    first = [next(stream) for _ in range(4)]
    assert sorted(torch.cat([a for a, _ in first]).flatten().tolist()) == list(range(20))
    assert all(torch.equal(a, -b) for a, b in first)
    state, coming = stream.state_dict(), [next(stream)[0] for _ in range(6)]
    fresh = TensorStream(x, 5, y=-x, generator=rng(99))
    fresh.load_state_dict(state)
    assert all(torch.equal(next(fresh)[0], a) for a in coming)
    for bad in ({"batch_size": 21}, {"y": x[:3]}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            TensorStream(x, **{"batch_size": 5, **bad})
    with pytest.raises(ValueError, match="flatten tokens"):
        TensorStream(x[None], 5)


class Tower(nn.Module):
    """Tokens (B, T, 4) through two layers."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, tokens):
        return self.two(self.one(tokens).relu()).mean(1)


def test_activation_stream_gives_the_models_activations_and_resumes():
    model = Tower()
    loader = [torch.randn(5, 7, 4, generator=rng(i)) for i in range(6)]
    everything = torch.cat([model.one(batch).detach().flatten(0, 1) for batch in loader])

    def stream():
        return ActivationStream(model, "one", loader, 10, buffer_batches=2, generator=rng(1))

    whole, rows = stream(), []
    states = [copy.deepcopy(whole.state_dict()) for _ in range(1)]
    for _ in range(25):
        rows.append(next(whole))
        states.append(copy.deepcopy(whole.state_dict()))
    epoch = torch.cat(rows[:21])  # three blocks of 70 rows
    assert len(torch.unique(epoch, dim=0)) == 210
    distance = torch.cdist(epoch, everything, compute_mode="donot_use_mm_for_euclid_dist")
    assert (distance.min(1).values < 1e-6).all()
    for at in (0, 3, 7, 16, 22):
        resumed = stream()
        resumed.load_state_dict(states[at])
        assert all(torch.equal(next(resumed), expected) for expected in rows[at : at + 3])


def test_activation_stream_takes_tokens_pairs_and_drops_outliers():
    model = Tower()
    loader = [{"tokens": torch.randn(5, 7, 4, generator=rng(i))} for i in range(4)]
    loader[0]["tokens"][0, 0] *= 1e4
    cls = ActivationStream(model, "one", loader, 20, tokens="cls", buffer_batches=4)
    expected = torch.cat([model.one(b["tokens"])[:, 0] for b in loader]).detach()
    assert torch.allclose(next(cls).sort(0).values, expected.sort(0).values)
    patches = ActivationStream(model, "one", loader, 120, tokens="patches", buffer_batches=4)
    assert next(patches).shape == (120, 6)
    pairs = ActivationStream(model, "two", loader, 30, target_layer="two", buffer_batches=4)
    x, y = next(pairs)
    assert torch.allclose(model.two(x), y, atol=1e-5)
    calm = ActivationStream(model, "one", loader, 100, buffer_batches=4, max_norm_multiple=10)
    assert next(calm).norm(dim=1).max() < 1e3
    with pytest.raises(ValueError, match="tokens="):
        ActivationStream(model, "one", loader, 10, tokens="class")
    with pytest.raises(ValueError, match="batch_size=500"):
        next(ActivationStream(model, "one", loader, 500, buffer_batches=2))
    with pytest.raises(ValueError, match="loader is empty"):
        next(ActivationStream(model, "one", [], 5))


def test_activation_stream_takes_the_channels_of_maps():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
    x = torch.randn(4, 3, 8, 8, generator=rng())
    rows = next(ActivationStream(net, "0", [x], 4 * 36, buffer_batches=1))
    expected = net[0](x).detach().movedim(1, -1).flatten(0, 2)
    assert torch.allclose(rows.sort(0).values, expected.sort(0).values)
    last = next(ActivationStream(net, "0", [x], 4 * 36, buffer_batches=1, channel_axis=-1))
    assert not torch.allclose(rows.sort(0).values, last.sort(0).values)


def test_activations_on_disk_come_back_and_damage_is_seen(tmp_path):
    x = torch.randn(50, 6, generator=rng())
    path = write_activations(tmp_path / "acts.bin", x.split(20))
    assert torch.equal(open_activations(path), x)
    half = open_activations(write_activations(tmp_path / "half.bin", [x], dtype="float16"))
    assert torch.equal(half, x.half())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["acts.bin", "acts.bin.json", "half.bin", "half.bin.json"]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="1196 bytes"):
        open_activations(path)
    with pytest.raises(ValueError, match=r"\(n, 6\)"):
        write_activations(tmp_path / "bad.bin", [x, x[:, :5]])
    assert not (tmp_path / "bad.bin").exists()
    with pytest.raises(FileNotFoundError, match=r"bad\.bin"):
        open_activations(tmp_path / "bad.bin")
