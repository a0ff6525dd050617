"""Arguments of `shared.generative`'s functions."""

from functools import cache

from shared.generative import Sampler
from tests.bad_input.good import Calls
from tests.generative.tiny import tiny_pipeline


class Brighter:
    """Whether an image is brighter than middling."""

    def ask(self, images, question):
        return images.mean((1, 2, 3)) > 0.5


@cache
def sampler() -> Sampler:
    return Sampler(tiny_pipeline(), steps=2, guidance=1.0)


GOOD: Calls = {
    "cis_curve": lambda: {
        "sampler": sampler(),
        "base": "a circle",
        "concept": "a red circle",
        "judge": Brighter(),
        "question": None,
        "noise": sampler().noise([0, 1]),
    },
}
