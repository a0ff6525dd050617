"""Arguments of `shared.nets`' functions."""

import torch

from shared.nets import SmallBcos
from tests.bad_input.good import Calls, rand


def bcos() -> SmallBcos:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmallBcos(2, 3, widths=(4, 4), strides=(1, 1)).eval()


GOOD: Calls = {
    "linear_map": lambda: {"model": bcos(), "x": rand(2, 4, 5, 5), "target": torch.tensor([0, 2])},
    "solve_step": lambda: {"field": lambda x: -x, "x": rand(2, 3), "dt": torch.full((2, 1), 0.5)},
    "target_logit": lambda: {"logits": rand(3, 4), "target": torch.tensor([0, 3, 1])},
}
ANY_RANK = {("linear_map", "x"), ("solve_step", "x"), ("solve_step", "dt")}
ELSEWHERE = {
    "explanation_mode": "no tensors; tests/nets/test_bcos.py",
    "logits_of": "a forward pass, also of training loops; the model checks what it is given",
}
