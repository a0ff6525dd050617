"""Conditions of `shared.patterns`' functions."""

SCALES = {"nearest_items": {"vectors": 0}}
