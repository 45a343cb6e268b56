"""What an interrupted or killed Snakemake leaves behind: no job, and a lock that is removed only if nobody holds it."""

import errno
import logging
import os
import signal
import subprocess
import sys

import pytest
from safetensors import SafetensorError

from frugal.errors import run_script
from frugal.run.interruption import EXIT_ORPHANED, SNAKEMAKE_PID, hold_working_directory

JOB = "import time; from frugal.errors import run_script; run_script(lambda: {})"
HOLDER = "import sys; from pathlib import Path; from frugal.run.interruption import hold_working_directory as hold\n"
HOLDER += "held = hold(Path(sys.argv[1])); print('holds', flush=True); sys.stdin.read()"


def start(code, *arguments, start_new_session=False, **environment):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=start_new_session,
    )


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only on Linux can a process wait for one that is no child")
def test_a_job_ends_with_its_snakemake():
    snakemake = start("import sys; sys.stdin.read()")
    job = start(JOB.format("(print('runs', flush=True), time.sleep(60))"), **{SNAKEMAKE_PID: str(snakemake.pid)})
    assert job.stdout.readline() == "runs\n"
    snakemake.kill()
    _, said = job.communicate()
    assert job.returncode == EXIT_ORPHANED
    assert said == "error: Snakemake was killed, and this job ends with it\n"
    snakemake.communicate()
    late = start(JOB.format("print('runs')"), **{SNAKEMAKE_PID: str(snakemake.pid)})
    assert late.communicate()[0] == ""
    assert late.returncode == EXIT_ORPHANED


def test_a_job_that_was_started_by_hand_goes_on_alone():
    job = start(JOB.format("print('runs')"), **{SNAKEMAKE_PID: ""})
    assert job.communicate()[0] == "runs\n"
    assert job.returncode == 0


def test_a_library_that_makes_an_error_of_an_interruption():
    code = (
        "import time; from frugal.errors import run_script\n"
        "def main():\n"
        "    try:\n"
        "        print('runs', flush=True), time.sleep(60)\n"
        "    except BaseException:\n"
        "        raise ModuleNotFoundError('partially imported')\n"
        "run_script(main)"
    )
    job = start(code, **{SNAKEMAKE_PID: ""})
    assert job.stdout.readline() == "runs\n"
    job.terminate()
    _, said = job.communicate()
    assert said == "error: interrupted; run the same command again to continue\n"
    assert job.returncode == 128 + signal.SIGTERM


@pytest.fixture
def folder(tmp_path):
    """Snakemake's folder, with the lock of one that runs here, or ran."""
    hold_working_directory(tmp_path).close()
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/0.output.lock").write_text("results/a\n")
    return tmp_path


def test_the_lock_of_a_killed_snakemake_is_removed(folder, caplog, capsys):
    with caplog.at_level(logging.INFO, "snakemake.logging"):
        hold_working_directory(folder).close()
    assert not (folder / "locks").exists()
    assert "lock of a Snakemake that was killed here is removed" in caplog.text
    assert capsys.readouterr() == ("", "")


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


# Interruptions: SIGTERM and SIGINT to Snakemake.

SNAKEMAKE = """
import os, subprocess, sys, time
from frugal.run import shutdown
shutdown.SECONDS_FOR_JOBS, shutdown.SECONDS_FOR_SNAKEMAKE = {seconds}
shutdown.end_jobs_on_signals(force=True)
prefix = "set -euo pipefail; trap '' INT TERM; export SNAKEMAKE_PID=$PPID; exec "
job = subprocess.Popen(["bash", "-c", prefix + '"$0" -c "$1"', sys.executable, sys.argv[1]])
try:
    job.wait()
finally:
    {afterwards}
"""
#: A job that says when it runs, and what it has cleaned up.
WORKS = """
import time
from frugal.errors import run_script
def main():
    try:
        print("runs", flush=True)
        time.sleep(600)
    finally:
        print("cleaned up", flush=True)
run_script(main)
"""
#: One that is interrupted before it can listen to signals.
BEGINS = "import time; print('runs', flush=True); time.sleep(1)\n" + WORKS
#: One whose helper, in a session of its own, listens to nothing.
HAS_A_STUBBORN_HELPER = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('runs', flush=True)"
subprocess.run([sys.executable, "-c", stubborn + "; time.sleep(600)"], start_new_session=True)
"""


def interrupt(job, number, seconds=(60, 90), afterwards="job.wait()", everyone=False):
    """A stand-in for Snakemake that is interrupted while ``job`` runs: its exit code, what was printed, and where."""
    snakemake = start(SNAKEMAKE.format(seconds=seconds, afterwards=afterwards), job, start_new_session=True)
    assert snakemake.stdout.readline() == "runs\n"
    (os.killpg if everyone else os.kill)(snakemake.pid, number)
    # Ends only when nobody holds the pipes any more.
    said, complaints = snakemake.communicate()
    return snakemake.returncode, said, complaints


@pytest.mark.parametrize("everyone", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_snakemake_ends_its_jobs(number, everyone):
    """Whether it alone gets the signal or, as from a terminal, its jobs too."""
    code, said, complaints = interrupt(WORKS, number, everyone=everyone)
    assert code == 128 + number
    assert said == "cleaned up\n"
    assert f"{number.name}: the jobs save and end; the same command continues.\n" in complaints
    assert "error: interrupted; run the same command again to continue\n" in complaints
    assert "Traceback" not in complaints


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="elsewhere it is killed in the end")
def test_a_job_that_has_only_just_begun():
    """The shell lets it ignore SIGTERM until it says otherwise."""
    code, _, complaints = interrupt(BEGINS, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert "error: interrupted" in complaints


def test_what_ignores_sigterm_is_killed():
    code, said, _ = interrupt(HAS_A_STUBBORN_HELPER, signal.SIGTERM, seconds=(1, 90))
    assert code == 128 + signal.SIGTERM
    assert said == ""


def test_a_snakemake_that_does_not_end_is_ended():
    afterwards = "time.sleep(600)"
    assert interrupt(WORKS, signal.SIGINT, (60, 2), afterwards)[:2] == (128 + signal.SIGINT, "cleaned up\n")


def test_a_snakemake_in_the_background_ignores_sigint():
    """A shell's `&` lets SIGINT be ignored: it is meant for what runs in the foreground."""
    code = "import os, signal; from frugal.run.shutdown import end_jobs_on_signals\n"
    code += "signal.signal(signal.SIGINT, signal.SIG_IGN); end_jobs_on_signals(); os.kill(os.getpid(), signal.SIGINT)"
    snakemake = start(code)
    assert snakemake.communicate() == ("", "")
    assert snakemake.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_script_that_was_started_by_hand_cleans_up(number, code):
    script = start(WORKS, **{SNAKEMAKE_PID: ""})
    assert script.stdout.readline() == "runs\n"
    script.send_signal(number)
    assert script.communicate() == (
        "cleaned up\n",
        "error: interrupted; run the same command again to continue\n",
    )
    assert script.returncode == code


def test_a_stage_of_dvc_passes_sigterm_on():
    snakemake = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print('runs', flush=True)"
    stage = start(
        "import sys, run_stage; from frugal.errors import run_script\n"
        "run_script(lambda: run_stage.wait_for([sys.executable, '-c', sys.argv[1]]))",
        snakemake + "; signal.pause()",
    )
    assert stage.stdout.readline() == "runs\n"
    stage.terminate()
    assert stage.communicate() == ("", "")
    assert stage.returncode == 7
