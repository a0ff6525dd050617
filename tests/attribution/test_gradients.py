"""The gradient family in one call form: against autograd, captum on a plain function, and for any batch size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.attribution import (
    alti_logit,
    class_gradients,
    grad_cam,
    gradient,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
)
from shared.lrp import contrast

captum = pytest.importorskip("captum.attr")
FAMILY = {
    "gradient": gradient,
    "input x gradient": input_x_gradient,
    "integrated gradients": lambda *a, **kw: integrated_gradients(*a, steps=4, **kw),
    "guided": guided_backprop,
}


@pytest.fixture
def net():
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(384, 5)]
    return nn.Sequential(*layers).double().eval()


def by_autograd(function, x):
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def test_gradients_of_a_logit_and_a_contrast(net, images):
    target, foil = torch.tensor([0, 3, 1]), torch.tensor([2, 2, 4])
    rows = torch.arange(3)
    expected = by_autograd(lambda x: net(x)[rows, target], images)
    assert torch.allclose(gradient(net, images, target), expected)
    assert torch.allclose(input_x_gradient(net, images, target), images * expected)
    expected = by_autograd(lambda x: net(x)[rows, target] - net(x)[rows, foil], images)
    assert torch.allclose(gradient(net, images, contrast(target, foil)), expected)
    best = net(images).argmax(1)
    assert torch.equal(gradient(net, images), gradient(net, images, best))
    assert all(p.requires_grad for p in net.parameters())


def test_the_same_as_captum_on_the_model(net, images):
    target = torch.tensor([0, 3, 1])
    theirs = captum.IntegratedGradients(net).attribute(images, target=target, n_steps=4, internal_batch_size=3)
    assert torch.equal(integrated_gradients(net, images, target, steps=4), theirs)
    theirs = captum.GuidedBackprop(net).attribute(images.clone().requires_grad_(), target=target)
    assert torch.equal(guided_backprop(net, images, target), theirs)
    baseline = torch.rand(3, 1, 1, dtype=torch.float64)
    full = baseline.expand(1, 3, 12, 12)
    theirs = captum.IntegratedGradients(net).attribute(images, full, target=target, n_steps=4, internal_batch_size=3)
    assert torch.allclose(integrated_gradients(net, images, target, steps=4, baseline=baseline), theirs)


def test_integrated_gradients_add_up(net, images):
    found = integrated_gradients(net, images, 2, steps=200, baseline=0.1)
    gain = net(images)[:, 2] - net(torch.full_like(images, 0.1))[:, 2]
    assert torch.allclose(found.sum((1, 2, 3)), gain, rtol=1e-2)


@pytest.mark.parametrize("name", FAMILY)
def test_lists_of_targets_and_batches(name, net, images):
    method = FAMILY[name]
    index = torch.tensor([1, 0, 4])
    wants_all = lambda logits: torch.eye(5, dtype=torch.float64)[index.roll(len(logits))]  # noqa: E731
    for target in (None, 2, index, contrast(index, 3), wants_all, [0, index]):
        whole = method(net, images, target)
        assert torch.allclose(method(net, images, target, batch_size=2), whole, atol=1e-12)
    assert torch.equal(method(net, images, [0, index])[1], method(net, images, index))


@pytest.mark.parametrize("batch_size", [None, 2])
def test_token_ids_are_explained_at_their_embeddings(batch_size, make_llama, token_ids):
    model = make_llama().double()
    target = contrast(torch.tensor([3, 4, 5]), 9)
    embeds = model.get_input_embeddings()(token_ids).detach()
    ids = gradient(model, token_ids, target, batch_size=batch_size)
    assert torch.allclose(ids, gradient(model, {"inputs_embeds": embeds}, target), atol=1e-12)
    rows = torch.arange(3)

    def difference(e):
        logits = model(inputs_embeds=e).logits
        return logits[rows, -1, torch.tensor([3, 4, 5])] - logits[rows, -1, 9]

    assert torch.allclose(ids, by_autograd(difference, embeds), atol=1e-12)
    theirs = captum.IntegratedGradients(difference).attribute(embeds, n_steps=3, internal_batch_size=3)
    ours = integrated_gradients(model, token_ids, target, steps=3, batch_size=batch_size)
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_positions_and_masks(make_llama, token_ids):
    model = make_llama().double()
    mask = torch.ones_like(token_ids)
    mask[1, -2:] = 0
    x = {"input_ids": token_ids, "attention_mask": mask}
    last = torch.tensor([6, 4, 6])
    assert torch.allclose(gradient(model, x, 3), gradient(model, x, 3, position=last), atol=1e-12)
    alone = gradient(model, token_ids[1:2, :5], 3)
    assert torch.allclose(gradient(model, x, 3, batch_size=2)[1, :5], alone[0], atol=1e-10)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_grad_cam_against_captum_and_by_hand(batch_size, net, images):
    target = torch.tensor([0, 3, 1])
    ours = grad_cam(net, "2", images, target, batch_size=batch_size)
    theirs = captum.LayerGradCam(net, net[2]).attribute(images, target=target)
    theirs = captum.LayerAttribution.interpolate(theirs, (12, 12), "bilinear")
    assert torch.allclose(ours, theirs, atol=1e-12)
    many = grad_cam(net, "2", images, [1, target], batch_size=batch_size)
    assert torch.allclose(many[1], ours, atol=1e-12)
    assert (grad_cam(net, "2", images, target, relu=True) >= 0).all()


def test_grad_cam_of_a_vit_needs_its_grid(make_vit):
    model, x = make_vit().double(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    layer = "vit.layers.1.layernorm_before"
    ours = grad_cam(model, layer, x, 1, grid=(4, 4))
    assert ours.shape == (2, 1, 16, 16)
    assert ours.abs().sum() > 0
    with pytest.raises(ValueError, match="expected maps with two axes of places, or say grid"):
        grad_cam(model, layer, x, 1)
    with pytest.raises(ValueError, match=r"grid=\(5, 4\) needs tokens"):
        grad_cam(model, layer, x, 1, grid=(5, 4))
    with pytest.raises(ValueError, match="is no module of"):
        grad_cam(model, "vit.layer", x, 1)


def test_class_gradients_and_alti_in_batches(net, images, make_llama, token_ids):
    classes = torch.tensor([[0, 1], [2, 3], [4, 0]])
    for options in ({}, {"steps": 3, "baseline": 0.2}):
        whole = class_gradients(net, images, classes, **options)
        assert torch.allclose(class_gradients(net, images, classes, batch_size=2, **options), whole, atol=1e-12)
    model = make_llama().double()
    whole = alti_logit(model, token_ids, torch.tensor([3, 4, 5]), position=torch.tensor([6, 5, 4]))
    parts = alti_logit(model, token_ids, torch.tensor([3, 4, 5]), position=torch.tensor([6, 5, 4]), batch_size=2)
    for name, value in vars(whole).items():
        assert torch.allclose(getattr(parts, name), value, atol=1e-10), name


def test_bad_input_is_named(net, images):
    with pytest.raises(ValueError, match="x has 1 NaN"):
        gradient(net, images.flatten().index_fill(0, torch.tensor([3]), float("nan")).view_as(images), 1)
    with pytest.raises(ValueError, match="target=7 is out of range"):
        input_x_gradient(net, images, 7)
    with pytest.raises(ValueError, match="steps=0 is out of range"):
        integrated_gradients(net, images, 1, steps=0)
    with pytest.raises(ValueError, match="baseline of shape"):
        integrated_gradients(net, images, 1, baseline=torch.zeros(5))
    with pytest.raises(ValueError, match="training mode"):
        gradient(nn.Sequential(nn.Dropout(), net), images, 1)
