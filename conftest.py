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
