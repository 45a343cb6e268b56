"""The user's own interactions: CSV, Parquet, or one sequence a line; with an item file or without."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frugal.config.errors import nearest
from frugal.data.delimited import Dialect, find_columns, records
from frugal.data.movielens import Item, Row, split_genres, unique, year_of
from frugal.data.rows import (
    EXACT,
    BadRow,
    BadRows,
    Collector,
    Ids,
    RawInteractions,
    Rules,
    good_ids,
    good_ratings,
    parse_id,
    parse_rating,
    parse_timestamp,
)
from frugal.errors import FrugalError, first_line

LATEST_YEAR = np.iinfo(np.int16).max
# Equal values pack well, but ids that are all equal are no data: a file with more rows was made to fill the memory.
MOST_ROWS_A_BYTE = 10


def read_sequences(path: Path, separator: str | None, encoding: str, rules: Rules, bad: BadRows) -> RawInteractions:
    """One line for each user: the user, then the items in order; the timestamp is the position from 0.

    ``separator`` None means any blanks. A line is a row for ``bad``; a user may have one line only.

    Raises:
        FrugalError: a line is bad and ``bad`` does not skip.
    """
    collector, lines, read = Collector(timed=True), {}, 0
    for record in records(path, Dialect("\n", {}, encoding=encoding)):
        try:
            if record.reason:
                raise BadRow(record.reason)
            ids = record.text.split(separator)
            user = parse_id(ids[0], "user", rules)
            items = [parse_id(item, "item", rules) for item in ids[1:]]
            if not items:
                raise BadRow("no items after the user")
            if user in lines:
                raise BadRow("a second line for the same user", f"the first is line {lines[user]}")
            lines[user] = record.line
        except BadRow as error:
            read += 1
            bad.add(record.line, record.text, *error.args)
            continue
        read += len(items)
        for position, item in enumerate(items):
            collector.add(record.line, user, item, 1.0, position)
    return collector.result(read, lambda line: "the sequence of this line")


def read_parquet(path: Path, columns: dict[str, str], rules: Rules, bad: BadRows) -> RawInteractions:
    """Interactions from a Parquet file; its "line" is the row, counted from 1.

    Ids may be integers or strings, timestamps whole numbers of seconds or Parquet timestamps.

    Args:
        columns: role (user, item, rating, timestamp) to column name.

    Raises:
        FrugalError: not a Parquet file, a column is missing or of another type, or a row is bad and
            ``bad`` does not skip.
    """
    table = _parquet_table(path, columns)
    if "timestamp" in columns and pa.types.is_timestamp(table["timestamp"].type):
        seconds = _seconds(path, table["timestamp"])
        table = table.set_column(table.column_names.index("timestamp"), "timestamp", seconds)
    fast = _parquet_fast(table, columns, rules)
    return fast or _parquet_slow(table, columns, rules, bad)


def _parquet_table(path: Path, columns: dict[str, str]) -> pa.Table:
    try:
        names = pq.read_schema(path).names
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
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FrugalError(f"{path}: not a readable Parquet file: {first_line(error)}") from None
    for role, name in columns.items():
        if not _fits(table[name].type, role):
            wanted = "numbers, text or times" if role == "timestamp" else "numbers or text"
            raise FrugalError(f"{path}: the column '{name}' for the {role} is of type {table[name].type}, not {wanted}")
    return pa.table({role: table[name] for role, name in columns.items()})


def _fits(kind: pa.DataType, role: str) -> bool:
    """Whether a column's values are plain numbers or text, or what else this role may have."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if role == "genres" and pa.types.is_list(kind):
        kind = kind.value_type
    if role == "timestamp" and pa.types.is_timestamp(kind):
        return True
    return not (pa.types.is_temporal(kind) or pa.types.is_nested(kind))


