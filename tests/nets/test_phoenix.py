"""The neural ODE of gene regulation: its equation, its copies, its effects and its solver."""

import pytest
import torch
from torch import nn

from shared.nets import Phoenix, solve_step


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_equation_written_out():
    net = Phoenix(5, 3, generator=generator()).double()
    x = torch.rand(4, 5, generator=generator(1)).double()
    s = (x - 0.5) / (1 + (x - 0.5).abs())
    sums = nn.functional.linear(nn.functional.linear(s, net.sums, net.sums_bias), net.out_sums)
    products = torch.exp(nn.functional.linear(torch.log(1 + s), net.products, net.products_bias))
    want = torch.relu(net.rate) * (sums + nn.functional.linear(products, net.out_products) - x)
    torch.testing.assert_close(net(x), want)


def test_a_product_branch_multiplies():
    net = Phoenix(2, 1, generator=generator())
    with torch.no_grad():
        for name, value in (("sums", 0.0), ("products", 1.0), ("out_sums", 0.0), ("out_products", 1.0)):
            getattr(net, name).fill_(value)
        net.sums_bias.zero_()
        net.products_bias.zero_()
    x = torch.tensor([[0.5, 0.9], [0.1, 0.9]])
    s = (x - 0.5) / (1 + (x - 0.5).abs())
    torch.testing.assert_close(net.drive(x), (1 + s).prod(1, keepdim=True).expand(2, 2))


def test_copies_are_independent_networks():
    many = Phoenix(6, 4, copies=(3,), generator=generator())
    x = torch.rand(3, 5, 6, generator=generator(1))
    for i in range(3):
        one = Phoenix(6, 4)
        one.load_state_dict({name: value[i] for name, value in many.state_dict().items()})
        torch.testing.assert_close(one(x[i]), many(x)[i])
        torch.testing.assert_close(one.effects(), many.effects()[i])


def test_it_starts_as_the_authors():
    net = Phoenix(50, 40, generator=generator())
    assert ((net.sums != 0).sum(0) == 2).all()  # 95 % of 40 are zero
    torch.testing.assert_close(net.out_sums.mT @ net.out_sums, torch.eye(40), atol=1e-5, rtol=0)
    assert (net.rate >= 0).all()


def test_effects_run_from_regulator_to_target_along_paths_only():
    net = Phoenix(3, 2, generator=generator())
    with torch.no_grad():
        for name in Phoenix.WEIGHTS:
            getattr(net, name).zero_()
        net.sums[0, 0] = 2.0  # gene 0 feeds neuron 0, which drives gene 1
        net.out_sums[1, 0] = 3.0
        net.rate.fill_(0.5)
    assert net.effects().nonzero().tolist() == [[0, 1]]
    assert net.effects()[0, 1] == 3.0


def test_the_fixed_step_agrees_with_the_adaptive_solver_of_torchdiffeq():
    net = Phoenix(20, 10, generator=generator()).double()
    x = torch.rand(7, 20, generator=generator(1)).double()
    with torch.no_grad():
        adaptive = solve_step(net, x, 1.0, solver="dopri5")
        assert (solve_step(net, x, 1.0, substeps=4) - adaptive).abs().max() < 1e-4
        assert (solve_step(net, x, 1.0, substeps=32) - adaptive).abs().max() < 5e-6


def test_rk4_is_of_fourth_order_and_takes_intervals_per_row():
    x, dt = torch.ones(2, 1).double(), torch.tensor([[1.0], [2.0]]).double()
    errors = [(solve_step(lambda y: -y, x, dt, substeps=n) - torch.exp(-dt)).abs() for n in (8, 16)]
    assert (errors[0] / errors[1] > 14).all()
    torch.testing.assert_close(solve_step(lambda y: -y, x, dt, solver="dopri5"), torch.exp(-dt), atol=1e-6, rtol=0)


def test_bad_sizes_and_solvers():
    with pytest.raises(ValueError, match="n_hidden"):
        Phoenix(3, 0)
    with pytest.raises(ValueError, match="solver"):
        solve_step(lambda x: x, torch.ones(1, 1), 1.0, solver="euler")
