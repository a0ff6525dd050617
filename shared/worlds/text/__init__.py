"""Texts with known grammar and known edits."""
