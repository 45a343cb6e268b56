"""What one row of interactions must be, and what happens to one that is not."""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from frugal.data.interactions.nulls import BadRow, is_null
from frugal.data.interactions.times import INTEGER, Mixture, Time, join
from frugal.errors import FrugalError

INTEGER_ID = re.compile(r"0|[1-9][0-9]{0,17}")
EXAMPLES = 5
SHOWN = 200
#: Where a row stands, file and line, and its text there.
Place = tuple[Path, int, str]
#: Of the two parts of a `Time`.
TIME_TYPES = (np.int64, np.uint8)
# The largest finite float32 and the largest integer below which every float64 integer is exact.
LARGEST_RATING = float(np.finfo(np.float32).max)
EXACT = 2**53
LARGEST_ID = 2**63 - 1
# Ids below this are counted in a table of as many bytes.
TABLE = 1 << 26
#: A whole number as a table with gaps writes it.
WHOLE_FLOAT = re.compile(r"([0-9]+)\.0+")


@dataclass(frozen=True)
class Rules:
    """What rows must satisfy beyond being readable; only rows of ``events`` are read, where these are given."""

    rating_range: tuple[float, float] | None = None
    integer_ids: bool = False
    events: tuple[str, ...] | None = None


@dataclass
class BadRows:
    """The policy for bad rows of one table: stop at the first, or leave out and count.

    Attributes:
        path: the file that is read; of a table in parts one after another.
        counts: rows left out, by reason.
        examples: the first five, each with file, line (1-based, as an editor shows it), text and reason.
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
            self.examples.append({"file": self.path.name, "line": line, "text": shown, "reason": full})


@dataclass
class Ids:
    """Ids as codes into their distinct values: ``values[codes[i]]`` is the id of row i."""

    codes: np.ndarray  # int32, (rows,)
    values: list[str]


@dataclass
class Lines:
    """Lines of a file: all of them, the header's, blank ones, and those that continue a row of several lines."""

    total: int = 0
    header: int = 0
    blank: int = 0
    continued: int = 0


@dataclass
class RawInteractions:
    """Rows as they stand in the file, in its order.

    Attributes:
        rating: float32, (rows,).
        timestamp: int64, (rows,), since 1970 in the unit that ``time`` names; None where the file has no such column.
        rows_read: rows in the file, bad ones and those of other event types included.
        locate: row to its place, for messages.
        time: how the file writes its times (``source``), and the ``unit`` of ``timestamp``.
        lines: where every line of a text file is a row or part of one: those that are not the first of a row.
        events: rows of each event type, wanted or not; None where rows of all types are read.
        part: int8, (rows,), the place in `frugal.config.sources.SPLITS` of the row's file; None without such files.
    """

    user: Ids
    item: Ids
    rating: np.ndarray
    timestamp: np.ndarray | None
    rows_read: int
    locate: Callable[[int], Place]
    time: dict[str, str] | None = None
    lines: Lines | None = None
    events: Counter[str] | None = None
    part: np.ndarray | None = None


class Collector:
    """Gathers rows one by one where the fast reader cannot be used; compact, since there may be millions."""

    def __init__(self, timed: bool) -> None:
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.user, self.item, self.rating = array("i"), array("i"), array("f")
        self.timestamp = (array("q"), array("B")) if timed else None
        self.lines = array("q")

    def add(self, line: int, user: str, item: str, rating: float, time: Time) -> None:
        self.user.append(self.users.setdefault(user, len(self.users)))
        self.item.append(self.items.setdefault(item, len(self.items)))
        self.rating.append(rating)
        if self.timestamp is not None:
            self.timestamp[0].append(time[0])
            self.timestamp[1].append(time[1])
        self.lines.append(line)

    def result(
        self, path: Path, rows_read: int, text_of: Callable[[int], str], lines: Lines | None = None
    ) -> RawInteractions:
        """All rows that were added.

        Raises:
            FrugalError: their times are of several units, or no unit holds them all.
        """

        def locate(row: int) -> Place:
            return path, self.lines[row], text_of(self.lines[row])

        timestamp, time = None, None
        if self.timestamp is not None:
            ticks, codes = (np.frombuffer(part, kind) for part, kind in zip(self.timestamp, TIME_TYPES, strict=True))
            timestamp, time = join_times(path, ticks, codes, locate)
        return RawInteractions(
            Ids(np.frombuffer(self.user, np.int32), list(self.users)),
            Ids(np.frombuffer(self.item, np.int32), list(self.items)),
            np.frombuffer(self.rating, np.float32),
            timestamp,
            rows_read,
            locate,
            time,
            lines,
        )


