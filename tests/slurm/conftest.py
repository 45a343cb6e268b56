"""A private SLURM cluster on this machine, and a copy of the repository to run the workflow in."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

# The copy of the repository is made as for the tests of the workflow.
_spec = importlib.util.spec_from_file_location("checkouts", Path(__file__).parents[1] / "workflow" / "conftest.py")
_checkouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkouts)
checkout = _checkouts.checkout

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue")


@pytest.fixture(scope="session")
def skip_without():
    """Skips where a program is missing."""

    def skip(*programs: str) -> None:
        path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
        missing = [program for program in programs if shutil.which(program, path=path) is None]
        if missing:
            pytest.skip(f"{missing[0]} is not installed: `sudo tests/slurm/install.sh` (Debian or Ubuntu) installs it")

    return skip


@pytest.fixture(scope="session", autouse=True)
def slurm(skip_without):
    """SLURM is there, or everything here is skipped."""
    skip_without(*PROGRAMS)


@pytest.fixture(scope="session")
def cluster_home():
    """The folder of a cluster, by a short path: sockets have no long ones. What still lives there is stopped."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        yield Path(folder)
        control = Path(__file__).parent / "cluster.sh"
        subprocess.run([control, "down"], env={**os.environ, "TMPDIR": folder}, check=True)


@pytest.fixture(scope="session")
def shell(checkout, cluster_home):
    """Runs lines of bash in the checkout, as a user would type them; a failing one ends it, and nothing outlives it."""

    def run(lines: str) -> str:
        with start(checkout, cluster_home, lines, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            output, errors = process.communicate()
        assert process.returncode == 0, f"{lines}\n{output[-20000:]}\n{errors[-20000:]}"
        return output

    return run


@contextmanager
def start(checkout, cluster_home: Path, lines: str, **streams) -> Iterator[subprocess.Popen]:
    """Lines of bash at work in the checkout; what is left of them at the end is killed."""
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", lines],
        cwd=checkout.folder,
        env={**checkout.environment(), "TMPDIR": str(cluster_home)},
        text=True,
        start_new_session=True,
        **streams,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def background(checkout, cluster_home):
    """Lines of bash that run beside a test, in a block of its own; their output goes to a file."""

    @contextmanager
    def run(lines: str, output: Path) -> Iterator[subprocess.Popen]:
        with (
            open(output, "w", encoding="utf-8") as stream,
            start(checkout, cluster_home, lines, stdout=stream, stderr=stream) as process,
        ):
            yield process

    return run
