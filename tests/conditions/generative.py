"""Conditions of `shared.generative`'s functions."""

KNOWN = {("cis_curve", "*"): "ten seconds of sampling each; tests/generative"}
