"""Ending a Snakemake and every process of its jobs upon a signal; for Snakemake's own process, not for its jobs."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # comes with Snakemake

from frugal.run.interruption import SNAKEMAKE_PID

#: Seconds from SIGTERM or SIGINT to Snakemake until jobs that still run are killed, and until it ends itself: all of
#: it is to be over within ten.
SECONDS_FOR_JOBS = 7.0
SECONDS_FOR_SNAKEMAKE = 9.0
#: Seconds between two looks for processes that have begun since.
LOOK = 0.25


def end_jobs_on_signals(force: bool = False) -> None:
    """Let SIGTERM and SIGINT end this Snakemake and every process of its jobs, within ten seconds.

    By itself Snakemake (9.27) waits for running jobs after SIGTERM and, unless the terminal has interrupted them too,
    after SIGINT: for hours, if they are trainings. Its handler of SIGTERM also waits for a lock, and for ever if the
    code that was interrupted holds it. Here each process of a job gets SIGTERM, upon which trainings save and end
    after their step and everything else ends at once, then SIGKILL; Snakemake leaves by the way that it takes after
    Ctrl-C, which cancels jobs on a cluster, and removes its lock.

    Args:
        force: end Snakemake where it does not end by itself. Not for a cluster, which may need longer to cancel jobs.
    """

    def interrupted(number: int, frame: Any) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda *_: None)  # the second Ctrl-C changes nothing
        said = f"{signal.Signals(number).name}: the jobs save and end; the same command continues.\n"
        os.write(2, said.encode())  # not by way of a stream, whose lock the interrupted code may hold
        threading.Thread(target=_end_jobs, args=(number, force)).start()  # Python ends only after it
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell's `&` lets SIGINT be ignored, so that Ctrl-C is not for Snakemake.
        if signal.getsignal(number) != signal.SIG_IGN:
            with suppress(ValueError):  # this is not the main thread: another program runs Snakemake
                signal.signal(number, interrupted)


def _end_jobs(number: int, force: bool) -> None:
    """End all jobs, those that begin only now too, until there are none and Snakemake ends; then it, with ``force``."""
    begun, signalled = time.monotonic(), set()
    while (processes := list(_processes_of_jobs())) or threading.main_thread().is_alive():
        seconds = time.monotonic() - begun
        for process in processes:
            with suppress(psutil.Error):
                if seconds > SECONDS_FOR_JOBS:
                    process.kill()
                elif process not in signalled:  # torchrun takes a second SIGTERM ill
                    if not _ignores_sigterm(process.pid):
                        signalled.add(process)
                    process.terminate()
        if force and seconds > SECONDS_FOR_SNAKEMAKE:
            os._exit(128 + number)
        time.sleep(LOOK)


def _ignores_sigterm(pid: int) -> bool:
    """Whether a process ignores SIGTERM, as a script does that has only just begun; False where there is no /proc."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigIgn:"):
                return bool(int(line.split()[1], base=16) >> (signal.SIGTERM - 1) & 1)
    return False


def _processes_of_jobs() -> Iterator[Any]:
    """Every process that a job of this Snakemake has started, in whatever session: it has inherited a variable."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # another user's, or it has just ended
            if process.environ().get(SNAKEMAKE_PID) == str(os.getpid()):
                yield process
