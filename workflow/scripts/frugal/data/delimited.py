"""Interactions in text with one row a line: a fast reader, and a slow one that knows the lines."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from frugal.config.errors import nearest
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
from frugal.errors import FrugalError

# Stands for a separator of several characters while Arrow, which wants one, reads the file.
UNIT_SEPARATOR = b"\x1f"
BLOCK = 4 << 20
# Ids below this are counted in a table of as many bytes.
TABLE = 1 << 26


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written.

    Attributes:
        separator: between the fields of a line.
        columns: role (user, item, rating, timestamp) to column name, or to position without a header.
        fields: number of fields in a line, without a header.
        quoting: whether fields may stand in double quotes, and then hold separators and line ends.
        typed_header: whether the header's names carry a type, as in ``user_id:token``.
    """

    separator: str
    columns: dict[str, str] | dict[str, int]
    fields: int = 0
    quoting: bool = False
    typed_header: bool = False
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Record:
    """One row: the line where it starts, its text, and its fields or what is wrong with it."""

    line: int
    text: str
    fields: list[str]
    reason: str = ""


@dataclass(frozen=True)
class Layout:
    """Where the columns are: role to position, fields in a row, the header's line (0 without one)."""

    positions: dict[str, int]
    fields: int
    header_line: int = 0


def read_delimited(path: Path, dialect: Dialect, rules: Rules, bad: BadRows) -> RawInteractions:
    """Read interactions, fast where the file is sound; else slowly, to name or to skip the bad rows.

    Raises:
        FrugalError: a column is missing, or a row is bad and ``bad`` does not skip.
    """
    layout = find_columns(path, dialect)
    return _read_fast(path, dialect, layout, rules) or _read_slow(path, dialect, layout, rules, bad)


def records(path: Path, dialect: Dialect) -> Iterator[Record]:
    """The rows of a file with their lines, header included, blank lines left out."""
    with open(path, "rb") as stream:
        if dialect.quoting:
            yield from _quoted_records(path, stream, dialect)
            return
        for line, data in enumerate(stream, start=1):
            text, reason = _decode(data, line, dialect.encoding)
            if text.strip():
                yield Record(line, text, text.split(dialect.separator), reason)


def _quoted_records(path: Path, stream: io.BufferedReader, dialect: Dialect) -> Iterator[Record]:
    texts: list[str] = []
    reasons: list[str] = []

    def lines() -> Iterator[str]:
        for number, data in enumerate(stream, start=1):
            text, reason = _decode(data, number, dialect.encoding)
            texts.append(text)
            reasons.append(reason)
            yield text + "\n"

    reader = csv.reader(lines(), delimiter=dialect.separator, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            fields, reason = next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            if len(texts) > 1:
                # Skipping would silently drop every row that the open quote has swallowed.
                raise FrugalError(
                    f"{path}, line {start}: a double quote is opened and not closed: {texts[0]!r}"
                ) from None
            fields, reason = [], f"malformed row ({error})"
        text = "\n".join(texts)
        reason = next(filter(None, reasons), reason)
        texts.clear()
        reasons.clear()
        if text.strip():
            yield Record(start, text, fields, reason)


def _decode(data: bytes, line: int, encoding: str) -> tuple[str, str]:
    """A line's text without its end, and a reason where it is not in the encoding."""
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if line == 1:
        data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode(encoding), ""
    except UnicodeDecodeError:
        return data.decode(encoding, errors="replace"), f"not in the encoding {encoding}"


def find_columns(path: Path, dialect: Dialect) -> Layout:
    """Look the columns up in the header.

    Raises:
        FrugalError: the file is empty, or a column is missing or there twice.
    """
    first = next(records(path, dialect), None)
    if first is None:
        raise FrugalError(f"{path}: the file is empty")
    if dialect.fields:
        return Layout(dict(dialect.columns), dialect.fields)
    if first.reason:
        raise FrugalError(f"{path}, line {first.line}: {first.reason}: {first.text[:200]!r}")
    names = [name.strip() for name in first.fields]
    if dialect.typed_header:
        names = [name.partition(":")[0] for name in names]
    positions = {}
    for role, name in dialect.columns.items():
        if names.count(name) != 1:
            what = "no column" if name not in names else "more than one column"
            hint = nearest(name, names) if name not in names else ""
            raise FrugalError(
                f"{path}, line {first.line}: has {what} '{name}' for the {role}{hint}; its columns are "
                f"{', '.join(names)[:200]} (separator {dialect.separator!r})"
            )
        positions[role] = names.index(name)
    return Layout(positions, len(names), first.line)


def _read_fast(path: Path, dialect: Dialect, layout: Layout, rules: Rules) -> RawInteractions | None:
    """All rows through Arrow's threads; None where anything at all is not as it should be."""
    source = _single_separator(path, dialect)
    if source is None:
        return None
    # Whole seconds are the rule; some files write them as 881250949.0.
    for time_type in (pa.int64(), pa.float64()):
        try:
            table = _arrow_table(source, dialect, layout, rules, time_type)
            break
        except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError):
            continue
    else:
        return None
    rows = table.num_rows
    rating = table["rating"].to_numpy() if "rating" in layout.positions else np.ones(rows, np.float32)
    if not good_ratings(rating, rules):
        return None
    timestamp = table["timestamp"].to_numpy() if "timestamp" in layout.positions else None
    if timestamp is not None and timestamp.dtype != np.int64:
        if not (np.abs(timestamp) < EXACT).all() or (timestamp != np.trunc(timestamp)).any():
            return None
        timestamp = timestamp.astype(np.int64)
    ids = [_ids(table[role], role, rules) for role in ("user", "item")]
    if None in ids:
        return None

    def locate(row: int) -> tuple[int, str]:
        skip = row + (layout.header_line > 0)
        record = next(islice(records(path, dialect), skip, None))
        return record.line, record.text

    return RawInteractions(*ids, rating, timestamp, rows, locate)


