"""Interactions of any format from one file, or from several that are the parts of one table."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from frugal.config.registry import DatasetEntry
from frugal.data.interactions.amazon import edition, read_amazon
from frugal.data.interactions.delimited import Dialect, find_columns, header, read_delimited
from frugal.data.interactions.movielens import RATINGS, RECBOLE_RATINGS, present
from frugal.data.interactions.own import parquet_columns, read_parquet, read_sequences
from frugal.data.interactions.rows import BadRows, Ids, Lines, Place, RawInteractions, Rules
from frugal.data.interactions.times import Mixture, join_columns
from frugal.errors import FrugalError

Read = Callable[[Path], RawInteractions]


def read_ratings(record: dict[str, Any], paths: Sequence[Path], entry: DatasetEntry, bad: BadRows) -> RawInteractions:
    """The interactions of a table in one file, or in parts one after another; ``bad.path`` is the part that is read.

    Raises:
        FrugalError: the file is empty, or all parts are; columns or times of the parts differ; what the readers raise.
    """
    filled = [path for path in paths if path.stat().st_size]
    if not filled:
        raise FrugalError(f"{paths[0]}: the file is empty" + ", and so are the other parts" * (len(paths) > 1))
    read, tables = _reader(record, filled, entry, bad), []
    for path in filled:
        bad.path = path
        tables.append(read(path))
    return join_tables(filled, tables) if len(tables) > 1 else tables[0]


def _reader(record: dict[str, Any], paths: Sequence[Path], entry: DatasetEntry, bad: BadRows) -> Read:
    """What reads each part, by what the first one says of all."""
    form, encoding = record["format"], record.get("encoding") or "utf-8"
    rules = Rules(entry.rating_range, integer_ids=form in RATINGS, events=entry.events)
    if form == "amazon-json":
        keys = edition(paths)
        return lambda path: read_amazon(path, keys, rules, bad)
    if form == "sequences":
        seen: dict[str, tuple[str, int]] = {}
        return lambda path: read_sequences(path, record.get("separator"), encoding, rules, bad, seen)
    if form == "parquet":
        demand_same_columns(paths, parquet_columns)
        return lambda path: read_parquet(path, record["columns"], rules, bad)
    dialect = dialect_of_parts(paths, _dialect(record, paths[0], encoding))
    return lambda path: read_delimited(path, dialect, rules, bad)


def _dialect(record: dict[str, Any], first: Path, encoding: str) -> Dialect:
    if record["format"] in RATINGS:
        return RATINGS[record["format"]]
    if record["format"] == "recbole":
        return Dialect("\t", present(first, RECBOLE_RATINGS, encoding), typed_header=True, encoding=encoding)
    separator = record.get("separator") or ","
    return Dialect(separator, record["columns"], quoting=quotes(separator, record), encoding=encoding)


def quotes(separator: str, record: dict[str, Any]) -> bool:
    """Whether fields may stand in double quotes."""
    return len(separator) == 1 and record["quoting"]


def dialect_of_parts(paths: Sequence[Path], dialect: Dialect) -> Dialect:
    """The dialect by which each of the parts is read: without a header, their rows have as many fields as the first.

    Raises:
        FrugalError: the first part has a header, and another has not the same; or a column is missing.
    """
    if len(paths) == 1:
        return dialect
    layout = find_columns(paths[0], dialect)
    if not layout.header_line:
        return replace(dialect, fields=layout.fields)
    demand_same_columns(paths, lambda path: header(path, dialect))
    return dialect


def demand_same_columns(paths: Sequence[Path], columns_of: Callable[[Path], list[str]]) -> None:
    """The parts of a table have the columns of the first, in the same order.

    Raises:
        FrugalError: one has others; it names both files.
    """
    first = columns_of(paths[0])
    for path in paths[1:]:
        if (columns := columns_of(path)) != first:
            raise FrugalError(
                f"{path}: begins with the columns {', '.join(columns)[:200] or 'of no row'}, {paths[0].name} with "
                f"{', '.join(first)[:200]}; the parts of a table have the same columns: in text, each part needs the "
                "header of the first, or none has one"
            )


def join_tables(paths: Sequence[Path], tables: Sequence[RawInteractions]) -> RawInteractions:
    """Interactions of several files as if they stood in one.

    Raises:
        FrugalError: their times are written in different ways, or no unit holds them all.
    """
    ends = np.cumsum([table.rating.size for table in tables])

    def locate(row: int) -> Place:
        part = int(np.searchsorted(ends, row, side="right"))
        return tables[part].locate(row - int(ends[part] - tables[part].rating.size))

    timestamp, time = _join_times(paths, tables)
    return RawInteractions(
        _join_ids([table.user for table in tables]),
        _join_ids([table.item for table in tables]),
        np.concatenate([table.rating for table in tables]),
        timestamp,
        sum(table.rows_read for table in tables),
        locate,
        time,
        _join_lines([table.lines for table in tables]),
        sum((table.events for table in tables), Counter()) if tables[0].events is not None else None,
    )


def _join_ids(parts: Sequence[Ids]) -> Ids:
    places: dict[str, int] = {}
    codes = [
        np.array([places.setdefault(value, len(places)) for value in part.values], np.int32)[part.codes]
        for part in parts
    ]
    return Ids(np.concatenate(codes), list(places))


def _join_times(
    paths: Sequence[Path], tables: Sequence[RawInteractions]
) -> tuple[np.ndarray | None, dict[str, str] | None]:
    columns = [(table.timestamp, table.time) for table in tables]
    if any(timestamp is None for timestamp, _ in columns):
        return None, None
    if tables[0].time["unit"] == "position":
        return np.concatenate([timestamp for timestamp, _ in columns]), tables[0].time
    try:
        return join_columns(columns)
    except Mixture as error:
        one, two, *places = error.args
        first, second = (paths[place] for place in places)
        raise FrugalError(
            f"{second}: times are written in two ways: in {first.name} as {one}, here as {two}; numbers are taken as "
            "s, ms, us or ns by their size; bring the column into one form"
        ) from None
    except OverflowError:
        raise FrugalError(
            f"{paths[0].parent}: the times of the parts have fractions of a second so fine that the range of the dates "
            "does not fit; round the times, or correct the dates that are centuries off"
        ) from None


def _join_lines(parts: Sequence[Lines | None]) -> Lines | None:
    if any(part is None for part in parts):
        return None
    return Lines(*(sum(getattr(part, one.name) for part in parts) for one in fields(Lines)))
