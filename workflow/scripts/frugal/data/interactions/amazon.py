"""Amazon reviews: JSON lines, packed by gzip or plain, as McAuley's group publishes them (2014, 2018 and 2023)."""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from frugal.data.interactions.rows import (
    BadRow,
    BadRows,
    Collector,
    RawInteractions,
    Rules,
    parse_id,
    parse_rating,
)
from frugal.data.interactions.times import Time, parse_timestamp, whole_timestamp
from frugal.errors import FrugalError, first_line

# Longer lines are bad rows, so that no file can fill the memory; the longest review has some 30,000 letters.
LONGEST_LINE = 16 << 20
BUFFER = 1 << 20
#: The keys of user, item, rating and time: of 2014 and 2018 (whose times are days, in seconds), and of 2023 (in ms).
EDITIONS = (("reviewerID", "asin", "overall", "unixReviewTime"), ("user_id", "parent_asin", "rating", "timestamp"))


def edition(paths: Sequence[Path]) -> tuple[str, ...]:
    """The one of the `EDITIONS` that the first review of a table, in one file or in parts, has more keys of."""
    for data in (data for path in paths for _, data in _lines(path)):
        with suppress(BadRow):
            review = _review(data)
            return max(EDITIONS, key=lambda names: sum(name in review for name in names))
    return EDITIONS[0]


def read_amazon(path: Path, keys: tuple[str, ...], rules: Rules, bad: BadRows) -> RawInteractions:
    """Interactions from reviews, one JSON object a line, read one line at a time.

    Taken are ``keys``, those of an `edition`. The other fields, the texts among them, are dropped at once.

    Raises:
        FrugalError: the gzip file is cut off or damaged, or a line is bad and ``bad`` does not skip.
    """
    collector, read, fields = Collector(timed=True), 0, itemgetter(*keys)
    for line, data in _lines(path):
        read += 1
        try:
            collector.add(line, *_parse(_review(data), fields, rules, collector))
        except BadRow as error:
            bad.add(line, _text(data), *error.args)
    return collector.result(
        path, read, lambda wanted: next(_text(data) for line, data in _lines(path) if line == wanted)
    )


def _review(data: bytes) -> dict[str, Any]:
    """The JSON object of one line."""
    if len(data) >= LONGEST_LINE:
        raise BadRow("line is too long", f"{LONGEST_LINE} bytes or more")
    try:
        review = json.loads(data.decode())
    except UnicodeDecodeError:
        raise BadRow("not in the encoding utf-8") from None
    except (ValueError, RecursionError):
        raise BadRow("not JSON") from None
    if type(review) is not dict:
        raise BadRow("not a JSON object")
    return review


def _parse(review: dict[str, Any], fields: itemgetter, rules: Rules, seen: Collector) -> tuple[str, str, float, Time]:
    """User, item, rating and time of a review."""
    try:
        user, item, rating, timestamp = fields(review)
    except KeyError as error:
        raise BadRow(f"{error.args[0]} is missing") from None
    # Not isinstance: true and false are integers to Python.
    if type(rating) not in (int, float):
        raise BadRow("rating is not a number")
    if type(timestamp) not in (int, float):
        raise BadRow("timestamp is not a number")
    time = whole_timestamp(timestamp) if type(timestamp) is int else parse_timestamp(str(timestamp))
    if time[0] <= 0:
        raise BadRow("timestamp is not after 1970")
    user, item = _id(user, "user", seen.users), _id(item, "item", seen.items)
    return user, item, parse_rating(str(rating), rules), time


def _id(value: Any, role: str, seen: dict[str, int]) -> str:
    if type(value) is not str:
        raise BadRow(f"{role} id is not text")
    if value in seen:
        return value
    value = parse_id(value, role, Rules())
    if not value.isprintable():  # half of a surrogate pair, which JSON can hold and Parquet cannot
        raise BadRow(f"{role} id is not printable text")
    return value


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 1; of one that is too long only the beginning."""
    with open(path, "rb") as file:
        packed = file.peek(2).startswith(b"\x1f\x8b")
        # GzipFile's own lines are cut in Python; those of the buffer around it in C.
        stream = io.BufferedReader(gzip.GzipFile(fileobj=file), BUFFER) if packed else file
        read = partial(stream.readline, LONGEST_LINE)
        try:
            for number, data in enumerate(iter(read, b""), start=1):
                rest = data
                while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
                    rest = read()
                data = data.removeprefix(codecs.BOM_UTF8) if number == 1 else data
                if data and not data.isspace():
                    yield number, data
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FrugalError(
                f"{path}: cut off or damaged gzip file ({first_line(error)}); delete it and fetch it again"
            ) from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").rstrip("\r\n")
