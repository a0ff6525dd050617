"""Conditions of `shared.nets`' functions."""

from tests.bad_input.good import rand
from tests.conditions.kinds import whole

MODELS = {"logits_of": lambda: {"model": whole(), "x": rand(2, 3, 4, 4)}}
KNOWN = {("logits_of", "train"): "a forward pass, also of training"}
