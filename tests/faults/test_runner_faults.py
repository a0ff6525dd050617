"""What goes wrong around `make figures`: a kill, two at once, no place to write, a notebook without end."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.checkout import DRAWS

WAITS = """import pathlib, time
pathlib.Path("started").write_text("")
while not pathlib.Path("go").exists():
    time.sleep(0.1)"""


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def running_in(folder):
    """Processes whose working directory is `folder`: a notebook's papermill and kernel."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found += [int(pid)] if os.readlink(f"/proc/{pid}/cwd") == str(folder) else []
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for left-over kernels in /proc")
def test_a_second_run_waits_and_resumes_when_the_first_is_killed(checkout):
    folder = checkout.add_bare("waits", DRAWS, WAITS)
    first = checkout.start("--all")
    wait_for((folder / "started").exists)
    second = checkout.start("--all")
    assert "another run writes to" in second.stdout.readline()
    visible = {path.name for path in (checkout.figures / "waits").iterdir() if not path.name.startswith(".")}
    assert visible <= {"fig1.png", "fig1.svg", "run.log"}, "something unfinished can be seen"

    (folder / "started").unlink()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    wait_for((folder / "started").exists)  # the lock went with the first; the second runs the notebook anew
    wait_for(lambda: len(running_in(folder)) <= 2)  # and the first one's papermill and kernel have ended
    (folder / "go").write_text("")
    output, _ = second.communicate(timeout=120)

    assert second.returncode == 0, output
    assert checkout.results("waits")["figures"] == {"fig1": "A line."}
    assert {"fig1.png", "fig1.svg"} <= {path.name for path in (checkout.figures / "waits").iterdir()}
    assert not [path.name for path in (checkout.figures / "waits").glob(".*")], "temporary files were left"


@pytest.mark.parametrize(
    ("source", "limits", "why"),
    [
        ("while True:\n    pass", ["--limit", "6"], "stopped at its limit of 6 CPU seconds"),
        ("import time\ntime.sleep(600)", ["--wall", "10"], "stopped after 10 seconds"),
    ],
)
def test_a_notebook_without_end_is_stopped(checkout, source, limits, why):
    folder = checkout.add_bare("endless", "print('so far')", source)
    code, output = checkout.run("endless", *limits, module="shared.compendium.execute")
    assert code == 124
    figures = checkout.figures / "endless"
    assert output == (
        f"endless failed in cell [4]: {why} (log: {figures}/run.log; "
        f"the notebook as far as it came: {figures}/endless.failed.ipynb)\n"
    )
    assert "so far" in (figures / "endless.failed.ipynb").read_text()
    assert (figures / "run.log").read_text().splitlines()[-1] == "failed in cell [4]"
    assert running_in(folder) == []
    assert {path.name for path in figures.iterdir()} == {"run.log", "endless.failed.ipynb"}


def test_the_limit_counts_cpu_time_not_waiting(checkout):
    checkout.add_bare("sleepy", "import time\ntime.sleep(8)")
    code, output = checkout.run("sleepy", "--limit", "7", "--wall", "100", module="shared.compendium.execute")
    assert code == 0, output


def test_a_kernel_that_dies_is_named(checkout):
    checkout.add_bare("dies", "os._exit(9)")
    code, output = checkout.run("dies", module="shared.compendium.execute")
    assert code == 1
    assert output.startswith("dies failed in cell [3]: DeadKernelError: ")
    assert "DeadKernelError" in (checkout.figures / "dies" / "run.log").read_text()


def test_figures_that_can_t_be_written(checkout):
    """As root, permissions don't stop us; a file in the folder's place does, for everybody."""
    checkout.add("tiny")
    checkout.figures.write_text("")
    code, output = checkout.run("--all")
    assert code == 1
    assert output.splitlines() == [
        f"can't write to {checkout.figures} (File exists); REPRISE_FIGURES can name another folder"
    ]


def test_read_only_figures(checkout):
    """A folder whose permissions bind us; as root, whom they don't, a read-only mount in a namespace of its own."""
    checkout.add("tiny")
    checkout.figures.mkdir(0o500)
    run = [sys.executable, "-m", "shared.compendium.runner", "--all"]
    if os.geteuid() == 0:
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(checkout.figures)]
        if not shutil.which("unshare") or subprocess.run(["unshare", "-m", *mount], capture_output=True).returncode:
            pytest.skip("root isn't bound by permissions, and mounting isn't allowed here")
        run = ["unshare", "-m", "sh", "-c", f"{shlex.join(mount)} && exec {shlex.join(run)}"]
    done = subprocess.run(run, cwd=checkout.root, env=checkout.env, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(rf"can't write to {checkout.figures} \(.*\); REPRISE_FIGURES can name .*\n", done.stderr)
