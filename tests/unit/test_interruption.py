"""What a killed Snakemake leaves behind: jobs that end with it, and a lock that is removed only if nobody holds it."""

import errno
import os
import subprocess
import sys

import pytest
from safetensors import SafetensorError

from frugal.errors import run_script
from frugal.interruption import EXIT_ORPHANED, SNAKEMAKE_PID, hold_working_directory

JOB = "import time; from frugal.errors import run_script; run_script(lambda: {})"
HOLDER = "import sys; from pathlib import Path; from frugal.interruption import hold_working_directory as hold\n"
HOLDER += "held = hold(Path(sys.argv[1])); print('holds', flush=True); sys.stdin.read()"


def start(code, *arguments, **environment):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only on Linux can a process wait for one that is no child")
def test_a_job_ends_with_its_snakemake():
    snakemake = start("import sys; sys.stdin.read()")
    job = start(JOB.format("(print('runs', flush=True), time.sleep(60))"), **{SNAKEMAKE_PID: str(snakemake.pid)})
    assert job.stdout.readline() == "runs\n"
    snakemake.kill()
    _, said = job.communicate(timeout=30)
    assert job.returncode == EXIT_ORPHANED
    assert said == "error: Snakemake was killed, and this job ends with it\n"
    snakemake.communicate()
    late = start(JOB.format("print('runs')"), **{SNAKEMAKE_PID: str(snakemake.pid)})
    assert late.communicate(timeout=30)[0] == ""
    assert late.returncode == EXIT_ORPHANED


def test_a_job_that_was_started_by_hand_goes_on_alone():
    job = start(JOB.format("print('runs')"), **{SNAKEMAKE_PID: ""})
    assert job.communicate(timeout=30)[0] == "runs\n"
    assert job.returncode == 0


@pytest.fixture
def folder(tmp_path):
    """Snakemake's folder, with the lock of one that runs here, or ran."""
    hold_working_directory(tmp_path).close()
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/0.output.lock").write_text("results/a\n")
    return tmp_path


def test_the_lock_of_a_killed_snakemake_is_removed(folder, capsys):
    hold_working_directory(folder).close()
    assert not (folder / "locks").exists()
    assert "lock of a Snakemake that was killed here is removed" in capsys.readouterr().err


def test_the_lock_of_a_living_snakemake_stays(folder):
    other = start(HOLDER, str(folder))
    try:
        assert other.stdout.readline() == "holds\n"
        (folder / "locks").mkdir(exist_ok=True)
        (folder / "locks/0.output.lock").write_text("results/a\n")
        hold_working_directory(folder).close()
        assert (folder / "locks/0.output.lock").exists()
    finally:
        other.kill()
        other.communicate()
    hold_working_directory(folder).close()
    assert not (folder / "locks").exists()


def test_the_lock_of_another_machine_stays(folder):
    (folder / "machine").write_text("another")
    hold_working_directory(folder).close()
    assert (folder / "locks/0.output.lock").exists()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert hold_working_directory(tmp_path / "file") is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.json"), "a.json: No space left on device: make room, and"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "a file: No space left on device: make"),
        (OSError(errno.EROFS, "Read-only file system", "a.json"), "a.json: Read-only file system: make it writable"),
    ],
)
def test_a_disk_that_refuses_is_no_traceback(error, message, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        run_script(main)
    assert caught.value.code == 1
    assert f"error: {message}" in capsys.readouterr().err


def test_other_errors_keep_their_traceback():
    def main():
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        run_script(main)
