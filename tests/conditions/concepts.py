"""Conditions of `shared.concepts`' functions."""

SCALES = {
    "probe_contributions": {"pooled": 1, "weight": 1},
}
