"""Lines of text that a script is handed: a file, or the standard input."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from frugal.errors import FrugalError

#: Stands for the standard input, or output.
STANDARD = "-"


def numbered_lines(source: str) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers, from 1, read one by one; blank ones are left out.

    Args:
        source: a path, or "-" for the standard input.

    Raises:
        FrugalError: the file cannot be read, or a line is not UTF-8.
    """
    number = 0
    try:
        stream = nullcontext(sys.stdin) if source == STANDARD else open(source, encoding="utf-8-sig")  # noqa: SIM115
        with stream as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise FrugalError(f"{source}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FrugalError(f"{source}, after line {number}: not UTF-8; save it as UTF-8") from None


@contextmanager
def until_reader_ends() -> Iterator[None]:
    """Within it, lines go to the standard output until its reader, such as `head`, has seen enough."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # Python would flush again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
