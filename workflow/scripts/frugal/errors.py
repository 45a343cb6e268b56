"""Errors that a user can act on, and the guard that prints them without a traceback."""

import sys
from collections.abc import Callable


class FrugalError(Exception):
    """Something the user can put right.

    The message names the file, the key or the record at fault and says what to do.
    """


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and exit: 0, its own code, or 1 after a readable `FrugalError`."""
    try:
        code = main()
    except FrugalError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("error: interrupted; run the same command again to continue", file=sys.stderr)
        code = 130
    sys.exit(code or 0)


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its class name when it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
