"""Arguments of `shared.lrp`'s functions."""

from tests.bad_input.good import Calls, net, rand

GOOD: Calls = {
    "attribute": lambda: {"model": net(), "x": rand(2, 3, 2, 2), "target": 1},
    "channel_relevance": lambda: {"relevance": rand(2, 3, 2, 2)},
    "crop_to_relevance": lambda: {"images": rand(2, 3, 4, 4), "heatmaps": rand(2, 4, 4)},
    "reference_banks": lambda: {"model": net(), "layers": "1", "x": rand(2, 3, 2, 2), "target": 1, "k": 1},
}
ELSEWHERE = {  # take what a model or another call makes; their rooms' tests spoil it
    "answer": "token ids; tests/lrp/test_batches.py",
    "contrast": "class indices; tests/lrp/test_errors.py",
    "stabilize": "z + epsilon sgn(z), elementwise: whatever comes in",
    "weight_relevance": "batches, each through attribute; tests/lrp/test_latent.py",
    "zero_mean": "class indices; tests/lrp/test_errors.py",
}
ANY_RANK = {("attribute", "x"), ("channel_relevance", "relevance"), ("reference_banks", "x")}  # the model decides
