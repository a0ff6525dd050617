"""How many products a rule takes: what `make bench` prints as the bound of its ratio to a plain pass."""

import pytest
import torch
from torch import nn

from shared.lrp import AlphaBeta, AnyLinear, Composite, Epsilon, Gamma, ZPlus, attribute
from tests.benchmarks.arithmetic import arithmetic, bound_of


def plain(model, x):
    leaf = x.clone().requires_grad_()
    torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)


@pytest.mark.parametrize("layer", [nn.Linear(24, 12), nn.Conv1d(4, 3, 3)], ids=["dense", "convolution"])
@pytest.mark.parametrize(
    ("rule", "products"),
    [(Epsilon(), 1.0), (ZPlus(), 1.5), (Gamma(), 2.0), (AlphaBeta(), 2.0)],
    ids=lambda v: type(v).__name__,
)
def test_a_rule_takes_the_products_of_its_equation(layer, rule, products):
    """Behind a ReLU: z and each part forward, one product back for each part, against one each way."""
    x = torch.rand(2, 4, 8, generator=torch.Generator().manual_seed(0))
    x = x.flatten(1)[:, :24] if isinstance(layer, nn.Linear) else x
    model = nn.Sequential(layer, nn.Flatten()).eval().requires_grad_(False)
    composite = Composite([(AnyLinear, rule)])
    own = arithmetic(lambda: attribute(model, x, 1, composite=composite)).products
    least = arithmetic(lambda: plain(model, x)).products
    assert own / least == pytest.approx(products)


def test_elementwise_passes_are_counted_by_what_they_write():
    x = torch.rand(5, 7)
    assert arithmetic(lambda: x.relu() + 1) == (0, 70)
    assert arithmetic(lambda: x.view(7, 5).T) == (0, 0)
    assert arithmetic(lambda: x @ x.T) == (2 * 5 * 7 * 5, 0)
    assert bound_of(lambda: (x @ x.T, x @ x.T), lambda: x @ x.T)[0] == 2
