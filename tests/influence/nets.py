"""Small trained networks and their data."""

from __future__ import annotations

import torch
from torch import nn

from shared.influence import TrainedClassifier


def features(n, d=6, k=3, seed=0):
    """Positive features as behind a ReLU, float64, and labels of k overlapping classes."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % k
    centres = 1.5 * torch.randn(k, d, generator=rng, dtype=torch.float64)
    return (centres[y] + torch.randn(n, d, generator=rng, dtype=torch.float64)).relu(), y


def linear_net(F, y, l2=1e-2, bias=True):
    """A softmax head on F, trained to the minimum of mean cross-entropy + l2/2 |θ|²."""
    head = nn.Linear(F.shape[1], int(y.max()) + 1, bias=bias, dtype=F.dtype)
    with torch.no_grad():
        for p in head.parameters():
            p.zero_()
    fit_head(head, F, y, torch.ones(len(F), dtype=F.dtype), l2)
    return TrainedClassifier(head.eval(), F, y)


def fit_head(head, F, y, weights, l2):
    """Minimise (1/N) Σ w_i CE_i + l2/2 |θ|² from where it is, by Newton steps with the Hessian from autograd."""
    names, shapes = zip(*[(name, p.shape) for name, p in head.named_parameters()])
    sizes = [shape.numel() for shape in shapes]

    def loss(theta):
        parts = {n: t.view(s) for n, t, s in zip(names, theta.split(sizes), shapes)}
        each = nn.functional.cross_entropy(torch.func.functional_call(head, parts, (F,)), y, reduction="none")
        return (weights * each).sum() / len(F) + l2 / 2 * theta.square().sum()

    theta = torch.cat([p.detach().flatten() for p in head.parameters()])
    for _ in range(50):
        gradient, hessian = torch.func.grad(loss)(theta), torch.func.hessian(loss)(theta)
        step = torch.linalg.solve(hessian, gradient)
        size = 1.0
        while loss(theta - size * step) > loss(theta) and size > 1e-6:
            size /= 2
        theta = theta - size * step
        if float(gradient.abs().max()) < 1e-12:
            break
    head.load_state_dict({n: t.view(s) for n, t, s in zip(names, theta.split(sizes), shapes)})


class ConvNet(nn.Module):
    def __init__(self, bias=True, head_bias=True):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=bias),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=bias),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(6, 3, bias=head_bias)

    def forward(self, x):
        return self.head(self.body(x))


def conv_net(n=40, bias=True, seed=0, head_bias=True):
    """A ConvNet in float64 on 8×8 images whose class is the place of a bright row, trained a little."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = 0.3 * torch.rand(n, 1, 8, 8, generator=rng, dtype=torch.float64)
    x[torch.arange(n), 0, 2 * y + 1] += 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ConvNet(bias, head_bias).double()
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return TrainedClassifier(model.eval(), x, y, head="head")
