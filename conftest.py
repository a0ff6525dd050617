"""For tests and notebooks alike: results go to a temporary folder, never to figures/."""

import os
import shutil
import tempfile

_FIGURES = tempfile.mkdtemp(prefix="reprise-figures-")
os.environ["REPRISE_FIGURES"] = _FIGURES
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")
for library in ("OMP", "NUMBA"):  # two workers on two cores: threads beyond one spin and slow each other down
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def pytest_configure():
    """nbval compares reports of claims by `same_table`: numbers depend on the processor, within their intervals."""
    from nbval.plugin import IPyNbCell

    from shared.compendium.report import same_table

    exact = IPyNbCell.compare_outputs

    def compare_outputs(self, test, ref, skip_compare=None):
        tables = all([o.get("name") for o in outputs] == ["stdout"] for outputs in (test, ref))
        return (tables and same_table(test[0]["text"], ref[0]["text"])) or exact(self, test, ref, skip_compare)

    IPyNbCell.compare_outputs = compare_outputs


def pytest_unconfigure():
    shutil.rmtree(_FIGURES, ignore_errors=True)


def pytest_xdist_make_scheduler(config, log):
    """With `-n`, a file's tests and a notebook's cells stay on one worker; dry runs are spread one by one."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid if "test_dry_run" in nodeid else super()._split_scope(nodeid)

    return Scheduling(config, log)
