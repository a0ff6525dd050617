"""Arguments of `shared.plots`' functions."""

import numpy as np

from tests.bad_input.good import Calls, axes, rand

GOOD: Calls = {
    "band": lambda: {"ax": axes(), "x": [1, 2, 3], "low": np.zeros(3), "high": np.ones(3)},
    "curve": lambda: {"ax": axes(), "x": [1, 2, 3], "runs": rand(2, 3).numpy(), "label": "a"},
    "heatmap": lambda: {"ax": axes(), "relevance": rand(4, 4)},
    "overlay": lambda: {"ax": axes(), "image": rand(3, 4, 4), "relevance": rand(4, 4)},
    "token_heatmap_html": lambda: {"tokens": ["a", "b"], "relevance": rand(2)},
    "token_heatmap": lambda: {"ax": axes(), "tokens": ["a", "b"], "relevance": rand(2)},
}
ELSEWHERE = {"save_token_heatmap": "writes what token_heatmap_html gives; tests/plots"}