def _seconds(path: Path, times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parquet timestamps as int64 seconds, rounded down; null stays null."""
    ticks, second = times.cast(pa.int64()), {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[times.type.unit]
    try:
        # Division rounds towards zero.
        before_1970 = pc.subtract_checked(ticks, second - 1)
    except pa.ArrowInvalid:
        raise FrugalError(f"{path}: a time is out of range: {pc.min(ticks)} {times.type.unit} since 1970") from None
    return pc.divide(pc.if_else(pc.less(ticks, 0), before_1970, ticks), second)


def _parquet_fast(table: pa.Table, columns: dict[str, str], rules: Rules) -> RawInteractions | None:
    """All rows at once; None where one is not as it should be."""
    if any(table[role].null_count for role in columns):
        return None
    rows = table.num_rows
    try:
        rating = np.ones(rows, np.float32)
        if "rating" in columns:
            rating = table["rating"].cast(pa.float32(), safe=False).to_numpy()
        timestamp = table["timestamp"].cast(pa.int64()).to_numpy() if "timestamp" in columns else None
        ids = []
        for role in ("user", "item"):
            if pa.types.is_floating(table[role].type):
                # A float id is what is left of an integer one after a table with gaps: 12.0.
                table = table.set_column(table.column_names.index(role), role, table[role].cast(pa.int64()))
            encoded = table[role].cast(pa.string()).dictionary_encode().unify_dictionaries().combine_chunks()
            encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
            values = encoded.dictionary.to_pylist()
            if not good_ids(values, role, rules):
                return None
            ids.append(Ids(encoded.indices.to_numpy(), values))
    except (pa.ArrowException, IndexError):
        return None
    if not good_ratings(rating, rules):
        return None

    def locate(row: int) -> tuple[int, str]:
        return row + 1, _row_text(table, row)

    return RawInteractions(ids[0], ids[1], rating, timestamp, rows, locate)


def _parquet_slow(table: pa.Table, columns: dict[str, str], rules: Rules, bad: BadRows) -> RawInteractions:
    collector, timed = Collector("timestamp" in columns), "timestamp" in columns
    rows = (row for batch in table.to_batches() for row in batch.to_pylist())
    for number, row in enumerate(rows, start=1):
        try:
            collector.add(
                number,
                parse_id(_id_text(row["user"]), "user", rules),
                parse_id(_id_text(row["item"]), "item", rules),
                parse_rating(_text(row["rating"]), rules) if "rating" in columns else 1.0,
                parse_timestamp(_text(row["timestamp"])) if timed else 0,
            )
        except BadRow as error:
            bad.add(number, _row_text(table, number - 1), *error.args)
    return collector.result(table.num_rows, lambda number: _row_text(table, number - 1))


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


def read_own_items(
    path: Path, columns: dict[str, str], separator: str, genre_separator: str, encoding: str, bad: BadRows
) -> list[Item]:
    """An item file of the user's, Parquet by its name or else CSV, in its order.

    Args:
        columns: role (item, title, genres, year) to column name; only item is needed. Without a title
            the id stands for it; without a year column the year is looked for in the title.

    Raises:
        FrugalError: a column is missing, or a row is bad and ``bad`` does not skip.
    """

    def make(fields: list[str]) -> Item:
        values = dict(zip(columns, fields, strict=True))
        original = parse_id(values["item"], "item", Rules())
        title = values.get("title", "").strip() or original
        year = _year(values["year"]) if "year" in columns else year_of(title)
        return Item(original, title, year, split_genres(values.get("genres", ""), genre_separator))

    if path.suffix == ".parquet":
        return unique(path, _parquet_item_rows(path, columns, genre_separator), make, bad)
    dialect = Dialect(separator, dict(columns), quoting=len(separator) == 1, encoding=encoding)
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


def _parquet_item_rows(path: Path, columns: dict[str, str], genre_separator: str) -> Iterator[Row]:
    table = _parquet_table(path, columns)
    for number, row in enumerate(table.to_pylist(), start=1):
        genres = row.get("genres")
        if isinstance(genres, list):
            row["genres"] = genre_separator.join(_text(name) for name in genres)
        fields = [_id_text(row[role]) for role in columns]
        yield number, _row_text(table, number - 1), fields


def _year(text: str) -> int | None:
    text = text.strip().removesuffix(".0")
    if not text or text.lower() == "nan":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= LATEST_YEAR):
        raise BadRow("year is not a whole number")
    return int(text)
