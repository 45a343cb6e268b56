"""Interactions in text with one row a line: a fast reader, and a slow one that knows the lines."""

import codecs
import csv
import io
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from frugal.config.errors import nearest
from frugal.data.interactions.events import is_wanted, select, used
from frugal.data.interactions.rows import (
    BadRow,
    BadRows,
    Collector,
    Ids,
    Lines,
    Place,
    RawInteractions,
    Rules,
    good_ids,
    good_ratings,
    integer_ids,
    join_times,
    parse_id,
    parse_rating,
)
from frugal.data.interactions.times import join_whole, parse_timestamp
from frugal.errors import FrugalError

# Stands for a separator of several characters while Arrow, which wants one, reads the file.
UNIT_SEPARATOR = b"\x1f"
BLOCK = 4 << 20
# A row may have as many lines, within quotes; more are taken for a quote that is not closed.
MOST_LINES = 1000


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written.

    Attributes:
        separator: between the fields of a line.
        columns: role (user, item, rating, timestamp, event) to column name, or to position without a header.
        fields: number of fields in a line, without a header; 0: that of the first line.
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
    """Read interactions: one reader's result is the other's wherever the fast one takes a file at all.

    Arrow reads files in which it and Python agree on lines and fields (`_plain_lines`) and every row is good; all
    others are read row by row, which names or skips the bad ones.

    Raises:
        FrugalError: a column is missing, times are of several units, or a row is bad and ``bad`` does not skip.
    """
    layout = find_columns(path, dialect)
    return _read_fast(path, dialect, layout, rules) or _read_slow(path, dialect, layout, rules, bad)


def records(path: Path, dialect: Dialect, count: Lines | None = None) -> Iterator[Record]:
    """The rows of a file with their lines, header included, blank lines left out; lines are counted in ``count``.

    A field in double quotes may go on for `MOST_LINES`. Where the row that results is none (the quotes do not match,
    or it has not as many fields as the first row), its first line alone is bad: no quote swallows the lines after it.
    """
    count = count or Lines()
    fields = dialect.fields
    with open(path, "rb") as stream:
        lines = _Pushback(stream, dialect.encoding)
        for line, text, reason in lines:
            count.total += 1
            if not text.strip():
                count.blank += 1
                continue
            if dialect.quoting and '"' in text and not reason:
                record, more = _quoted(line, text, lines, dialect.separator, fields)
                count.total += more
                count.continued += more
            else:
                record = Record(line, text, text.split(dialect.separator), reason)
            fields = fields or len(record.fields)
            yield record


class _Pushback:
    """Lines with their numbers and what is wrong with them; some can be given back, to be read again."""

    def __init__(self, stream: io.BufferedReader, encoding: str) -> None:
        self.lines = ((number, *_decode(data, number, encoding)) for number, data in enumerate(stream, start=1))
        self.back: deque[tuple[int, str, str]] = deque()

    def __iter__(self) -> Iterator[tuple[int, str, str]]:
        return self

    def __next__(self) -> tuple[int, str, str]:
        return self.back.popleft() if self.back else next(self.lines)


def _quoted(line: int, text: str, lines: _Pushback, separator: str, fields: int) -> tuple[Record, int]:
    """The row that starts with a line that has quotes, and how many more lines it takes from ``lines``."""
    taken: list[tuple[int, str, str]] = []

    def texts() -> Iterator[str]:
        yield text + "\n"
        for more in islice(lines, MOST_LINES - 1):
            taken.append(more)
            yield more[1] + "\n"

    try:
        found, reason = next(csv.reader(texts(), delimiter=separator, strict=True)), ""
    except csv.Error as error:
        found, reason = [], f"malformed row ({error})"
    if not taken:
        return Record(line, text, found, reason), 0
    wrong = next((wrong for *_, wrong in taken if wrong), "")
    if reason or wrong or (fields and len(found) != fields):
        lines.back.extendleft(reversed(taken))
        return Record(line, text, [], "a double quote is opened and not closed"), 0
    return Record(line, "\n".join([text, *(more for _, more, _ in taken)]), found), len(taken)


