"""What lets an interrupted or killed Snakemake be continued by the same command: no job outlives it, and no lock."""

import fcntl
import os
import platform
import select
import shutil
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from frugal.private.snakemake import LOCKS, snakemake_logger

#: The environment variable by which the rules' shell tells a job which process has started it.
SNAKEMAKE_PID = "SNAKEMAKE_PID"
EXIT_ORPHANED = 70


class Terminated(SystemExit):
    """SIGTERM came. Raised in the main thread, so that temporary files and child processes go with this process.

    Attributes:
        happened: whether it did. A library that is just being imported may turn it into an error of its own.
    """

    happened = False

    def __init__(self):
        super().__init__(128 + signal.SIGTERM)


def end_on_signals() -> None:
    """Let SIGTERM end this script as Ctrl-C does: by an exception, so that it cleans up.

    Under Snakemake SIGINT does nothing. A terminal sends it to all processes at once, and it is Snakemake that decides
    what becomes of its jobs: see `frugal.run.shutdown`.
    """

    def terminate(*_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the cleaning up
        Terminated.happened = True
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    if os.environ.get(SNAKEMAKE_PID):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_with_snakemake() -> None:
    """Let this process end with the Snakemake that started it; one that was started by hand goes on alone.

    A Snakemake that is killed (`kill -9`, no memory left) does not end its jobs, which would still write while
    the same jobs of the next Snakemake do. Only on Linux can a process wait for another one that is not its
    child; elsewhere this does nothing, and `frugal.files.exclusive` keeps trainings apart.
    """
    pid = int(os.environ.get(SNAKEMAKE_PID) or 0)
    if not pid or not hasattr(os, "pidfd_open"):
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        _end()
    except OSError:  # an old kernel, or one that does not allow it
        return
    else:
        threading.Thread(target=_wait_and_end, args=(handle,), daemon=True).start()


def _wait_and_end(handle: int) -> None:
    select.select([handle], [], [])
    _end()


def _end() -> None:
    with suppress(OSError):  # nobody may be left to read it
        print("error: Snakemake was killed, and this job ends with it", file=sys.stderr, flush=True)
    os._exit(EXIT_ORPHANED)


def hold_working_directory(folder: Path) -> IO[str] | None:
    """Say that a Snakemake lives here for as long as it does, and remove the lock of one that was killed.

    Snakemake locks a working directory by files that a killed one leaves behind. What is held here is a lock of
    the operating system's, which goes with its process: whoever can have it alone knows that nobody lives whose
    files these are. It may not be seen by another machine that shares the folder; so files are removed by the
    machine that has written them only, and others are left to `snakemake --unlock`.

    Args:
        folder: Snakemake's own, `.snakemake`.

    Returns:
        The open file that is held; None where the folder cannot be written.
    """
    locks = folder / LOCKS
    try:
        folder.mkdir(exist_ok=True)
        stream = open(folder / "machine", "a+", encoding="utf-8")  # noqa: SIM115 (open as long as Snakemake lives)
    except OSError:
        return None
    with suppress(OSError):  # another one lives here, or the file system has no locks
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stream.seek(0)
        if not any(locks.glob("*.lock")):
            stream.truncate(0)
            stream.write(platform.node())
            stream.flush()
        elif stream.read() == platform.node():
            snakemake_logger().info("The lock of a Snakemake that was killed here is removed.")
            shutil.rmtree(locks)
    with suppress(OSError):
        fcntl.flock(stream, fcntl.LOCK_SH)
    return stream
