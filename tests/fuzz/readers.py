"""Generated files of interactions, and what the fast and the strict reader make of each."""

import io
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from frugal.data.interactions import delimited
from frugal.data.interactions.delimited import Dialect, find_columns, records
from frugal.data.interactions.reading import dialect_of_parts, join_tables
from frugal.data.interactions.rows import BadRows, RawInteractions, Rules
from frugal.errors import FrugalError

SEPARATORS = (",", "\t", ";", "|", " ", "::")
ENDS = (b"\n", b"\n", b"\n", b"\r\n", b"\r", b"\n\n", b" \n")
ENCODINGS = ("utf-8", "latin-1", "cp1252")
IDS = ("1", "2", "17", "ann", "Žofie", "007", "1.0", "2.00", " 3 ", "é", "a b", "9223372036854775807")
ODD_IDS = (
    "",
    "0x10",
    "nan",
    "NULL",
    r"\N",
    "None",
    "-3",
    "+4",
    '"x"',
    '"a',
    'b"',
    '""',
    "1e3",
    "99999999999999999999",
    "\x1f",
)
RATINGS = ("1", "5", "4.5", "0.1", "3.3333333333", "1e2", " 2", "-1")
ODD_RATINGS = ("", "nan", "inf", "1e39", "good", "1_0", "0x5", "4,5")
TIMES = {
    "s": ("881250949", "0", "1000", "-5", "1112486027.0", "12.5"),
    "ms": ("1700000000000", "1700000000123", "1700000000000.5"),
    "ns": ("1700000000000000000", "1700000000000000001"),
    "text": ("2018-09-20", "2019-10-01 00:00:00 UTC", "2019-10-01T00:00:00.123456789Z", "2020-02-29T23:59:59+02:00"),
}
EVENTS = ("buy", "view", " buy ", "1", "1.0", "Käufe")
ODD_EVENTS = ("", "null", '"buy"', "0x1")
ODD_TIMES = ("", "soon", "2018-13-01", "0x1F", "1e300", "NaT", "12:00", "9223372036854775808")


def generate(seed: int) -> tuple[bytes, Dialect, Rules]:
    """A file and how it is to be read; most of its rows are sound, and most files have no odd row at all."""
    draw = random.Random(seed)
    separator, encoding = draw.choice(SEPARATORS), draw.choice(ENCODINGS)
    oddness = draw.choice((0, 0, 0, 0.02, 0.2))
    times = TIMES[draw.choice(list(TIMES))]
    roles = [
        "user",
        "item",
        *(["rating"] if draw.random() < 0.7 else []),
        *(["timestamp"] if draw.random() < 0.8 else []),
    ]
    events = draw.choice((("buy",), ("buy", "1"))) if draw.random() < 0.3 else None
    roles += ["event"] if events else []
    columns = [*roles, *(["note"] if draw.random() < 0.3 else [])]
    draw.shuffle(columns)
    plain = draw.random() < 0.3

    def field(column: str) -> str:
        usual, odd = {
            "user": (IDS, ODD_IDS),
            "item": (IDS, ODD_IDS),
            "rating": (RATINGS, ODD_RATINGS),
            "timestamp": (times, ODD_TIMES),
            "event": (EVENTS, ODD_EVENTS),
            "note": (("", "fine", "so so"), ('"open', 'so "so"', "Ω")),
        }[column]
        if plain and column in ("user", "item"):
            return str(draw.randrange(50))
        return draw.choice(odd if draw.random() < oddness else usual)

    lines = [separator.join(columns)] if draw.random() < 0.7 else []
    header = bool(lines)
    for _ in range(draw.randrange(1, 30)):
        row = [field(column) for column in columns]
        if draw.random() < oddness / 4:
            row.append("more") if draw.random() < 0.5 else row.pop()
        lines.append(separator.join(row))
    end = draw.choice(ENDS) if draw.random() < 0.3 else b"\n"
    data = end.join(line.encode(encoding, errors="replace") for line in lines) + draw.choice((b"", end, b"\n"))
    if draw.random() < 0.05:
        data = b"\xef\xbb\xbf" + data
    if draw.random() < oddness / 2:
        place = draw.randrange(len(data))
        data = data[:place] + draw.choice((b"\xff", b"\0", b'"', b"\r", b"\n")) + data[place:]
    named = {role: role if header else columns.index(role) for role in roles}
    quoting = len(separator) == 1 and draw.random() < 0.6
    rules = Rules(draw.choice((None, None, (0, 5))), integer_ids=draw.random() < 0.2, events=events)
    return data, Dialect(separator, named, quoting=quoting, encoding=encoding), rules


