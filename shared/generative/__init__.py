"""Sampling from text-to-image diffusion with interventions, judges of what a sample shows, insertion curves (PCI).

`cis_curve(Sampler(pipeline), "a circle", "a red circle", judge, …)` gives such a result; here one made by hand:

>>> import numpy as np
>>> success = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], bool)  # of two seeds, by steps done before the switch
>>> found = CISResult("a circle", "a red circle", 4, np.arange(5), success, np.full(5, np.nan))
>>> found.mean().tolist(), found.crossing(), found.latest(level=0.9)
([1.0, 1.0, 0.5, 0.0, 0.0], 0.5, 1)
"""

from shared.generative._curve import CISResult, cis_curve, lock_in
from shared.generative._judges import ClipJudge, FactorJudge, ImageJudge, VQAJudge
from shared.generative._sampler import Sampler, State, Trajectory
from shared.generative._schedulers import SCHEDULERS

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
