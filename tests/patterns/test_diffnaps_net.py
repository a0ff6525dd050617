"""DiffNaps' layers, loss and one training step against slow float64 re-implementations from the equations."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from shared.patterns import (
    DiffNapsNet,
    binary_linear,
    binary_linear_transposed,
    diffnaps_gradients,
    diffnaps_loss,
    gated_step,
    length_penalty,
    logical_or,
    w_shaped_penalty,
    weighted_xor,
)

SEEDS = (0, 1, 2)


def _rng(seed):
    return np.random.default_rng([seed, 11])


def _binary(rng, *shape, p=0.4):
    return torch.from_numpy((rng.random(shape) < p).astype(float))


def _real(rng, *shape):
    return torch.from_numpy(rng.random(shape))


# --- forward --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_forward_is_and_then_or(seed):
    """With binary weights a neuron fires if two of its items are there (b = −1), and the output is the union."""
    rng = _rng(seed)
    net = DiffNapsNet(12, 7, 3).double()
    binary, x = _binary(rng, 7, 12), _binary(rng, 200, 12)
    output = net(x, binary)
    for row in range(200):
        fired = [j for j in range(7) if sum(bool(x[row, i] and binary[j, i]) for i in range(12)) >= 2]
        assert output.active[row].nonzero().flatten().tolist() == fired
        union = {i for j in fired for i in range(12) if binary[j, i]}
        assert output.reconstruction[row].nonzero().flatten().tolist() == sorted(union)
        logits = [sum(float(net.head.detach()[c, j]) for j in fired) for c in range(3)]
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=1e-12)


@pytest.mark.parametrize(("bias", "needed"), [(-1.0, 2), (-1.99, 2), (-2.0, 3), (-3.7, 4), (-0.2, 2)])
def test_a_pattern_fires_from_its_number_of_items_on(bias, needed):
    count = torch.arange(8.0).reshape(8, 1)
    assert gated_step(count, torch.tensor([bias])).flatten().tolist() == [float(c >= needed) for c in range(8)]


# --- backward: the definitions of the straight-through gradients ----------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_binary_linear_has_the_real_layers_gradient(seed):
    """Finite differences of the real layer x Wᵀ, which the backward pass stands for."""
    rng = _rng(seed)
    x, weight, binary, g = _real(rng, 3, 4), _real(rng, 2, 4), _binary(rng, 2, 4), _real(rng, 3, 2) - 0.5
    x.requires_grad_(), weight.requires_grad_()
    (binary_linear(x, weight, binary) * g).sum().backward()
    step = 1e-6

    def real(x, weight):
        return float(((x @ weight.T) * g).sum())

    with torch.no_grad():
        for tensor, other, order in ((x, weight, 1), (weight, x, -1)):
            for index in np.ndindex(*tensor.shape):
                up, down = tensor.clone(), tensor.clone()
                up[index] += step
                down[index] -= step
                slope = (real(*(up, other)[::order]) - real(*(down, other)[::order])) / (2 * step)
                assert float(tensor.grad[index]) == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_decoder_has_the_real_layers_gradient(seed):
    rng = _rng(seed)
    z, weight, binary, g = _binary(rng, 5, 3), _real(rng, 3, 6), _binary(rng, 3, 6), _real(rng, 5, 6) - 0.5
    z.requires_grad_(), weight.requires_grad_()
    out = binary_linear_transposed(z, weight, binary)
    assert torch.equal(out.detach(), z.detach() @ binary)
    out.backward(g)
    torch.testing.assert_close(z.grad, g @ weight.detach().T)
    torch.testing.assert_close(weight.grad, z.detach().T @ g)


@pytest.mark.parametrize("rule", ["sample", "batch"])
@pytest.mark.parametrize("seed", SEEDS)
def test_gated_step_gradient(seed, rule):
    """Active: the gradient passes. Silent: nothing to the count, and to the bias only what makes it fire easier."""
    rng = _rng(seed)
    count = torch.from_numpy(rng.integers(0, 4, (3, 4)).astype(float)).requires_grad_()
    bias = torch.full((4,), -1.0, dtype=torch.float64, requires_grad=True)
    g = torch.from_numpy(rng.normal(size=(3, 4)))
    z = gated_step(count, bias, bias_rule=rule)
    z.backward(g)
    expected = np.zeros(4)
    for j in range(4):
        falling, total = sum(min(float(g[b, j]), 0) for b in range(3)), sum(float(g[b, j]) for b in range(3))
        for b in range(3):
            if rule == "sample":
                expected[j] += float(g[b, j]) if z[b, j] else min(float(g[b, j]), 0)
            else:
                expected[j] += total if z[b, j] else falling
            assert float(count.grad[b, j]) == (float(g[b, j]) if z[b, j] else 0)
    np.testing.assert_allclose(bias.grad, expected, atol=1e-12)


def test_logical_or_passes_the_gradient_straight_through():
    count = torch.tensor([0.0, 1.0, 3.0], requires_grad=True)
    out = logical_or(count)
    out.backward(torch.tensor([1.0, -2.0, 5.0]))
    assert out.tolist() == [0, 1, 1]
    assert count.grad.tolist() == [1, -2, 5]


# --- the loss -------------------------------------------------------------------------------------------------
def _slow_loss(net, x, y, binary, density, lambda_c, weight_decay, w_reg, head_reg):
    """The objective by loops, from the equations."""
    weight, head = net.weight.detach().numpy(), net.head.detach().numpy()
    (h, d), n = weight.shape, len(x)
    errors = cross = 0.0
    for row, label in zip(x.numpy(), y.numpy()):
        z = [float(sum(binary[j].numpy() * row) + math.trunc(float(net.bias.detach()[j])) >= 1) for j in range(h)]
        rebuilt = [float(any(z[j] and binary[j, i] for j in range(h))) for i in range(d)]
        errors += sum(density * max(a - b, 0) + (1 - density) * max(b - a, 0) for a, b in zip(rebuilt, row))
        logits = [sum(head[c, j] * z[j] for j in range(h)) for c in range(len(head))]
        cross += math.log(sum(math.exp(v) for v in logits)) - logits[label]
    length = sum(max(1.0, sum(weight[j, i] - 1 / d for i in range(d))) ** 2 for j in range(h)) / h

    def pull(values, lasso, ridge):
        def r(u):
            return lasso * abs(u) + ridge * u * u

        return sum(min(r(u), r(u - 1)) for u in values) / len(values)

    binary_term = pull((weight - 1 / d).ravel(), *w_reg) + pull(head.ravel(), *head_reg)
    return errors / n, lambda_c * cross / n, weight_decay * length, binary_term


@pytest.mark.parametrize("two_moments", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_loss_and_its_gradient_from_the_equations(seed, two_moments):
    rng = _rng(seed)
    b, d, h, c = 6, 9, 5, 3
    net = DiffNapsNet(d, h, c, two_moments=two_moments).double()
    with torch.no_grad():
        net.weight.copy_(_real(rng, h, d))
        net.head.copy_(_real(rng, c, h))
        net.bias.copy_(torch.tensor([-1, -1.4, -2, -1, -3.2]))
    x, y, binary = _binary(rng, b, d), torch.from_numpy(rng.integers(0, c, b)), _binary(rng, h, d, p=0.5)
    options = dict(density=0.4, lambda_c=3.0, weight_decay=0.7, w_reg=(0.3, 0.2), head_reg=(0.1, 0.5))
    terms = diffnaps_loss(net, net(x, binary), x, y, **options)
    np.testing.assert_allclose([float(t.detach()) for t in terms], _slow_loss(net, x, y, binary, **options), atol=1e-12)
    terms.total.backward()

    # the gradient, layer by layer, in numpy
    weight, head, X, B = (t.detach().numpy() for t in (net.weight, net.head, x, binary))
    z = (X @ B.T + np.trunc(net.bias.detach().numpy()) >= 1).astype(float)
    rebuilt = (z @ B >= 1).astype(float)
    g_out = (0.4 * (rebuilt > X) - 0.6 * (rebuilt < X)) / b
    soft = np.exp(z @ head.T)
    g_logits = 3.0 * (soft / soft.sum(1, keepdims=True) - np.eye(c)[y.numpy()]) / b
    g_z = g_out @ weight.T + g_logits @ head
    excess = weight.sum(1) - 1

    def pull(values, lasso, ridge):
        low, high = (lasso * abs(u) + ridge * u * u for u in (values, values - 1))
        near = np.where(low < high, values, values - 1)
        return (lasso * np.sign(near) + 2 * ridge * near) / values.size

    g_decoder = z.T @ g_out
    g_encoder = (g_z * z).T @ X + (0.7 * 2 * excess * (excess > 1) / h)[:, None] + pull(weight - 1 / d, 0.3, 0.2)
    if two_moments:
        np.testing.assert_allclose(net.decoder.grad, g_decoder, atol=1e-12)
    else:
        g_encoder = g_encoder + g_decoder
    np.testing.assert_allclose(net.weight.grad, g_encoder, atol=1e-12)
    np.testing.assert_allclose(net.head.grad, g_logits.T @ z + pull(head, 0.1, 0.5), atol=1e-12)
    np.testing.assert_allclose(net.bias.grad, (z * g_z + (1 - z) * np.minimum(g_z, 0)).sum(0), atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_regularisers_by_finite_differences(seed):
    rng = _rng(seed)
    weight = (2 * _real(rng, 4, 6)).requires_grad_()
    assert torch.autograd.gradcheck(length_penalty, (weight,))
    assert torch.autograd.gradcheck(lambda u: w_shaped_penalty(u, 0.7, 0.3), (weight,))


def test_right_cells_get_no_gradient():
    """clamp(min=0) has slope 1 at 0 and would push every weight up for every right cell."""
    x = torch.tensor([[0.0, 1.0, 0.0, 1.0]])
    rebuilt = torch.tensor([[0.0, 1.0, 1.0, 0.0]], requires_grad=True)
    loss = weighted_xor(rebuilt, x, 0.25)
    loss.backward()
    assert float(loss.detach()) == 1.0
    assert rebuilt.grad.tolist() == [[0, 0, 0.25, -0.75]]


def test_w_shape_is_lowest_at_zero_and_one():
    at = {u: float(w_shaped_penalty(torch.tensor([u]), 1.0, 1.0)) for u in (-0.5, 0.0, 0.25, 0.5, 1.0, 1.5)}
    assert at[0.0] == at[1.0] == 0
    assert at[0.25] == pytest.approx(0.3125)
    assert at[0.5] == max(at[u] for u in (0.0, 0.25, 0.5, 1.0))


def test_loss_leaves_out_what_is_switched_off():
    net = DiffNapsNet(6, 4, 2)
    x, y = torch.ones(3, 6), torch.tensor([0, 1, 1])
    terms = diffnaps_loss(net, net(x, net.sample()), x, y, density=0.5, lambda_c=0, weight_decay=0)
    assert [float(t.detach()) for t in terms[1:]] == [0, 0, 0]
    assert float(terms.total.detach()) >= 0


@pytest.mark.parametrize("rule", ["sample", "batch"])
@pytest.mark.parametrize("two_moments", [True, False])
@pytest.mark.parametrize(
    "terms", [{}, {"lambda_c": 0.0, "weight_decay": 0.0}, {"w_reg": (0.3, 0.2), "head_reg": (0.1, 0.5)}]
)
def test_written_out_gradients_are_autograds(terms, two_moments, rule):
    """The layers' backward passes (tested above) through autograd, against the formulas that training uses."""
    rng = _rng(7)
    b, d, h, c = 20, 15, 12, 3
    net = DiffNapsNet(d, h, c, two_moments=two_moments, bias_rule=rule).double()
    with torch.no_grad():
        net.weight.copy_(_real(rng, h, d) ** 3)  # some patterns longer than 1, some not
        net.head.copy_(_real(rng, c, h))
        net.bias.copy_(-1 - 2 * _real(rng, h))
    x, y, binary = _binary(rng, b, d), torch.from_numpy(rng.integers(0, c, b)), _binary(rng, h, d, p=0.2)
    assert 0 < float(net(x, binary).active.detach().mean()) < 1
    expected = diffnaps_loss(net, net(x, binary), x, y, density=0.3, **terms)
    expected.total.backward()
    gradients = {name: p.grad.clone() if p.grad is not None else 0 * p.detach() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.ones_like(p)  # must be replaced
    found = diffnaps_gradients(net, x, y, binary, density=0.3, **terms)
    for one, other in zip(found, expected):
        assert float(one) == pytest.approx(float(other.detach()), abs=1e-12)
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], atol=1e-12, rtol=0)


