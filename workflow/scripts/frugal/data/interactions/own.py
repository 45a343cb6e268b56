"""The user's own interactions: CSV, Parquet, or one sequence a line; with an item file or without."""

from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frugal.config.errors import nearest
from frugal.data.interactions.delimited import Dialect, find_columns, records
from frugal.data.interactions.events import is_wanted, select
from frugal.data.interactions.movielens import Item, Row, split_attributes, unique, year_of
from frugal.data.interactions.nulls import is_null
from frugal.data.interactions.rows import (
    EXACT,
    BadRow,
    BadRows,
    Collector,
    Ids,
    Place,
    RawInteractions,
    Rules,
    good_ids,
    good_ratings,
    parse_id,
    parse_rating,
)
from frugal.data.interactions.times import UNITS, Time, coarsest, join_whole, parse_timestamp
from frugal.errors import FrugalError, first_line

LATEST_YEAR = np.iinfo(np.int16).max
# The times of sequences.
POSITIONS = {"source": "position in the sequence", "unit": "position"}
# Equal values pack well, but ids that are all equal are no data: a file with more rows was made to fill the memory.
MOST_ROWS_A_BYTE = 10


def read_sequences(
    path: Path,
    separator: str | None,
    encoding: str,
    rules: Rules,
    bad: BadRows,
    seen: dict[str, tuple[str, int]] | None = None,
) -> RawInteractions:
    """One line for each user: the user, then the items in order; the timestamp is the position from 0.

    Args:
        separator: None means any blanks.
        bad: a line is a row for it; a user may have one line only.
        seen: user to file and line in earlier parts of the table; this part's users are added.

    Raises:
        FrugalError: a line is bad and ``bad`` does not skip.
    """
    collector, read = Collector(timed=False), 0
    seen = {} if seen is None else seen
    positions = array("q")
    for record in records(path, Dialect("\n", {}, encoding=encoding)):
        try:
            if record.reason:
                raise BadRow(record.reason)
            ids = record.text.split(separator)
            user = parse_id(ids[0], "user", rules)
            items = [parse_id(item, "item", rules) for item in ids[1:]]
            if not items:
                raise BadRow("no items after the user")
            if user in seen:
                file, line = seen[user]
                where = f"line {line}" + (f" of {file}" if file != path.name else "")
                raise BadRow("a second line for the same user", f"the first is {where}")
            seen[user] = path.name, record.line
        except BadRow as error:
            read += 1
            bad.add(record.line, record.text, *error.args)
            continue
        read += len(items)
        for position, item in enumerate(items):
            collector.add(record.line, user, item, 1.0, (0, 0))
            positions.append(position)
    result = collector.result(path, read, lambda line: "the sequence of this line")
    return replace(result, timestamp=np.frombuffer(positions, np.int64), time=POSITIONS)


def read_parquet(path: Path, columns: dict[str, str], rules: Rules, bad: BadRows) -> RawInteractions:
    """Interactions from a Parquet file; its "line" is the row, counted from 1.

    Ids may be numbers or strings, times what `parse_timestamp` reads or Parquet's dates and timestamps.

    Args:
        columns: role (user, item, rating, timestamp, event) to column name.

    Raises:
        FrugalError: not a Parquet file, a column is missing or of another type, or a row is bad and
            ``bad`` does not skip.
    """
    table, unit = _parquet_table(path, columns), None
    if "timestamp" in columns:
        ticks, unit = _ticks(table["timestamp"])
        table = table.set_column(table.column_names.index("timestamp"), "timestamp", ticks)
    return _parquet_fast(path, table, columns, unit, rules) or _parquet_slow(path, table, columns, unit, rules, bad)


def parquet_columns(path: Path) -> list[str]:
    """The names of a Parquet file's columns.

    Raises:
        FrugalError: it is no such file.
    """
    with _unreadable_named(path):
        return pq.read_schema(path).names


@contextmanager
def _unreadable_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FrugalError(f"{path}: not a readable Parquet file: {first_line(error)}") from None


