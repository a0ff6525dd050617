"""Sampling from text-to-image diffusion with interventions, judges of what a sample shows, insertion curves (PCI)."""

from shared.generative._curve import CISResult, cis_curve, lock_in
from shared.generative._judges import ClipJudge, FactorJudge, ImageJudge, VQAJudge
from shared.generative._sampler import SCHEDULERS, Sampler, State, Trajectory

__all__ = [
    "SCHEDULERS",
    "CISResult",
    "ClipJudge",
    "FactorJudge",
    "ImageJudge",
    "Sampler",
    "State",
    "Trajectory",
    "VQAJudge",
    "cis_curve",
    "lock_in",
]