def _decode(data: bytes, line: int, encoding: str) -> tuple[str, str]:
    """A line's text without its end, and a reason where it is not in the encoding."""
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if line == 1:
        data = data.removeprefix(codecs.BOM_UTF8)
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
    if dialect.columns and all(isinstance(column, int) for column in dialect.columns.values()):
        return _by_position(path, dialect.columns, first)
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


def header(path: Path, dialect: Dialect) -> list[str]:
    """The fields of the first row."""
    first = next(records(path, dialect), None)
    return [name.strip() for name in first.fields] if first else []


def _by_position(path: Path, columns: dict[str, int], first: Record) -> Layout:
    """Columns of a file without a header: all rows have as many fields as the first."""
    for role, position in columns.items():
        if position >= len(first.fields):
            raise FrugalError(
                f"{path}, line {first.line}: has no column {position} for the {role}: its {len(first.fields)} columns "
                f"count from 0: {first.text[:200]!r}"
            )
    return Layout(dict(columns), len(first.fields))


def _read_fast(path: Path, dialect: Dialect, layout: Layout, rules: Rules) -> RawInteractions | None:
    """All rows through Arrow's threads; None where anything at all is not as it should be."""
    total = _plain_lines(path, dialect)
    source = _single_separator(path, dialect)
    if total is None or source is None:
        return None
    # Whole numbers are the rule; other times are texts, each distinct one of which is parsed once.
    for time_type in (pa.int64(), pa.dictionary(pa.int32(), pa.string())):
        try:
            table = _arrow_table(source, dialect, layout, rules, time_type)
            break
        except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError):
            continue
    else:
        return None
    rows = table.num_rows
    if total != rows + bool(layout.header_line):
        return None
    kept, events = None, None
    if "event" in layout.positions:
        merged = _merged(table["event"])
        selected = select(merged.indices.to_numpy(), merged.dictionary.to_pylist(), rules.events)
        if selected is None or not selected[0].any():
            return None
        mask, events = selected
        kept, table = np.flatnonzero(mask), table.filter(pa.array(mask))
    rating = np.ones(table.num_rows, np.float32)
    if "rating" in layout.positions:
        rating = good_ratings(table["rating"].to_numpy(), rules)
        if rating is None:
            return None
    ids = [_ids(table[role], role, rules) for role in ("user", "item")]
    if None in ids:
        return None

    def locate(row: int) -> Place:
        skip = int(row if kept is None else kept[row]) + (layout.header_line > 0)
        record = next(islice(records(path, dialect), skip, None))
        return path, record.line, record.text

    timestamp, time = None, None
    if "timestamp" in layout.positions:
        times = _times(path, table["timestamp"], locate)
        if times is None:
            return None
        timestamp, time = times
    lines = Lines(total, header=int(layout.header_line > 0))
    return RawInteractions(*ids, rating, timestamp, rows, locate, time, lines, events)


def _plain_lines(path: Path, dialect: Dialect) -> int | None:
    """The number of lines of a file that Arrow cuts and decodes as `records` does; None where it might not.

    Arrow is lenient with quotes, ends lines at bare carriage returns, does not decode the columns that it does not
    keep, and takes 0x1F for a number.
    """
    total = 0
    with open(path, "rb") as stream:
        while data := stream.read(BLOCK):
            data += stream.readline()
            if total == 0 and data.startswith(codecs.BOM_UTF8) and codecs.lookup(dialect.encoding).name != "utf-8":
                return None
            if dialect.quoting and b'"' in data:
                return None
            if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
                return None
            if (b"x" in data and b"0x" in data) or (b"X" in data and b"0X" in data):
                return None
            try:
                data.decode(dialect.encoding)
            except UnicodeDecodeError:
                return None
            total += data.count(b"\n") + (not data.endswith(b"\n"))
    return total


