"""Dictionaries on disk: SAELens's directories both ways, other projects' files in."""