def _parquet_table(path: Path, columns: dict[str, str]) -> pa.Table:
    names = parquet_columns(path)
    with _unreadable_named(path):
        for role, name in columns.items():
            if names.count(name) != 1:
                raise FrugalError(
                    f"{path}: has no column '{name}' for the {role}{nearest(name, names)}; "
                    f"its columns are {', '.join(names)[:200]}"
                )
        if pq.read_metadata(path).num_rows > MOST_ROWS_A_BYTE * path.stat().st_size:
            raise FrugalError(f"{path}: states more rows than a file of its size can hold; it is not to be trusted")
        table = pq.read_table(path, columns=list(dict.fromkeys(columns.values())))
        # Reading does not look at the bytes: text may be no UTF-8, and offsets may lead anywhere.
        table.validate(full=True)
    for role, name in columns.items():
        if not _fits(table[name].type, role):
            wanted = "numbers, text or times" if role == "timestamp" else "numbers or text"
            raise FrugalError(f"{path}: the column '{name}' for the {role} is of type {table[name].type}, not {wanted}")
    return pa.table({role: table[name] for role, name in columns.items()})


def _fits(kind: pa.DataType, role: str) -> bool:
    """Whether a column's values are plain numbers or text, or what else this role may have."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if role == "attributes" and pa.types.is_list(kind):
        kind = kind.value_type
    if role == "timestamp" and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return True
    return not (pa.types.is_temporal(kind) or pa.types.is_nested(kind))


def _ticks(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, tuple[int, str] | None]:
    """Parquet's dates and times as int64 ticks of UTC, and their unit's place in UNITS with their type's name."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_date32(kind):
        return pc.multiply(column.cast(pa.int32()).cast(pa.int64()), 86400), (0, str(kind))
    if pa.types.is_date64(kind) or pa.types.is_timestamp(kind):
        unit = kind.unit if pa.types.is_timestamp(kind) else "ms"
        return column.cast(pa.int64()), (UNITS.index(unit), str(kind))
    return column, None


def _plain(kind: pa.DataType, role: str) -> bool:
    """Whether Arrow turns a column's values into text and numbers as Python does."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return role in ("user", "item", "event")
    return pa.types.is_integer(kind) or (pa.types.is_floating(kind) and role not in ("timestamp", "event"))


def _parquet_fast(
    path: Path, table: pa.Table, columns: dict[str, str], unit: tuple[int, str] | None, rules: Rules
) -> RawInteractions | None:
    """All rows at once; None where one is not as it should be, or of a type that Arrow reads in another way."""
    if any(table[role].null_count or not _plain(table[role].type, role) for role in columns):
        return None
    whole, kept, events = table, None, None
    try:
        if "event" in columns:
            encoded = _encoded(table["event"])
            selected = select(encoded.indices.to_numpy(), encoded.dictionary.to_pylist(), rules.events)
            if selected is None or not selected[0].any():
                return None
            mask, events = selected
            kept, table = np.flatnonzero(mask), table.filter(pa.array(mask))
        rows = table.num_rows
        rating = np.ones(rows, np.float32)
        if "rating" in columns:
            rating = good_ratings(table["rating"].cast(pa.float64(), safe=False).to_numpy(), rules)
        times = (None, None)
        if "timestamp" in columns:
            ticks = table["timestamp"].cast(pa.int64()).to_numpy()
            times = coarsest(ticks, *unit) if unit else join_whole(ticks)
        if rating is None or times is None:
            return None
        ids = []
        for role in ("user", "item"):
            if pa.types.is_floating(table[role].type):
                # A float id is what is left of an integer one after a table with gaps: 12.0.
                if rows and not pc.max(pc.abs(table[role])).as_py() < EXACT:
                    return None
                table = table.set_column(table.column_names.index(role), role, table[role].cast(pa.int64()))
            encoded = _encoded(table[role])
            values = good_ids(encoded.dictionary.to_pylist(), role, rules)
            if values is None:
                return None
            ids.append(Ids(encoded.indices.to_numpy(), values))
    except (pa.ArrowException, IndexError):
        return None

    def locate(row: int) -> Place:
        row = int(row if kept is None else kept[row])
        return path, row + 1, _row_text(whole, row)

    return RawInteractions(ids[0], ids[1], rating, times[0], whole.num_rows, locate, times[1], events=events)


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Text of a column as codes into its distinct values."""
    encoded = column.cast(pa.string()).dictionary_encode().unify_dictionaries().combine_chunks()
    return encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded


