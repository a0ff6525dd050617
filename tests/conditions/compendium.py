"""Conditions of `shared.compendium`: none of its functions computes with arrays."""

WITHOUT = dict.fromkeys(
    (
        "known_papers",
        "load_card",
        "parse_card",
        "resolve_device",
        "seed_everything",
        "timed",
    ),
    "the runner's own; tests/compendium",
)