# --- one step of training -------------------------------------------------------------------------------------
def test_steps_of_adam_against_a_slow_copy():
    """Five steps with two sets of moments over one storage, in numpy, one after the other."""
    rng = _rng(0)
    d, h, c, b, lr = 8, 4, 2, 5, 0.01
    net = DiffNapsNet(d, h, c, generator=torch.Generator().manual_seed(3))
    slow = {n: p.detach().double().numpy().copy() for n, p in net.named_parameters() if n != "decoder"}
    moments = {n: [0.0, 0.0] for n in ("weight", "bias", "head", "decoder")}
    optimizers = net.optimizers(lr)
    for step in range(1, 6):
        x, y, binary = _binary(rng, b, d), torch.from_numpy(rng.integers(0, c, b)), _binary(rng, h, d, p=0.5)
        x, binary = x.float(), binary.float()
        net.zero_grad()
        diffnaps_loss(net, net(x, binary), x, y, density=0.4).total.backward()
        grads = {n: p.grad.double().numpy().copy() for n, p in net.named_parameters()}
        for optimizer in optimizers:
            optimizer.step()
        net.clamp_()
        for name in ("weight", "bias", "head", "decoder"):
            first, second = moments[name]
            first, second = 0.9 * first + 0.1 * grads[name], 0.999 * second + 0.001 * grads[name] ** 2
            moments[name] = [first, second]
            target = "weight" if name == "decoder" else name
            root = np.sqrt(second / (1 - 0.999**step)) + 1e-8
            slow[target] = slow[target] - lr * first / (1 - 0.9**step) / root
        slow["weight"], slow["head"] = slow["weight"].clip(1 / d, 1), slow["head"].clip(0, 1)
        slow["bias"] = slow["bias"].clip(None, -1)
    for name, value in slow.items():
        np.testing.assert_allclose(net.get_parameter(name).detach(), value, atol=2e-6)


