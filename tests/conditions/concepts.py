"""Conditions of `shared.concepts`' functions."""

SCALES = {
    "probe_contributions": {"pooled": 1, "weight": 1},
}
WITHOUT = {
    **dict.fromkeys(("hierarchy", "parents_by_chance"), "of relations, whole counts; tests/concepts/test_hierarchy.py"),
    "name_concepts": "a vocabulary; tests/concepts/test_naming.py",
}
