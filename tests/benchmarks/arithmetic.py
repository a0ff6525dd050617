"""What a computation consists of: products (multiplications in matrix products and convolutions) and activations.

On a CPU with one thread the products of a large layer decide its time, and each elementwise pass adds reading and
writing one activation. So the ratio of products to those of a plain pass bounds a rule's ratio of times from below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

VIEWS = ("view", "reshape", "expand", "transpose", "permute", "t", "detach", "alias", "slice", "select", "unsqueeze")


class Arithmetic(NamedTuple):
    """Counts of a computation.

    Attributes
    ----------
    products : multiplications and additions of matrix products and convolutions.
    activations : numbers written by everything else but views.
    """

    products: int
    activations: int


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.products = self.activations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in flop_registry:
            self.products += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        elif packet.__name__ not in VIEWS:
            self.activations += sum(t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor))
        return out


def arithmetic(job: Callable[[], Any]) -> Arithmetic:
    """Counts of one run of a job, forward and backward."""
    with _Counting() as counted:
        job()
    return Arithmetic(counted.products, counted.activations)


def bound_of(job: Callable[[], Any], plain: Callable[[], Any]) -> tuple[float, str]:
    """How many times the plain job's products a job has, and a note of that and of its activations."""
    ours, theirs = arithmetic(job), arithmetic(plain)
    products, activations = (a / max(b, 1) for a, b in zip(ours, theirs))
    return products, f"bound {products:.2f} (products); activations written × {activations:.2f}"