def test_parameters_stay_in_their_ranges():
    net = DiffNapsNet(10, 6, 2, head_init="bimodal")
    with torch.no_grad():
        net.weight.add_(torch.randn_like(net.weight))
        net.head.mul_(5).sub_(1)
        net.bias.add_(3)
    net.clamp_()
    assert net.floor == pytest.approx(0.1)
    assert float(net.weight.min()) == pytest.approx(0.1)
    assert float(net.weight.max()) <= 1
    assert float(net.head.min()) >= 0
    assert float(net.head.max()) <= 1
    assert net.bias.tolist() == [-1] * 6


@pytest.mark.parametrize("move", [lambda n: n.double(), lambda n: n.to("cpu"), lambda n: n.float()])
def test_moving_the_module_keeps_the_weights_tied(move):
    net = move(DiffNapsNet(10, 6, 2))
    assert net.decoder.data_ptr() == net.weight.data_ptr()
    net.optimizers(0.1)
    with torch.no_grad():
        net.decoder[0, 0] = 0.77
    assert float(net.weight[0, 0].detach()) == pytest.approx(0.77)


def test_samples_follow_the_weights():
    net = DiffNapsNet(50, 40, 2)
    with torch.no_grad():
        net.weight.copy_(torch.linspace(0.02, 1, 50).expand(40, 50))
    generator = torch.Generator().manual_seed(0)
    mean = torch.stack([net.sample(generator=generator) for _ in range(200)]).mean((0, 1))
    assert set(net.sample(generator=generator).unique().tolist()) == {0, 1}
    torch.testing.assert_close(mean, torch.linspace(0.02, 1, 50), atol=0.025, rtol=0)  # 4.5 standard errors
    assert torch.equal(net.threshold(0.5), (net.weight > 0.5).float())