def _parquet_slow(
    path: Path,
    table: pa.Table,
    columns: dict[str, str],
    unit: tuple[int, str] | None,
    rules: Rules,
    bad: BadRows,
) -> RawInteractions:
    collector, timed = Collector("timestamp" in columns), "timestamp" in columns
    events: Counter[str] | None = Counter() if "event" in columns else None
    rows = (row for batch in table.to_batches() for row in batch.to_pylist())
    for number, row in enumerate(rows, start=1):
        try:
            if events is not None and not is_wanted(_id_text(row["event"]), rules.events, events):
                continue
            collector.add(
                number,
                parse_id(_id_text(row["user"]), "user", rules),
                parse_id(_id_text(row["item"]), "item", rules),
                parse_rating(_text(row["rating"]), rules) if "rating" in columns else 1.0,
                _time(row["timestamp"], unit) if timed else (0, 0),
            )
        except BadRow as error:
            bad.add(number, _row_text(table, number - 1), *error.args)
    result = collector.result(path, table.num_rows, lambda number: _row_text(table, number - 1))
    result = replace(result, events=events)
    if not unit:
        return result
    timestamp, time = coarsest(result.timestamp, *unit)
    return replace(result, timestamp=timestamp, time=time)


def _time(value: Any, unit: tuple[int, str] | None) -> Time:
    return (value, 0) if unit and value is not None else parse_timestamp(_text(value))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return "" if value is None else str(value)


def _id_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    return _text(value)


def _row_text(table: pa.Table, row: int) -> str:
    return ", ".join(f"{name}={table[name][row].as_py()}" for name in table.column_names)


def read_own_items(path: Path, dialect: Dialect, attribute_separator: str, bad: BadRows) -> list[Item]:
    """An item file of the user's, Parquet by its name or else CSV, in its order.

    Args:
        dialect: its columns are roles (item, title, attributes, year) to names; only item is needed. Without a title
            the id stands for it; without a year column the year is looked for in the title.

    Raises:
        FrugalError: a column is missing, or a row is bad and ``bad`` does not skip.
    """

    columns = dialect.columns

    def make(fields: list[str]) -> Item:
        values = dict(zip(columns, fields, strict=True))
        original = parse_id(values["item"], "item", Rules())
        title = values.get("title", "").strip() or original
        year = _year(values["year"]) if "year" in columns else year_of(title)
        return Item(original, title, year, split_attributes(values.get("attributes", ""), attribute_separator))

    if path.suffix == ".parquet":
        return unique(path, _parquet_item_rows(path, columns, attribute_separator), make, bad)
    return unique(path, _csv_item_rows(path, dialect, bad), make, bad)


def _csv_item_rows(path: Path, dialect: Dialect, bad: BadRows) -> Iterator[Row]:
    layout = find_columns(path, dialect)
    for record in records(path, dialect):
        if record.line == layout.header_line:
            continue
        if record.reason or len(record.fields) != layout.fields:
            wrong = f"{len(record.fields)} fields instead of {layout.fields}"
            bad.add(record.line, record.text, record.reason or "wrong number of fields", wrong)
            continue
        yield record.line, record.text, [record.fields[position] for position in layout.positions.values()]


def _parquet_item_rows(path: Path, columns: dict[str, str], attribute_separator: str) -> Iterator[Row]:
    table = _parquet_table(path, columns)
    for number, row in enumerate(table.to_pylist(), start=1):
        attributes = row.get("attributes")
        if isinstance(attributes, list):
            row["attributes"] = attribute_separator.join(_text(value) for value in attributes)
        fields = [_id_text(row[role]) for role in columns]
        yield number, _row_text(table, number - 1), fields


def _year(text: str) -> int | None:
    text = text.strip().removesuffix(".0")
    if is_null(text):
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= LATEST_YEAR):
        raise BadRow("year is not a whole number")
    return int(text)
