"""For tests and notebooks alike: results of tests go to a temporary folder, only a paper's official run to figures/."""

import os
import shutil
import tempfile

from tests.timing import CLOCK

_FIGURES = tempfile.mkdtemp(prefix="reprise-figures-")
os.environ["REPRISE_FIGURES"] = _FIGURES
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")
for library in ("OMP", "NUMBA"):  # two workers on two cores: threads beyond one spin and slow each other down
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def pytest_configure():
    """nbval executes a paper's notebook once, as its official run, and compares reports by their intervals."""
    from tests.notebooks import install

    install()


def pytest_collection_modifyitems(config, items):
    """Keep the shard that REPRISE_SHARD names."""
    from shared.compendium import known_papers
    from tests.shards import in_shard

    kept = [item for item in items if in_shard(item.nodeid, os.environ.get("REPRISE_SHARD", ""), known_papers())]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept


def pytest_runtest_logreport(report):
    """Keep the time of every phase of every test; with `-n` the controller hears of all."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        CLOCK.add(report.nodeid, report.duration)


def pytest_terminal_summary(terminalreporter, config):
    """End with where the time went."""
    for line in CLOCK.lines(workers=getattr(config.option, "numprocesses", None) or 1):
        terminalreporter.write_line(line)


def pytest_unconfigure():
    shutil.rmtree(_FIGURES, ignore_errors=True)


def pytest_xdist_make_scheduler(config, log):
    """With `-n`, a file's tests and a notebook's cells stay on one worker; dry runs are spread one by one."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid if "test_dry_run" in nodeid else super()._split_scope(nodeid)

    return Scheduling(config, log)