def test_initial_weights_are_the_same_for_a_seed_and_xavier_normal():
    one, two = (DiffNapsNet(200, 100, 2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one.weight, two.weight)
    above = one.weight[one.weight > one.floor]
    assert float(above.square().mean().sqrt()) == pytest.approx(math.sqrt(2 / 300), rel=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DiffNapsNet(0, 3, 2), "n_features"),
        (lambda: DiffNapsNet(4, 3, 2, head_init="zero"), "head_init"),
        (lambda: DiffNapsNet(4, 3, 2, floor=2.0), "floor"),
        (lambda: gated_step(torch.zeros(1, 1), torch.zeros(1), bias_rule="mean"), "bias_rule"),
        (lambda: DiffNapsNet(4, 3, 2)(torch.zeros(2, 5), torch.zeros(3, 4)), "x has shape"),
        (lambda: DiffNapsNet(4, 3, 2)(torch.zeros(2, 4), torch.zeros(4, 3)), "binary has shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_cross_entropy_is_the_plain_one():
    net = DiffNapsNet(6, 4, 3)
    x, y = torch.ones(5, 6), torch.tensor([0, 1, 2, 2, 0])
    output = net(x, torch.ones(4, 6))
    terms = diffnaps_loss(net, output, x, y, density=0.5, lambda_c=2.0)
    assert float(terms.classification) == pytest.approx(2 * float(F.cross_entropy(output.logits, y)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_columns_and_rows_does_not_matter(seed):
    """Permuted items and rows: the same loss, and the same gradient permuted."""
    rng = _rng(seed)
    x, y, binary = _binary(rng, 6, 9), torch.from_numpy(rng.integers(0, 2, 6)), _binary(rng, 5, 9, p=0.5)
    items, rows = torch.from_numpy(rng.permutation(9)), torch.from_numpy(rng.permutation(6))
    results = []
    for permuted in (False, True):
        net = DiffNapsNet(9, 5, 2, generator=torch.Generator().manual_seed(seed)).double()
        if permuted:
            net.weight.data.copy_(net.weight.data[:, items])
        xs, ys, bs = (x[rows][:, items], y[rows], binary[:, items]) if permuted else (x, y, binary)
        loss = diffnaps_loss(net, net(xs, bs), xs, ys, density=0.4).total
        loss.backward()
        results.append((float(loss.detach()), net.weight.grad + net.decoder.grad))
    assert results[0][0] == pytest.approx(results[1][0])
    torch.testing.assert_close(results[0][1][:, items], results[1][1])
