"""For tests and notebooks alike: results go to a temporary folder, never to figures/."""

import os
import shutil
import tempfile

_FIGURES = tempfile.mkdtemp(prefix="reprise-figures-")
os.environ["REPRISE_FIGURES"] = _FIGURES
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")


def pytest_unconfigure():
    shutil.rmtree(_FIGURES, ignore_errors=True)


def pytest_xdist_make_scheduler(config, log):
    """With `-n`, a file's tests and a notebook's cells stay on one worker; dry runs are spread one by one."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid if "test_dry_run" in nodeid else super()._split_scope(nodeid)

    return Scheduling(config, log)
