"""The `Paper` object a notebook talks to: parameters, seeds, device, figures, claims, results."""

from shared.compendium.card import Card, CardError, ClaimCard, known_papers, load_card, parse_card
from shared.compendium.claims import Check, ClaimError, Measurement
from shared.compendium.paper import SCALES, Paper
from shared.compendium.runinfo import resolve_device, seed_everything

__all__ = [
    "SCALES",
    "Card",
    "CardError",
    "Check",
    "ClaimCard",
    "ClaimError",
    "Measurement",
    "Paper",
    "known_papers",
    "load_card",
    "parse_card",
    "resolve_device",
    "seed_everything",
]
