"""Bad input and models without a rule: one error that names what is wrong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.lrp import (
    CPLRP,
    AttnLRP,
    Composite,
    EpsilonPlus,
    Flat,
    Gamma,
    MergeBatchNorm,
    UnsupportedModule,
    attribute,
    contrast,
)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (99, "target=99 is out of range for 5 classes"),
        (torch.tensor([0, 1]), "target has 2 entries for a batch of 3"),
        (torch.zeros(3, 4, dtype=torch.float64), r"target weights have shape \(3, 4\); the logits have \(3, 5\)"),
        (lambda z: z[:, :2], "target weights have shape"),
        (torch.zeros(3, 5, dtype=torch.long), "int or a LongTensor"),
        ([], "empty"),
        (contrast(0, 7), "out of range"),
    ],
)
def test_bad_targets(target, message, conv_net, images):
    with pytest.raises(ValueError, match=message):
        attribute(conv_net, images, target, composite=EpsilonPlus())


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(3, 3, 12, 12, dtype=torch.long), ValueError, "no token embedding"),
        (torch.zeros(3, 3, 12, 12, dtype=torch.bool), ValueError, "dtype torch.bool"),
        (torch.full((1, 3, 12, 12), float("nan"), dtype=torch.float64), ValueError, "NaN"),
        ([1, 2], TypeError, "x must be a tensor"),
        ({"image": 1}, ValueError, "one of pixel_values"),
    ],
)
def test_bad_inputs(x, error, message, conv_net):
    with pytest.raises(error, match=message):
        attribute(conv_net, x, 0, composite=EpsilonPlus())


def test_bad_options(conv_net, images, make_llama, token_ids):
    with pytest.raises(ValueError, match="init='two' is unknown"):
        attribute(conv_net, images, 0, init="two")
    with pytest.raises(ValueError, match="name='33' is no module"):
        attribute(conv_net, images, 0, record=["33"])
    with pytest.raises(ValueError, match=r"conditions\['3'\]=\[99\] is out of range for 16 channels"):
        attribute(conv_net, images, 0, conditions={"3": [99]})
    with pytest.raises(ValueError, match="3 targets and 2 conditions"):
        attribute(conv_net, images, [0, 1, 2], conditions=[{"3": 1}, {"3": 2}])
    with pytest.raises(ValueError, match="transformer='lrp' is unknown"):
        Composite([], transformer="lrp")
    with pytest.raises(ValueError, match="position=7 is out of range for a sequence of 7"):
        attribute(make_llama(), token_ids, 0, position=7)
    with pytest.raises(ValueError, match="wrt='pixels' is unknown"):
        attribute(make_llama(), {"input_ids": token_ids}, 0, wrt="pixels")
    with pytest.raises(ValueError, match="Gamma is a rule for linear layers"):
        attribute(conv_net, images, 0, composite=Composite([(nn.MaxPool2d, Gamma())]))


def test_train_mode_is_refused(residual_net, make_llama, token_ids, images):
    with pytest.raises(ValueError, match=r"training mode .BatchNorm2d at 'bn1'.; call model.eval\(\)"):
        attribute(residual_net.train(), images, 0)
    with pytest.raises(ValueError, match="training mode"):
        attribute(make_llama(attention_dropout=0.1).train(), token_ids, 0)
    with pytest.raises(ValueError, match="Dropout at '1'"):
        attribute(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), torch.ones(1, 2), 0)


def test_wrapped_models_are_refused(conv_net, images):
    with pytest.raises(ValueError, match="DataParallel; pass model"):
        attribute(nn.DataParallel(conv_net), images, 0)
    with pytest.raises(ValueError, match=r"compiled by torch.compile"):
        attribute(torch.compile(conv_net), images, 0)


def test_two_composites_at_once_are_refused(conv_net, images):
    with EpsilonPlus().context(conv_net), pytest.raises(RuntimeError, match="already has an active LRP composite"):
        attribute(conv_net, images, 0, composite=EpsilonPlus())


class Functional(nn.Module):
    """A body that no module-based engine can see."""

    def __init__(self, body):
        super().__init__()
        self.fc, self.inner, self.out = nn.Linear(4, 4), Body(body), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.inner(self.fc(x)))


class Body(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("body", "operation"),
    [
        (F.gelu, "Gelu"),
        (F.relu6, "Hardtanh"),
        (lambda x: x * torch.sigmoid(x), "Mul|Sigmoid"),
        (lambda x: x / x.norm(dim=-1, keepdim=True), "Div|LinalgVectorNorm"),
        (lambda x: torch.softmax(x, -1), "Softmax"),
        (lambda x: F.layer_norm(x, (4,)), "NativeLayerNorm"),
        (lambda x: (x[:, :, None] @ x[:, None, :]).sum(-1), "Bmm"),
        (lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None])[0], "ScaledDotProduct|Softmax|Bmm|Mul|Mm"),
    ],
)
def test_functional_operations_without_a_rule_are_found(body, operation):
    model = Functional(body).eval()
    with pytest.raises(UnsupportedModule, match=rf"operation ({operation})\w* in Body at 'inner'"):
        attribute(model, torch.randn(2, 4), 0, composite=Composite([]))


@pytest.mark.parametrize("body", [F.relu, torch.relu, lambda x: F.leaky_relu(x, 0.1), lambda x: x * 2 + 1, torch.abs])
def test_homogeneous_operations_are_accepted(body):
    result = attribute(Functional(body).eval(), torch.randn(2, 4), 0, composite=Composite([]))
    assert torch.isfinite(result.relevance).all()


def test_a_constant_gate_is_accepted():
    """Squeeze-and-excitation with a detached gate, the usual choice for EfficientNets."""
    model = Functional(lambda x: x * torch.sigmoid(x).detach()).eval()
    assert attribute(model, torch.randn(2, 4), 0, composite=Composite([])).relevance.shape == (2, 4)


def test_a_gate_can_be_declared_constant():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)
            self.gate = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())

        def forward(self, x):
            return self.out(self.fc(x) * self.gate(x))

    model, x = Gated().eval(), torch.randn(2, 4)
    with pytest.raises(UnsupportedModule, match="operation Mul in Gated"):
        attribute(model, x, 0, composite=Composite([]))
    result = attribute(model, x, 0, composite=Composite([], constants="gate"))
    assert torch.allclose(result.relevance.sum(1), result.output[:, 0], atol=1e-6)
    with pytest.raises(ValueError, match="name='gates' is no module"):
        attribute(model, x, 0, composite=Composite([], constants=["gates"]))


def test_transformers_need_a_transformer_composite(make_vit, make_llama, token_ids):
    with pytest.raises(UnsupportedModule, match="use AttnLRP"):
        attribute(make_vit(), torch.randn(1, 3, 16, 16), 0, composite=EpsilonPlus())
    with pytest.raises(UnsupportedModule, match="no LRP rule for the operation"):
        attribute(make_llama(), token_ids, 0, composite=EpsilonPlus())


def test_unknown_norm_is_named(make_llama, token_ids):
    class StrangeNorm(nn.Module):
        def forward(self, x):
            return x / x.std(-1, keepdim=True)

    model = make_llama()
    model.model.norm = StrangeNorm()
    with pytest.raises(
        UnsupportedModule, match=r"the normalisation in StrangeNorm at 'model.norm'; supported: .*LlamaRMSN"
    ):
        attribute(model, token_ids, 0, composite=AttnLRP())


def test_unknown_attention_is_named(make_llama, token_ids):
    class OwnAttention(nn.Module):
        def forward(self, hidden_states, **_):
            weights = torch.softmax(hidden_states @ hidden_states.transpose(1, 2), -1)
            return weights @ hidden_states, None

    model = make_llama()
    for layer in model.model.layers:
        layer.self_attn = OwnAttention()
    with pytest.raises(UnsupportedModule, match=r"in OwnAttention at 'model.layers.0.self_attn'"):
        attribute(model, token_ids, 0, composite=CPLRP())


class PreActivation(nn.Module):
    """Registration order pairs each conv with the next norm; data flow doesn't for `entry` and `last`."""

    def __init__(self):
        super().__init__()
        self.entry, self.norm1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv1, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.last, self.norm3 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.entry(x)
        h = self.last(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))
        return self.fc(torch.relu(self.norm3(x + h)).mean((2, 3)))


