"""Arguments of `shared.lrp`'s functions."""

from tests.bad_input.good import Calls, net, rand

GOOD: Calls = {
    "attribute": lambda: {"model": net(), "x": rand(2, 3, 2, 2), "target": 1},
}
ELSEWHERE = {  # take what a model or another call makes; their rooms' tests spoil it
    "answer": "token ids; tests/lrp/test_batches.py",
    "contrast": "class indices; tests/lrp/test_errors.py",
    "stabilize": "z + epsilon sgn(z), elementwise: whatever comes in",
    "weight_relevance": "batches, each through attribute; tests/lrp/test_latent.py",
    "zero_mean": "class indices; tests/lrp/test_errors.py",
}
ANY_RANK = {("attribute", "x")}  # the model decides