def _arrow_table(
    source: Path | pa.Buffer, dialect: Dialect, layout: Layout, rules: Rules, time_type: pa.DataType
) -> pa.Table:
    names = [str(position) for position in range(layout.fields)]
    id_type = pa.int64() if rules.integer_ids else pa.dictionary(pa.int32(), pa.string())
    types = {"user": id_type, "item": id_type, "rating": pa.float32(), "timestamp": time_type}
    columns = {role: names[position] for role, position in layout.positions.items()}
    # One column may play two roles; Arrow then reads it once, with the first role's type.
    if len(set(columns.values())) < len(columns):
        raise pa.ArrowInvalid("a column with two roles")
    stream = pa.BufferReader(source) if isinstance(source, pa.Buffer) else str(source)
    table = pacsv.read_csv(
        stream,
        pacsv.ReadOptions(
            column_names=names, skip_rows=layout.header_line, encoding=dialect.encoding, block_size=BLOCK
        ),
        pacsv.ParseOptions(
            delimiter=dialect.separator if len(dialect.separator) == 1 else UNIT_SEPARATOR.decode(),
            quote_char='"' if dialect.quoting else False,
            newlines_in_values=dialect.quoting,
        ),
        pacsv.ConvertOptions(
            column_types={columns[role]: types[role] for role in columns},
            include_columns=list(columns.values()),
            # No text stands for a missing number: an empty or NaN field is a bad row.
            null_values=[],
        ),
    )
    return table.rename_columns(list(columns))


def _single_separator(path: Path, dialect: Dialect) -> Path | pa.Buffer | None:
    """The file as Arrow can read it: with a separator of one byte."""
    if len(dialect.separator) == 1:
        return path if dialect.separator.isascii() else None
    data = path.read_bytes()
    if UNIT_SEPARATOR in data:
        return None
    return pa.py_buffer(data.replace(dialect.separator.encode(dialect.encoding), UNIT_SEPARATOR))


def _ids(column: pa.ChunkedArray, role: str, rules: Rules) -> Ids | None:
    """Codes for a column of ids; None where one of them is bad."""
    if rules.integer_ids:
        return _integer_ids(column.to_numpy())
    merged = column.unify_dictionaries().combine_chunks()
    if isinstance(merged, pa.ChunkedArray):
        merged = merged.chunk(0)
    values = merged.dictionary.to_pylist()
    return Ids(merged.indices.to_numpy(), values) if good_ids(values, role, rules) else None


def _integer_ids(ids: np.ndarray) -> Ids | None:
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


def _read_slow(path: Path, dialect: Dialect, layout: Layout, rules: Rules, bad: BadRows) -> RawInteractions:
    """Row by row: tells exactly which rows are bad, and keeps the others."""
    timed = "timestamp" in layout.positions
    rows, collector = 0, Collector(timed)
    for record in records(path, dialect):
        if record.line == layout.header_line:
            continue
        rows += 1
        try:
            if record.reason:
                raise BadRow(record.reason)
            if len(record.fields) != layout.fields:
                raise BadRow("wrong number of fields", f"{len(record.fields)} instead of {layout.fields}")
            values = {role: record.fields[position] for role, position in layout.positions.items()}
            collector.add(
                record.line,
                parse_id(values["user"], "user", rules),
                parse_id(values["item"], "item", rules),
                parse_rating(values["rating"], rules) if "rating" in values else 1.0,
                parse_timestamp(values["timestamp"]) if timed else 0,
            )
        except BadRow as error:
            bad.add(record.line, record.text, *error.args)

    def text_of(line: int) -> str:
        return next(record.text for record in records(path, dialect) if record.line == line)

    return collector.result(rows, text_of)
