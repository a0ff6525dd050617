"""The `Paper` object a notebook talks to: parameters, seeds, device, figures, claims, results.

In a notebook: `paper = Paper("attnlrp", globals())`, then `paper.figure`, `paper.claim`, `paper.report`. Elsewhere:

>>> from shared.compendium import Check, load_card
>>> card = load_card("attnlrp")
>>> card.theme
'LRP & attribution'
>>> Check.parse("in [0.9, 1.1]")(1.0)
True
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.compendium.card import Card, CardError, ClaimCard, GateCard, load_card, parse_card
    from shared.compendium.claims import Check, ClaimError, Gate, Measurement
    from shared.compendium.paper import Paper
    from shared.compendium.paths import SCALES, known_papers
    from shared.compendium.runinfo import resolve_device, seed_everything
    from shared.compendium.timing import timed

# jsonschema, which cards and notebooks need, imports it for a format that neither has: two seconds of CPU to build
# a grammar in every process. It does without.
sys.modules.setdefault("rfc3987_syntax", None)

# Imported when first asked for: the tools behind `make` share this package and shouldn't wait for torch.
_MODULES = {
    "card": ("Card", "CardError", "ClaimCard", "GateCard", "load_card", "parse_card"),
    "claims": ("Check", "ClaimError", "Gate", "Measurement"),
    "paper": ("Paper",),
    "paths": ("SCALES", "known_papers"),
    "runinfo": ("resolve_device", "seed_everything"),
    "timing": ("timed",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


__all__ = [
    "SCALES",
    "Card",
    "CardError",
    "Check",
    "ClaimCard",
    "ClaimError",
    "Gate",
    "GateCard",
    "Measurement",
    "Paper",
    "known_papers",
    "load_card",
    "parse_card",
    "resolve_device",
    "seed_everything",
    "timed",
]
