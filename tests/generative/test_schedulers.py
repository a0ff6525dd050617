"""Schedulers of diffusers, all of them: each is used rightly or refused by name."""

import diffusers
import pytest

from shared.generative import Sampler
from shared.generative._schedulers import as_scheduler, check_scheduler, is_flow
from tests.generative.tiny_xl import tiny_flux, tiny_sd3

LEVELS = {"plain": {}, "FLUX": {"mu": 0.5, "evenly": True}}


def known() -> list[str]:
    """Those that need no further package and no sizes of their own."""
    names = sorted(n for n in dir(diffusers) if n.endswith("Scheduler") and not n.startswith(("_", "Flax")))
    return [name for name in names if name.removesuffix("Scheduler") not in NOT_MADE]


NOT_MADE = {"Amused", "CosineDPMSolverMultistep", "DPMSolverSDE", "RFD4Proteina", "VQDiffusion"}


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
@pytest.mark.parametrize("name", known())
def test_every_scheduler_is_taken_or_refused_by_name(name):
    made = getattr(diffusers, name)()
    for levels in LEVELS.values() if is_flow(made) else [{}]:
        said = "scheduler "
        try:
            taken = check_scheduler(as_scheduler(made, made), 6, **levels)
        except (ValueError, TypeError) as error:
            taken, said = None, str(error)
        assert said.startswith("scheduler ")
        assert taken is None or len(taken.timesteps) == 6


@pytest.mark.parametrize(("pipeline", "says"), [(tiny_flux, "takes no .*sigmas"), (tiny_sd3, "times in 6 steps")])
def test_heun_s_flow_is_refused_by_both_families(pipeline, says):
    with pytest.raises(ValueError, match=f"scheduler FlowMatchHeunDiscreteScheduler .*{says}"):
        Sampler(pipeline(), steps=6, scheduler=diffusers.FlowMatchHeunDiscreteScheduler())