def join_times(
    path: Path, ticks: np.ndarray, codes: np.ndarray, locate: Callable[[int], Place]
) -> tuple[np.ndarray, dict[str, str]]:
    """As `times.join`.

    Raises:
        FrugalError: the times are of several units, or no unit holds them all.
    """
    try:
        return join(ticks, codes)
    except Mixture as error:
        one, two, *rows = error.args
        (_, first, text), (_, second, other) = map(locate, rows)
        raise FrugalError(
            f"{path}: times are written in two ways: line {first} as {one} ({text[:SHOWN]!r}), line {second} as {two} "
            f"({other[:SHOWN]!r}); numbers are taken as s, ms, us or ns by their size; bring the column into one form"
        ) from None
    except OverflowError:
        raise FrugalError(
            f"{path}: the times have fractions of a second so fine that the range of the dates does not fit; round the "
            "times, or correct the dates that are centuries off"
        ) from None


def parse_id(text: str, role: str, rules: Rules) -> str:
    """An id without surrounding blanks; ``12.0`` is 12. No leading zeros where ``rules`` ask for whole numbers.

    Raises:
        BadRow: it stands for a missing value, is negative, or is no whole number where ``rules`` ask for one.
    """
    value = text.strip()
    if is_null(value):
        raise BadRow(f"{role} id is missing")
    if value[0] == "-" and INTEGER.fullmatch(value):
        raise BadRow(f"{role} id is negative")
    if "." in value and (whole := WHOLE_FLOAT.fullmatch(value)):
        value = whole[1]
    if not rules.integer_ids:
        return value
    if not INTEGER.fullmatch(value) or len(value) > 100 or int(value) > LARGEST_ID:
        raise BadRow(f"{role} id is not a whole number")
    return str(int(value))


def parse_rating(text: str, rules: Rules) -> float:
    """A finite rating within the range that ``rules`` give, if any.

    Raises:
        BadRow: it is not.
    """
    if is_null(text.strip()):
        raise BadRow("rating is missing")
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


def good_ids(values: Iterable[str], role: str, rules: Rules) -> list[str] | None:
    """Distinct ids as `parse_id` gives them; None where it refuses one."""
    try:
        return [parse_id(value, role, rules) for value in values]
    except BadRow:
        return None


def integer_ids(ids: np.ndarray) -> Ids | None:
    """Codes for a column of whole numbers, (rows,), that are ids; None where one is negative."""
    if ids.size and ids.min() < 0:
        return None
    if ids.size and ids.max() < TABLE:
        # A table of all numbers up to the largest is many times faster than sorting the rows.
        present = np.zeros(ids.max() + 1, bool)
        present[ids] = True
        distinct = np.flatnonzero(present)
        codes = (np.cumsum(present, dtype=np.int32) - 1)[ids]
    else:
        distinct, codes = np.unique(ids, return_inverse=True)
    return Ids(codes.astype(np.int32, copy=False), [str(value) for value in distinct.tolist()])


def good_ratings(rating: np.ndarray, rules: Rules) -> np.ndarray | None:
    """Ratings, any numbers of (rows,), as float32; None where `parse_rating` refuses one."""
    # Two reductions instead of a mask for each row; NaN and infinity show up in them.
    if rating.size and not (rating.min() >= -LARGEST_RATING and rating.max() <= LARGEST_RATING):
        return None
    rating = rating.astype(np.float32, copy=False)
    if rating.size and rules.rating_range is not None:
        low, high = rules.rating_range
        if not (low <= rating.min() and rating.max() <= high):
            return None
    return rating