def test_only_norms_in_data_flow_are_merged(images):
    model = PreActivation().double().eval()
    automatic = attribute(model, images, 0, composite=EpsilonPlus()).relevance
    explicit = attribute(
        model, images, 0, composite=EpsilonPlus(canonizers=[MergeBatchNorm(pairs={"norm2": "conv1"})])
    ).relevance
    assert torch.equal(automatic, explicit)
    with pytest.raises(RuntimeError, match="'norm3' follows Conv2d in registration but not in data flow"):
        attribute(model, images, 0, composite=EpsilonPlus(canonizers=[MergeBatchNorm(pairs={"norm3": "last"})]))
    with pytest.raises(RuntimeError, match="before batch norm 'norm1' feeds 2 operations"):
        attribute(model, images, 0, composite=EpsilonPlus(canonizers=[MergeBatchNorm(pairs={"norm1": "entry"})]))
    with pytest.raises(ValueError, match="pairs must map a BatchNorm to a linear layer"):
        attribute(model, images, 0, composite=EpsilonPlus(canonizers=[MergeBatchNorm(pairs={"conv1": "norm2"})]))


def test_merging_changes_gamma_but_not_epsilon(residual_net, images):
    """An unmerged batch norm is a layer of its own: same function, same LRP-0, other relevance under ZPlus."""
    merged, apart = (
        attribute(residual_net, images, 1, composite=Composite([], canonizers=c)).relevance for c in (None, [])
    )
    assert torch.allclose(merged, apart, atol=1e-12)
    merged, apart = (
        attribute(residual_net, images, 1, composite=EpsilonPlus(canonizers=c)).relevance for c in (None, [])
    )
    assert not torch.allclose(merged, apart)


