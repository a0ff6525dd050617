"""Arguments of `shared.nets`' functions."""

import torch

from tests.bad_input.good import Calls, rand

GOOD: Calls = {"target_logit": lambda: {"logits": rand(3, 4), "target": torch.tensor([0, 3, 1])}}
ELSEWHERE = {"logits_of": "a forward pass, also of training loops; the model checks what it is given"}
