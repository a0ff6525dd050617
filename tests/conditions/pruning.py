"""Conditions of `shared.pruning`'s functions."""

WITHOUT = {
    **dict.fromkeys(("find_units", "unit_count"), "look at modules only"),
    **dict.fromkeys(("magnitude_scores", "random_scores"), "look at weights only"),
}
