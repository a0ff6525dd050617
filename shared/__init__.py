"""Thin torch building blocks of the Reprise compendium, one sub-package ("room") per theme.

Import the room you need, e.g. ``from shared.lrp import attribute, AttnLRP``; nothing is imported here, so
that a notebook pays only for the rooms it uses.
"""

__version__ = "0.1.0"