def difference(seed: int, folder: Path) -> str | None:
    """Where the readers differ on the file of a seed; None where they do not.

    The fast reader may refuse a file. What it takes, the strict one has to take as well, with the same rows.
    """
    data, dialect, rules = generate(seed)
    path = folder / f"{seed}.csv"
    path.write_bytes(data)
    try:
        layout = find_columns(path, dialect)
    except FrugalError:
        return None
    fast = delimited._read_fast(path, dialect, layout, rules)
    if fast is None:
        return None
    try:
        strict = delimited._read_slow(path, dialect, layout, rules, BadRows(path))
    except FrugalError as error:
        return f"seed {seed}: the fast reader takes {data!r}, the strict one does not: {error}"
    one, two = contents(fast), contents(strict)
    different = [name for name in one if one[name] != two[name]]
    return f"seed {seed}: {', '.join(different)} of {data!r}" if different else None


def contents(rows: RawInteractions) -> dict[str, object]:
    return {
        "users": [rows.user.values[code].strip() for code in rows.user.codes],
        "items": [rows.item.values[code].strip() for code in rows.item.codes],
        "ratings": rows.rating.tolist(),
        "times": None if rows.timestamp is None else rows.timestamp.tolist(),
        "unit": rows.time,
        "rows_read": rows.rows_read,
        "lines": rows.lines,
        "events": rows.events,
    }


def _first_line(data: bytes) -> bytes:
    """Up to the first line feed; where there is none, to the first carriage return, which beside one is a character."""
    end = b"\n" if b"\n" in data else b"\r"
    line, found, _ = data.partition(end)
    return line + found


def parts_difference(seed: int, folder: Path) -> str | None:
    """Where either reader differs between the file of a seed and its rows cut into parts; None where neither does."""
    data, dialect, rules = generate(seed)
    whole = folder / f"{seed}.csv"
    whole.write_bytes(data)
    try:
        layout = find_columns(whole, dialect)
    except FrugalError:
        return None
    rows = _rows_of(data, whole, dialect)
    if rows is None:
        return None
    head, rows = rows[: bool(layout.header_line)], rows[bool(layout.header_line) :]
    draw = random.Random(seed)
    bounds = [0, *sorted(draw.randrange(1, len(rows) + 1) for _ in range(draw.randrange(1, 4)) if rows), len(rows)]
    paths = []
    for low, high in pairwise(bounds):
        if head or low < high:
            paths.append(folder / f"{seed}-part-{len(paths)}.csv")
            paths[-1].write_bytes(b"".join([*head, *rows[low:high]]))
            head = [_first_line(first) for first in head]  # blank lines after the header come once
    try:
        shared = dialect_of_parts(paths, dialect)
    except FrugalError as error:
        return f"seed {seed}: parts of {data!r} are refused: {error}"
    for reader in (_fast, _slow):
        one, two = outcome(reader, [whole], dialect, rules), outcome(reader, paths, shared, rules)
        if reader is _fast and (one is None or two is None):  # parts may be read fast where the whole is not
            continue
        if one != two:
            return f"seed {seed}: {reader.__name__}: {one} of {data!r}, {two} of its parts"
    return None


def _rows_of(data: bytes, path: Path, dialect: Dialect) -> list[bytes] | None:
    """The bytes of each row, blank lines with the row before; None where the file begins with a blank line."""
    lines = list(io.BytesIO(data))
    starts = [record.line - 1 for record in records(path, dialect)]
    if not lines or starts[0]:
        return None
    return [b"".join(lines[low:high]) for low, high in zip(starts, [*starts[1:], len(lines)], strict=True)]


def _fast(path: Path, dialect: Dialect, rules: Rules) -> RawInteractions | None:
    return delimited._read_fast(path, dialect, find_columns(path, dialect), rules)


def _slow(path: Path, dialect: Dialect, rules: Rules) -> RawInteractions:
    return delimited._read_slow(path, dialect, find_columns(path, dialect), rules, BadRows(path, skip=True))


def outcome(reader: Callable[..., RawInteractions | None], paths: list[Path], dialect: Dialect, rules: Rules) -> object:
    """What a reader makes of the parts of a table, headers aside: None where it refuses one, "error" where it fails."""
    try:
        tables = [reader(path, dialect, rules) for path in paths]
        if any(table is None for table in tables):
            return None
        rows = contents(join_tables(paths, tables))
    except FrugalError:
        return "error"
    rows["lines"] = replace(rows["lines"], total=rows["lines"].total - rows["lines"].header, header=0)
    return rows
