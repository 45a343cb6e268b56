"""How test runs end, under this repository's own settings of pytest: who fails or hangs is named, the others run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

#: The loop is interrupted at its backward jump, which has no line number (Python 3.11 to 3.14).
ENDLESS = """
import itertools
import pytest

def test_before():
    pass

@pytest.mark.timeout(1)
def test_endless():
    for number in itertools.repeat(0):
        if number:
            number += 1

def test_after():
    pass
"""

#: As native code that does not return: no signal reaches Python.
DEAF = """
import signal
import time
import pytest

@pytest.mark.timeout(1)
def test_deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(600)
"""

WRONG = """
def test_wrong():
    assert 1 == 2
"""


@pytest.fixture
def run_pytest(tmp_path):
    """Run pytest on a folder of test files by this repository's settings; returns what it prints. ``code`` is kept."""
    shutil.copy(REPOSITORY / "tests/conftest.py", tmp_path)

    def run(*options: str, **files: str) -> str:
        for name, text in files.items():
            (tmp_path / f"test_{name}.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "-c", REPOSITORY / "pyproject.toml", "--rootdir", tmp_path]
        command += ["-o", "faulthandler_timeout=6", *options, tmp_path]
        result = subprocess.run(command, capture_output=True, text=True)
        run.code = result.returncode
        return result.stdout + result.stderr

    return run


def test_a_hanging_test_is_named_and_the_others_run(run_pytest):
    output = run_pytest("-p", "no:xdist", endless=ENDLESS, wrong=WRONG)
    assert "INTERNALERROR" not in output
    assert re.findall(r"^FAILED \S+::(\w+)", output, re.MULTILINE) == ["test_endless", "test_wrong"]
    assert "Timeout (>1.0s)" in output
    assert "in test_endless" in output
    assert "2 failed, 2 passed" in output


def test_workers_name_them_too_and_one_that_dies_is_replaced(run_pytest):
    distribution = re.search(r"^PARALLEL *= -n 2 (--dist \w+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    output = run_pytest("-n", "1", *distribution[1].split(), deaf=DEAF, endless=ENDLESS, wrong=WRONG)
    assert "INTERNALERROR" not in output
    assert set(re.findall(r"^FAILED \S+::(\w+)", output, re.MULTILINE)) == {"test_deaf", "test_endless", "test_wrong"}
    assert "crashed while running" in output
    assert "3 failed, 2 passed" in output


def test_a_process_that_hangs_in_native_code_ends_with_its_stack(run_pytest):
    output = run_pytest("-p", "no:xdist", deaf=DEAF)
    assert "test_deaf.py" in output
    assert "in test_deaf" in output


SKIPPED = """
import pytest

@pytest.mark.skip(reason="slurmctld is not installed: `install.sh` installs it")
def test_cluster():
    pass
"""


@pytest.mark.parametrize("options", [["-p", "no:xdist"], ["-n", "1"]], ids=["one process", "workers"])
def test_what_is_not_installed_is_an_error_in_tests_asked_for_by_name(run_pytest, options):
    """As `make slurm-test` without SLURM: an error at the end, with the command that installs it."""
    output = run_pytest(*options, "--needed", cluster=SKIPPED, other="def test_other(): pass")
    error = r"^error: .*: slurmctld is not installed: `install.sh` installs it\n.* 1 passed, 1 skipped"
    assert re.search(error, output, re.MULTILINE)
    assert run_pytest.code == 1


def test_a_target_that_runs_nothing_is_no_success(run_pytest):
    other = SKIPPED.replace("slurmctld is not installed", "the registry does not answer")
    assert re.search("^error: .*the registry does not answer", run_pytest("--needed", cluster=other), re.MULTILINE)
    assert run_pytest.code == 1
    run_pytest("--needed", cluster=other, other="def test_other(): pass")
    assert run_pytest.code == 0
