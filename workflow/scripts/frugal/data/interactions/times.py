"""Times of interactions: numbers in one of four units, or ISO 8601, as integers of one unit without loss."""

import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import numpy as np

from frugal.data.interactions.nulls import BadRow, is_null

UNITS = ("s", "ms", "us", "ns")
# Numbers below these are seconds, milliseconds and microseconds since 1970, which are the years to 5138. From 1973 on,
# each time has one unit only that fits.
LIMITS = (10**11, 10**14, 10**17)
# How a column of times is written: as numbers of a unit, or as text. Zero is the same time in every unit.
SOURCES = (*UNITS, "ISO 8601", "any")
ISO_8601, ANY = 4, 5
INTEGER = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")
ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r" ?(?:[Zz]|UTC|GMT|([+-])([0-9]{2}):?([0-9]{2})?)?)?"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST = 2**63 - 1

# Ticks since 1970, and a code: 4 times the place in SOURCES, plus the place in UNITS of the ticks' unit.
Time = tuple[int, int]


def parse_timestamp(text: str) -> Time:
    """A number of seconds, ms, us or ns since 1970 (its size tells which), or ISO 8601, in UTC if it names no zone.

    Raises:
        BadRow: it is neither, or finer than a nanosecond.
    """
    text = text.strip()
    if is_null(text):
        raise BadRow("timestamp is missing")
    if len(text) > 100:
        raise BadRow("timestamp is out of range")
    if INTEGER.fullmatch(text):
        return whole_timestamp(int(text))
    if NUMBER.fullmatch(text):
        value = Fraction(text)
        unit = bisect_right(LIMITS, abs(value))
        return _ticks(value, unit, unit if value else ANY)
    if match := ISO.fullmatch(text):
        return _iso(match)
    raise BadRow("timestamp is neither a number nor ISO 8601")


def whole_timestamp(value: int) -> Time:
    """As `parse_timestamp`, of a whole number."""
    if not -LARGEST <= value <= LARGEST:
        raise BadRow("timestamp is out of range")
    unit = bisect_right(LIMITS, abs(value))
    return value, 4 * unit + unit if value else 4 * ANY


def _iso(match: re.Match[str]) -> Time:
    *parts, fraction, sign, hours, minutes = match.groups()
    try:
        time = datetime(*(int(part or 0) for part in parts), tzinfo=UTC)
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        seconds = (time - EPOCH - (-offset if sign == "-" else offset)) // timedelta(seconds=1)
    except ValueError:
        raise BadRow("timestamp is no date of the calendar") from None
    if offset >= timedelta(days=1) or int(minutes or 0) > 59:
        raise BadRow("timestamp is no date of the calendar")
    return _ticks(seconds + Fraction(f"0.{fraction or 0}"), 0, ISO_8601)


def _ticks(value: int | Fraction, unit: int, source: int) -> Time:
    """A value of a unit in the coarsest unit, not above its own, that holds it exactly."""
    for finer in range(unit, len(UNITS)):
        ticks = Fraction(value) * 1000 ** (finer - unit)
        if ticks.denominator == 1:
            if abs(ticks) > LARGEST:
                raise BadRow("timestamp is out of range")
            return int(ticks), 4 * source + finer
    raise BadRow("timestamp is finer than a nanosecond")


class Mixture(Exception):
    """A column is written in two ways: ``args`` are the two sources, and the first row of each."""


def join(ticks: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """Times of one column in one unit, the coarsest that holds them all exactly.

    Args:
        ticks, codes: int64 and uint8, (rows,), as `parse_timestamp` gives them.

    Returns:
        int64 times, (rows,), and facts: the ``source`` (how the file writes them) and their ``unit`` here.

    Raises:
        Mixture: the rows' sources differ.
        OverflowError: the finest unit cannot hold all of them.
    """
    counts = np.bincount(codes, minlength=4 * len(SOURCES)).reshape(len(SOURCES), len(UNITS))
    present = np.flatnonzero(counts[:ANY].sum(1))
    if present.size > 1:
        rows = [int(np.argmax(codes // 4 == source)) for source in present[:2]]
        raise Mixture(*(SOURCES[source] for source in present[:2]), *rows)
    units = np.flatnonzero(counts[:ANY].sum(0))
    finest = int(units.max()) if units.size else 0
    if units.size > 1 or counts[ANY].any():
        scale = 1000 ** (finest - np.minimum(codes % 4, finest).astype(np.int64))
        if (np.abs(ticks) > LARGEST // scale).any():
            raise OverflowError
        ticks = ticks * scale
    return coarsest(ticks, finest, SOURCES[present[0]] if present.size else "s")


def join_whole(values: np.ndarray) -> tuple[np.ndarray, dict[str, str]] | None:
    """As `join`, of a column of whole numbers, int64 (rows,); None where their units differ or one is out of range."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < -LARGEST:
        return None
    if low <= 0:
        sizes = np.abs(values[values != 0])
        low, high = (int(sizes.min()), int(sizes.max())) if sizes.size else (0, 0)
    unit = bisect_right(LIMITS, low)
    return None if bisect_right(LIMITS, high) != unit else coarsest(values, unit, UNITS[unit])


def join_columns(columns: list[tuple[np.ndarray, dict[str, str]]]) -> tuple[np.ndarray, dict[str, str]]:
    """One column of several, each as `join` gives it, in the coarsest unit that holds them all.

    Returns:
        As `join`.

    Raises:
        Mixture: their sources differ; its rows are the places of two columns.
        OverflowError: the finest unit cannot hold all of them.
    """
    # Zeros are the same times in every unit, so they do not show theirs.
    sure = [place for place, (ticks, facts) in enumerate(columns) if ticks.any() or facts["source"] not in UNITS]
    sources = [columns[place][1]["source"] for place in sure]
    for place, source in zip(sure, sources, strict=True):
        if source != sources[0]:
            raise Mixture(sources[0], source, sure[0], place)
    units = [UNITS.index(facts["unit"]) for _, facts in columns]
    scales = [1000 ** (max(units) - unit) for unit in units]
    if any((np.abs(ticks) > LARGEST // scale).any() for (ticks, _), scale in zip(columns, scales, strict=True)):
        raise OverflowError
    joined = np.concatenate(
        [ticks * scale if scale > 1 else ticks for (ticks, _), scale in zip(columns, scales, strict=True)]
    )
    return joined, {"source": sources[0] if sources else "s", "unit": UNITS[max(units)]}


def coarsest(ticks: np.ndarray, unit: int, source: str) -> tuple[np.ndarray, dict[str, str]]:
    """Ticks of a unit in the coarsest unit that holds them exactly, and the facts as of `join`."""
    while unit and not (ticks % 1000).any():
        ticks, unit = ticks // 1000, unit - 1
    return ticks, {"source": source, "unit": UNITS[unit]}
