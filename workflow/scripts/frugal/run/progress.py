"""A line of progress at least every 20 seconds, however long a step or a measurement takes."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from frugal.run.durations import format_seconds


class ProgressPrinter:
    """Prints what this process is doing, and prints it again whenever nothing else was printed for a while.

    Attributes:
        watcher: called about once a second, from another thread, while something is under way.
    """

    #: Seconds without a line; with a second between two looks, it comes well within 20.
    SILENCE = 15.0
    LOOK = 1.0

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.printed = clock()
        self.activity: tuple[str, float] | None = None
        self.watcher: Callable[[], None] | None = None

    def __enter__(self) -> "ProgressPrinter":
        """Begin to look at the clock, in a thread; without it only `say` prints."""
        self.ended = threading.Event()
        threading.Thread(target=self._run, args=(self.ended,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.activity = self.watcher = None

    def begin(self, activity: str) -> None:
        """From now on ``activity`` is under way, such as 'books/tuned: step 3 of 20'."""
        self.activity = (activity, self.clock())

    def say(self, line: str) -> None:
        """Print a line on stderr."""
        self.printed = self.clock()
        sys.stderr.write(line + "\n")  # in one piece, as two threads print
        sys.stderr.flush()

    def look(self) -> None:
        """Print what is under way if it is time to."""
        if self.activity is None:
            return
        activity, begun = self.activity
        if self.clock() - self.printed >= self.SILENCE:
            with suppress(OSError, ValueError):  # nobody reads any more: no reason to end
                self.say(f"{activity}, {format_seconds(self.clock() - begun)} so far")
        if self.watcher is not None:
            self.watcher()

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(self.LOOK):
            self.look()


#: The printer of this process; `frugal.errors.run_script` has it look at the clock.
PROGRESS = ProgressPrinter()