def _arrow_table(
    source: Path | pa.Buffer, dialect: Dialect, layout: Layout, rules: Rules, time_type: pa.DataType
) -> pa.Table:
    names = [str(position) for position in range(layout.fields)]
    id_type = pa.int64() if rules.integer_ids else pa.dictionary(pa.int32(), pa.string())
    # float64: a float32 that is parsed as such may differ in its last bit from one that was rounded twice.
    types = {"user": id_type, "item": id_type, "rating": pa.float64(), "timestamp": time_type}
    types["event"] = pa.dictionary(pa.int32(), pa.string())
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
            quote_char=False,
            ignore_empty_lines=False,
        ),
        pacsv.ConvertOptions(
            column_types={columns[role]: types[role] for role in columns},
            include_columns=list(columns.values()),
            # No text stands for a missing number: an empty or NaN field is a bad row.
            null_values=[],
        ),
    )
    return table.rename_columns(list(columns))


def _times(
    path: Path, column: pa.ChunkedArray, locate: Callable[[int], Place]
) -> tuple[np.ndarray, dict[str, str]] | None:
    """A column of times in one unit; None where one of them is bad, or whole numbers are of several units."""
    if pa.types.is_integer(column.type):
        return join_whole(column.to_numpy())
    merged = _merged(column)
    try:
        parsed = [parse_timestamp(text) for text in merged.dictionary.to_pylist()]
    except BadRow:
        return None
    indices = merged.indices.to_numpy()
    ticks, codes = (
        np.array([time[part] for time in parsed], kind)[indices] for part, kind in enumerate((np.int64, np.uint8))
    )
    return join_times(path, ticks, codes, locate)


def _merged(column: pa.ChunkedArray) -> pa.DictionaryArray:
    merged = column.unify_dictionaries().combine_chunks()
    return merged.chunk(0) if isinstance(merged, pa.ChunkedArray) else merged


def _single_separator(path: Path, dialect: Dialect) -> Path | pa.Buffer | None:
    """The file as Arrow can read it: with a separator of one byte."""
    if len(dialect.separator) == 1:
        return path if dialect.separator.isascii() else None
    # In other encodings, the bytes of a separator may be those of a letter.
    if codecs.lookup(dialect.encoding).name not in ("utf-8", "ascii", "iso8859-1"):
        return None
    data = path.read_bytes()
    if UNIT_SEPARATOR in data:
        return None
    return pa.py_buffer(data.replace(dialect.separator.encode(dialect.encoding), UNIT_SEPARATOR))


def _ids(column: pa.ChunkedArray, role: str, rules: Rules) -> Ids | None:
    """Codes for a column of ids; None where one of them is bad."""
    if rules.integer_ids:
        return integer_ids(column.to_numpy())
    merged = _merged(column)
    codes, values = merged.indices.to_numpy(), merged.dictionary.to_pylist()
    if rules.events:
        codes, values = used(codes, values)
    values = good_ids(values, role, rules)
    return None if values is None else Ids(codes, values)


def _read_slow(path: Path, dialect: Dialect, layout: Layout, rules: Rules, bad: BadRows) -> RawInteractions:
    """Row by row: tells exactly which rows are bad, and keeps the others."""
    timed = "timestamp" in layout.positions
    events: Counter[str] | None = Counter() if "event" in layout.positions else None
    rows, collector, lines = 0, Collector(timed), Lines()
    for record in records(path, dialect, lines):
        if record.line == layout.header_line:
            lines.header = 1
            continue
        rows += 1
        try:
            if record.reason:
                raise BadRow(record.reason)
            if len(record.fields) != layout.fields:
                raise BadRow("wrong number of fields", f"{len(record.fields)} instead of {layout.fields}")
            values = {role: record.fields[position] for role, position in layout.positions.items()}
            if events is not None and not is_wanted(values["event"], rules.events, events):
                continue
            collector.add(
                record.line,
                parse_id(values["user"], "user", rules),
                parse_id(values["item"], "item", rules),
                parse_rating(values["rating"], rules) if "rating" in values else 1.0,
                parse_timestamp(values["timestamp"]) if timed else (0, 0),
            )
        except BadRow as error:
            bad.add(record.line, record.text, *error.args)

    def text_of(line: int) -> str:
        return next(record.text for record in records(path, dialect) if record.line == line)

    return replace(collector.result(path, rows, text_of, lines), events=events)
