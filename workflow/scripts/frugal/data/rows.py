"""What one row of interactions must be, and what happens to one that is not."""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from frugal.errors import FrugalError

INTEGER_ID = re.compile(r"0|[1-9][0-9]{0,17}")
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
EXAMPLES = 5
SHOWN = 200
# The largest finite float32 and the largest integer below which every float64 integer is exact.
LARGEST_RATING = float(np.finfo(np.float32).max)
EXACT = 2**53


class BadRow(Exception):
    """A row that cannot be taken: ``args`` are the reason to count it under and, maybe, a detail."""


@dataclass(frozen=True)
class Rules:
    """What rows must satisfy beyond being readable."""

    rating_range: tuple[float, float] | None = None
    integer_ids: bool = False


@dataclass
class BadRows:
    """The policy for bad rows of one file: stop at the first, or leave out and count.

    Attributes:
        counts: rows left out, by reason.
        examples: the first five, each with line (1-based, as an editor shows it), text and reason.
    """

    path: Path
    skip: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, object]] = field(default_factory=list)

    def add(self, line: int, text: str, reason: str, detail: str = "") -> None:
        """Take note of a bad row.

        Raises:
            FrugalError: the policy is not to skip; it names file, line, reason and text.
        """
        shown = text if len(text) <= SHOWN else text[:SHOWN] + "..."
        full = f"{reason}: {detail}" if detail else reason
        if not self.skip:
            raise FrugalError(
                f"{self.path}, line {line}: {full}: {shown!r}; correct the file, or set 'on_bad_rows: skip' "
                "for this data set to leave such rows out"
            )
        self.counts[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({"line": line, "text": shown, "reason": full})


@dataclass
class Ids:
    """Ids as codes into their distinct values: ``values[codes[i]]`` is the id of row i."""

    codes: np.ndarray  # int32, (rows,)
    values: list[str]


@dataclass
class RawInteractions:
    """Rows as they stand in the file, in its order.

    Attributes:
        rating: float32, (rows,).
        timestamp: int64 seconds, (rows,); None where the file has no such column.
        rows_read: rows in the file, bad ones included.
        locate: row to its line and text in the file, for messages.
    """

    user: Ids
    item: Ids
    rating: np.ndarray
    timestamp: np.ndarray | None
    rows_read: int
    locate: Callable[[int], tuple[int, str]]


class Collector:
    """Gathers rows one by one where the fast reader cannot be used; compact, since there may be millions."""

    def __init__(self, timed: bool) -> None:
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.user, self.item, self.rating = array("i"), array("i"), array("f")
        self.timestamp = array("q") if timed else None
        self.lines = array("q")

    def add(self, line: int, user: str, item: str, rating: float, timestamp: int) -> None:
        self.user.append(self.users.setdefault(user, len(self.users)))
        self.item.append(self.items.setdefault(item, len(self.items)))
        self.rating.append(rating)
        if self.timestamp is not None:
            self.timestamp.append(timestamp)
        self.lines.append(line)

    def result(self, rows_read: int, text_of: Callable[[int], str]) -> RawInteractions:
        def locate(row: int) -> tuple[int, str]:
            return self.lines[row], text_of(self.lines[row])

        return RawInteractions(
            Ids(np.frombuffer(self.user, np.int32), list(self.users)),
            Ids(np.frombuffer(self.item, np.int32), list(self.items)),
            np.frombuffer(self.rating, np.float32),
            None if self.timestamp is None else np.frombuffer(self.timestamp, np.int64),
            rows_read,
            locate,
        )


def parse_id(text: str, role: str, rules: Rules) -> str:
    """An id without surrounding blanks, and without leading zeros where ``rules`` ask for whole numbers.

    Raises:
        BadRow: it is empty, NaN or negative, or no whole number where ``rules`` ask for one.
    """
    value = text.strip()
    if not value or value.lower() == "nan":
        raise BadRow(f"{role} id is missing")
    if value[0] == "-" and INTEGER.fullmatch(value):
        raise BadRow(f"{role} id is negative")
    if not rules.integer_ids:
        return value
    if not INTEGER.fullmatch(value):
        raise BadRow(f"{role} id is not a whole number")
    return str(int(value))


def parse_rating(text: str, rules: Rules) -> float:
    """A finite rating within the range that ``rules`` give, if any.

    Raises:
        BadRow: it is not.
    """
    try:
        value = float(text)
    except ValueError:
        raise BadRow("rating is not a number") from None
    # The comparison is false for NaN too.
    if not abs(value) <= LARGEST_RATING or "_" in text:
        raise BadRow("rating is not a number")
    if rules.rating_range and not rules.rating_range[0] <= np.float32(value) <= rules.rating_range[1]:
        raise BadRow("rating is out of range", f"not within {list(rules.rating_range)}")
    return value


def parse_timestamp(text: str) -> int:
    """Whole seconds; ``881250949.0`` is whole too.

    Raises:
        BadRow: it is not.
    """
    text = text.strip()
    if INTEGER.fullmatch(text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if "_" in text or not abs(value) < EXACT or not value.is_integer():
        raise BadRow("timestamp is not a whole number of seconds")
    return int(value)


def good_ids(values: Iterable[str], role: str, rules: Rules) -> bool:
    """Whether every one of these distinct ids would be taken by `parse_id`."""
    try:
        for value in values:
            parse_id(value, role, rules)
    except BadRow:
        return False
    return True


def good_ratings(rating: np.ndarray, rules: Rules) -> bool:
    """Whether all ratings are finite and in range. ``rating``: float32, (rows,)."""
    if not rating.size:
        return True
    # Two reductions instead of a mask for each row; NaN and infinity show up in them.
    low, high = rating.min(), rating.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return False
    return rules.rating_range is None or bool(rules.rating_range[0] <= low and high <= rules.rating_range[1])
