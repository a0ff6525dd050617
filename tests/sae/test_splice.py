"""A dictionary inside a model: identity without an edit, exact steering, everything undone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.sae import SAEConfig, SparseDict, edit_codes, splice


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 3))


def tokens():
    return torch.randn(4, 7, 5, generator=rng(1))


def make(**more):
    return SparseDict(SAEConfig("topk", 8, 32, k=4, **more), generator=rng(2))


@pytest.mark.parametrize("mode", ["none", "layer_norm", "constant_norm_rescale"])
def test_nothing_changes_without_an_edit_or_with_the_own_value(model, mode):
    plain, sae = model(tokens()), make(normalize_activations=mode)
    with splice(model, "0", sae) as seen:
        assert torch.equal(model(tokens()), plain)
    with splice(model, "0", sae, edit=lambda f: f.clone()):
        assert torch.equal(model(tokens()), plain)
    for error in ("keep", "detach"):
        with splice(model, "0", sae, error=error, edit=lambda f: f * 1.0):
            assert torch.allclose(model(tokens()), plain, atol=1e-5)
    assert seen["codes"].shape == (4, 7, 32)
    assert torch.equal(model(tokens()), plain)


@pytest.mark.parametrize("mode", ["none", "layer_norm"])
@pytest.mark.parametrize("error", ["keep", "detach"])
def test_an_edit_moves_the_activation_along_the_latents_row(model, mode, error):
    sae, acts = make(normalize_activations=mode), model[0](tokens())

    def steer(codes):
        return codes.index_fill(-1, torch.tensor([3]), 2.0)

    with torch.no_grad():
        with splice(model, "0", sae, edit=steer, error=error):
            out = model(tokens())
        change = (2.0 - sae.encode(acts)[..., 3:4]) * sae.W_dec[3]
        change = change if mode == "none" else change * sae.stats(acts).scale
        assert torch.allclose(out, model[1](acts + change), atol=1e-5)


def conv_edit(codes):
    return codes.index_fill(-1, torch.tensor([3]), 2.0)


@pytest.mark.parametrize("made", [nn.Conv1d(2, 8, 3), nn.Conv2d(2, 8, 3), nn.Conv3d(2, 8, 3)])
@pytest.mark.parametrize("error", ["keep", "drop"])
def test_maps_of_convolutions_are_encoded_along_their_channels(made, error):
    """As large as the channels are many, so that another axis would pass unseen."""
    net, sae = nn.Sequential(made, nn.ReLU()), make()
    x = torch.randn(3, 2, *(10,) * (made.weight.ndim - 2), generator=rng(1))
    with torch.no_grad():
        acts = made(x)
        wanted = edit_codes(sae, acts.movedim(1, -1), conv_edit, error=error).movedim(-1, 1)
        with splice(net, "0", sae, edit=conv_edit, error=error) as seen:
            out = net(x)
    assert acts.shape[1] == acts.shape[-1]
    assert torch.allclose(out, wanted.relu(), atol=1e-6)
    assert seen["codes"].shape == (3, *acts.shape[2:], 32)


def test_a_module_that_does_not_tell_its_channels_is_asked_for_them():
    class Turned(nn.Module):
        def forward(self, x):
            return x.movedim(1, -1)

    net, sae, x = nn.Sequential(Turned()), make(), torch.randn(3, 8, 8, 8, generator=rng(1))
    with pytest.raises(ValueError, match="pass channel_axis"), splice(net, "0", sae, edit=conv_edit):
        net(x)
    with torch.no_grad(), splice(net, "0", sae, edit=conv_edit, channel_axis=-1):
        assert torch.allclose(net(x), edit_codes(sae, x.movedim(1, -1), conv_edit), atol=1e-6)


def test_drop_gives_the_reconstruction(model):
    sae = make()
    with torch.no_grad(), splice(model, "0", sae, error="drop") as seen:
        out, acts = model(tokens()), model[0](tokens())
    assert torch.allclose(out, model[1](sae(model[0](tokens())).x_hat), atol=1e-5)
    assert torch.allclose(seen["error"], model[0](tokens()) - acts, atol=1e-5)


def test_only_the_chosen_tokens_change(model):
    sae, plain = make(), model(tokens())

    def zero(codes):
        return torch.zeros_like(codes)

    for which, rows in (("cls", [0]), ("patches", [1, 2, 3, 4, 5, 6]), ([2, 5], [2, 5])):
        with splice(model, "0", sae, tokens=which, edit=zero):
            changed = (model(tokens()) != plain).any(-1).all(0).nonzero().flatten().tolist()
        assert changed == rows


def test_detached_error_leaves_the_gradient_of_the_reconstruction(model):
    sae, x = make(), tokens()
    with splice(model, "0", sae, error="detach"):
        ours = torch.autograd.grad(model(x).square().sum(), model[0].bias)[0]
    acts = model[0](x)
    y = sae.decode(sae.encode(acts))
    out = model[1](y + (acts - y).detach())
    assert torch.allclose(ours, torch.autograd.grad(out.square().sum(), model[0].bias)[0], atol=1e-4)


def test_bad_input_is_refused_and_the_model_is_left_as_it_was(model):
    sae, plain = make(), model(tokens())
    with pytest.raises(ValueError, match="closest"), splice(model, "10", sae):
        pass
    with pytest.raises(ValueError, match="error="), splice(model, "0", sae, error="kept"):
        pass
    with pytest.raises(ValueError, match="8 wide"), splice(model, "1", sae):
        model(tokens())
    with pytest.raises(ValueError, match="edit must return"), splice(model, "0", sae, edit=lambda f: f[..., :3]):
        model(tokens())
    with pytest.raises(ValueError, match="edit returned NaN"), splice(model, "0", sae, edit=lambda f: f / 0):
        model(tokens())
    with pytest.raises(ValueError, match=r"\(B, T, D\)"), splice(model, "0", sae, tokens="cls"):
        model(tokens()[:, 0])
    transcoder = SparseDict(SAEConfig("topk", 8, 32, k=4, d_out=8))
    with pytest.raises(ValueError, match="transcoder"), splice(model, "0", transcoder):
        pass
    assert torch.equal(model(tokens()), plain)
