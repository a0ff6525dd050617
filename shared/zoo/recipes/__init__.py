"""How what the repository ships was made: `python -m shared.zoo make [names…]`, deterministic, on one core."""

from collections.abc import Callable

from shared.zoo.recipes._fashion_subset import make_fashion_subset

RECIPES: dict[str, Callable[[], None]] = {
    "fashion-mnist": make_fashion_subset,
}