def test_merging_follows_the_weights_in_a_training_loop(residual_net, images):
    before = attribute(residual_net, images, 1, composite=EpsilonPlus()).output
    with torch.no_grad():
        residual_net.conv2.weight.mul_(2)
        residual_net.bn2.running_mean.add_(1)
    after = attribute(residual_net, images, 1, composite=EpsilonPlus()).output
    assert torch.allclose(after, residual_net(images))
    assert not torch.allclose(after, before)


def test_not_finite_relevance_warns_with_the_layer():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.fill_(1e38)
        model[2].weight.fill_(1e-38)
        model[2].bias.zero_()
    with pytest.warns(RuntimeWarning, match="relevance is not finite, first at the output of"):
        attribute(model, torch.tensor([[1e5, 1e5]]), 0, composite=Composite([(nn.Linear, Gamma(1e30))], first_map=[]))


def test_input_rule_needs_the_first_layer_of_the_data_flow(images):
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.conv = nn.Linear(10, 2), nn.Conv2d(3, 10, 12)

        def forward(self, x):
            return self.last(self.conv(x).flatten(1))

    with pytest.raises(ValueError, match="isn't fed by the input itself"):
        attribute(
            Backwards().double(), images, 0, composite=Composite([], first_map=[((nn.Linear, nn.Conv2d), Flat())])
        )


@pytest.mark.parametrize("base", [nn.Linear, nn.LayerNorm])
def test_layers_with_a_forward_of_their_own_are_refused(base):
    class Own(base):
        def forward(self, x):
            return super().forward(x) * 2

    layer = Own(4, 4) if base is nn.Linear else Own(4)
    model = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2)).eval()
    with pytest.raises(UnsupportedModule, match=r"in Own at '1'"):
        attribute(model, torch.randn(2, 4), 0, composite=Composite([(nn.Linear, Gamma())]))


@pytest.mark.parametrize("family", ["resnet", "convnext"])
def test_convolutional_nets_of_transformers(family):
    import transformers as t

    if family == "resnet":
        sizes = dict(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 1], num_labels=3)
        model = t.ResNetForImageClassification(t.ResNetConfig(**sizes)).eval()
    else:
        sizes = dict(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=3, layer_scale_init_value=0.5)
        model = t.ConvNextForImageClassification(t.ConvNextConfig(**sizes)).eval()
    x = torch.randn(2, 3, 32, 32)
    result = attribute(model, x, 1, composite=EpsilonPlus())
    assert torch.allclose(result.output, model(x).logits, atol=1e-5)
    assert (result.relevance != 0).any()
