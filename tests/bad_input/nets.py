"""Arguments of `shared.nets`' functions."""

import torch

from tests.bad_input.good import Calls, rand

GOOD: Calls = {
    "solve_step": lambda: {"field": lambda x: -x, "x": rand(2, 3), "dt": torch.full((2, 1), 0.5)},
    "target_logit": lambda: {"logits": rand(3, 4), "target": torch.tensor([0, 3, 1])},
}
ANY_RANK = {("solve_step", "x"), ("solve_step", "dt")}
ELSEWHERE = {"logits_of": "a forward pass, also of training loops; the model checks what it is given"}
