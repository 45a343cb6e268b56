"""Errors that a user can act on, and the guard that prints them without a traceback."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from frugal.run.interruption import Terminated, end_on_signals, end_with_snakemake
from frugal.run.progress import PROGRESS

#: What a disk can refuse at any moment, by error number, and what to do about it.
DISK_FAULTS = {errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EROFS: "make it writable"}

#: What libraries write into errors about memory: PyTorch's allocators, CUDA, cuBLAS, cuDNN.
NO_MEMORY = ("can't allocate", "out of memory", "_STATUS_ALLOC_FAILED")


class FrugalError(Exception):
    """Something the user can put right.

    The message names the file, the key or the record at fault and says what to do.
    """


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and exit: 0, its own code, or 1 after a readable `FrugalError`."""
    try:
        end_on_signals()
        end_with_snakemake()
        with PROGRESS if int(os.environ.get("RANK", 0)) == 0 else nullcontext():  # the first of several speaks for all
            code = main()
    except FrugalError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        code = 1
    except (Exception, KeyboardInterrupt, Terminated) as error:
        if Terminated.happened or isinstance(error, KeyboardInterrupt):
            # Not by `print`, which writes the line end by itself: other jobs write too.
            sys.stderr.write("error: interrupted; run the same command again to continue\n")
            code = Terminated().code if Terminated.happened else 130
        elif fault := _disk_fault(error):
            print(f"error: {printable(fault)}, and run the same command again to continue", file=sys.stderr)
            code = 1
        else:
            raise
    sys.exit(code or 0)


def _disk_fault(error: Exception) -> str | None:
    """What the disk refused and what to do, if that is what an exception is about; libraries wrap the system's own."""
    for number, advice in DISK_FAULTS.items():
        reason = os.strerror(number)
        if getattr(error, "errno", None) == number or reason in str(error):
            file = getattr(error, "filename", None)
            return f"{file or 'a file'}: {reason}: {advice}"
    return None


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception is about memory that was not there, of the host or of a GPU.

    cuBLAS, cuDNN and CUDA itself allocate beside PyTorch, and report a lack as an error of their own.
    """
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(sign in str(error) for sign in NO_MEMORY)


@contextmanager
def blaming(file: Path | str, problem: str, advice: str = "") -> Iterator[None]:
    """Whatever a damaged or hostile file causes in a library that reads it is a `FrugalError`.

    A lack of memory stays what it is.
    """
    try:
        yield
    except Exception as error:
        named = isinstance(error, FrugalError) and str(file) in str(error)
        if named or lacks_memory(error):
            raise
        raise FrugalError(f"{file}: {problem}: {first_line(error)}{advice}") from None


def printable(text: str) -> str:
    """``text`` with what would steer a terminal, such as names from an archive can hold, spelled out."""
    return "".join(c if c == "\n" or c.isprintable() else ascii(c)[1:-1] for c in text)


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its class name when it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
