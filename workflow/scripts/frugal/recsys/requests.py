"""Histories to recommend for, read one user at a time: JSON lines, CSV or Parquet, with the data's own ids.

A user's history stands in one JSON object or Parquet row (`history`, oldest item first), or in consecutive rows with
one interaction each, as in a file of interactions.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from frugal.config.errors import describe, nearest
from frugal.config.own_data import SEPARATORS, guess
from frugal.data import JSON_LINES
from frugal.data.interactions.delimited import Dialect, records
from frugal.data.interactions.nulls import BadRow
from frugal.data.interactions.rows import Rules, parse_id
from frugal.data.interactions.times import Mixture, join, parse_timestamp
from frugal.data.lines import STANDARD, numbered_lines
from frugal.errors import FrugalError, blaming

#: The column, or key, with all items of a user.
HISTORY = "history"
ROLES = ("user", "item", "timestamp", HISTORY)
#: Rows of a Parquet file that are held at once.
ROWS = 16_384
LARGEST_EXACT = 2**53


@dataclass(frozen=True)
class Request:
    """One user to recommend for.

    Attributes:
        user: the user's id; None where none is given.
        history: the ids of the items, oldest first; None: the user is named by id alone.
    """

    user: str | None
    history: list[str] | None


class Row(NamedTuple):
    """One interaction; the time is text, or ticks of one unit, or None where there is no such column."""

    place: str
    user: str
    item: str | None
    time: str | int | None


def read_requests(source: str, columns: Mapping[str, str] | None = None) -> Iterator[Request]:
    """The requests of a file, one by one, in its order; see the module's description.

    Args:
        source: a .jsonl, .ndjson, .csv, .tsv or .parquet file; "-" is JSON lines on the standard input.
        columns: role (user, item, timestamp, history) to the column's name, where it is no usual one.

    Raises:
        FrugalError: the file cannot be read, is empty or of another kind, a column is missing, or a record is
            malformed; the message names file and line (Parquet: row).
    """
    columns, suffix = dict(columns or {}), Path(source).suffix.lower()
    if unknown := columns.keys() - set(ROLES):
        raise FrugalError(f"--fields: there is no role '{min(unknown)}'{nearest(min(unknown), list(ROLES))}")
    if source == STANDARD or suffix in JSON_LINES:
        if columns:
            raise FrugalError('--fields: JSON lines have no columns; their keys are "user" and "history"')
        requests = _json_requests(source)
    elif suffix in (".csv", ".tsv"):
        requests = _by_user(source, _csv_rows(Path(source), columns))
    elif suffix == ".parquet":
        requests = _parquet_requests(Path(source), columns)
    else:
        raise FrugalError(f"{source}: wanted are histories as .jsonl, .ndjson, .csv, .tsv or .parquet")
    empty = True
    for request in requests:
        empty = False
        yield request
    if empty:
        raise FrugalError(f"{source}: holds no histories")


def id_text(value: Any, role: str) -> str:
    """An id as text, as the data's preparation writes it: numbers without a fraction are whole numbers.

    Raises:
        BadRow: it is no id.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_EXACT:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRow(f"the {role} id must be a text or a whole number, got {describe(value)}")
    return parse_id(str(value), role, Rules())


def _json_requests(source: str) -> Iterator[Request]:
    name = "standard input" if source == STANDARD else source
    for number, line in numbered_lines(source):
        try:
            yield _json_request(line)
        except BadRow as error:
            raise FrugalError(f"{name}, line {number}: {error}: {line.strip()[:200]!r}") from None


def _json_request(line: str) -> Request:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRow("not JSON") from None
    if not isinstance(record, dict):
        raise BadRow('not a JSON object with "history", a list of item ids, and "user"')
    if unknown := [key for key in record if key not in ("user", HISTORY)]:
        raise BadRow(f"unknown key '{unknown[0]}'{nearest(unknown[0], ['user', HISTORY])}")
    user = None if record.get("user") is None else id_text(record["user"], "user")
    if user is None and HISTORY not in record:
        raise BadRow('neither "history" nor "user" is given')
    return Request(user, _items(record[HISTORY]) if HISTORY in record else None)


def _items(values: Any) -> list[str]:
    if not isinstance(values, list):
        raise BadRow(f"the history must be a list of item ids, got {describe(values)}")
    return [id_text(value, "item") for value in values]


def _csv_rows(path: Path, columns: dict[str, str]) -> Iterator[Row]:
    try:
        first = next(records(path, Dialect("\n", {})), None)
        if first is None:
            raise FrugalError(f"{path}: the file is empty")
        separator = "\t" if path.suffix.lower() == ".tsv" else max(SEPARATORS, key=first.text.count)
        rows = records(path, Dialect(separator, {}, quoting=True))
        names = [name.strip() for name in next(rows).fields]
        chosen = _chosen(path, names, columns, ("user", "item", "timestamp"))
        places = {role: names.index(name) for role, name in chosen.items()}
        for record in rows:
            if record.reason or len(record.fields) != len(names):
                raise FrugalError(
                    f"{path}, line {record.line}: "
                    f"{record.reason or f'{len(record.fields)} fields instead of {len(names)}'}: {record.text[:200]!r}"
                )
            values = {role: record.fields[place] for role, place in places.items()}
            yield _row(path, f"line {record.line}", values)
    except OSError as error:
        raise FrugalError(f"{path}: cannot be read: {error.strerror}") from None


def _chosen(path: Path, names: list[str], given: Mapping[str, str], roles: Iterable[str]) -> dict[str, str]:
    """Role -> column, as given or by its usual name."""
    for role, name in given.items():
        if names.count(name) != 1:
            raise FrugalError(f"{path}: has no column '{name}' for the {role}{nearest(name, names)}")
    found = guess([name for name in names if name not in given.values()]) | dict(given)
    if HISTORY in names:
        found.setdefault(HISTORY, HISTORY)
    if "user" not in found and not (HISTORY in found and HISTORY in roles):
        raise FrugalError(
            f"{path}: no column has a usual name for the user; its columns are {', '.join(names)[:200]}. Name them: "
            "--fields user=... item=..."
        )
    if HISTORY in given and HISTORY not in roles:
        raise FrugalError(f"{path}: a {path.suffix} file has one item in each row: --fields item=...")
    if not {"item", HISTORY} & found.keys() & set(roles) and len(names) > 1:
        raise FrugalError(
            f"{path}: no column has a usual name for the item; its columns are {', '.join(names)[:200]}. Name it: "
            f"--fields item=...; a file with the column {found['user']} alone asks for users of the training data"
        )
    return {role: found[role] for role in roles if role in found}


def _row(path: Path, place: str, values: Mapping[str, Any]) -> Row:
    try:
        item = id_text(values["item"], "item") if "item" in values else None
        if "timestamp" in values and values["timestamp"] is None:
            raise BadRow("timestamp is missing")
        return Row(place, id_text(values["user"], "user"), item, values.get("timestamp"))
    except BadRow as error:
        raise FrugalError(f"{path}, {place}: {error}") from None


def _by_user(source: str, rows: Iterable[Row]) -> Iterator[Request]:
    """A request for each user, whose rows are consecutive; in the order of time, of equal times in that of the rows."""
    # A number for each id, since there may be millions.
    seen: set[int] = set()
    for user, group in groupby(rows, key=lambda row: row.user):
        own = list(group)
        if own[0].item is None:
            yield from (Request(row.user, None) for row in own)
            continue
        if hash(user) in seen:
            raise FrugalError(
                f"{source}, {own[0].place}: the user {user!r} has rows further up already; sort the rows by user"
            )
        seen.add(hash(user))
        yield Request(user, [own[place].item for place in _time_order(source, own)])


def _time_order(source: str, rows: list[Row]) -> Iterable[int]:
    if rows[0].time is None or len(rows) == 1:
        return range(len(rows))
    if isinstance(rows[0].time, int):
        return np.argsort([row.time for row in rows], kind="stable").tolist()
    times = []
    for row in rows:
        try:
            times.append(parse_timestamp(str(row.time)))
        except BadRow as error:
            raise FrugalError(f"{source}, {row.place}: {error}") from None
    ticks, codes = zip(*times, strict=True)
    try:
        joined, _ = join(np.array(ticks, np.int64), np.array(codes, np.uint8))
    except (Mixture, OverflowError):
        raise FrugalError(
            f"{source}, {rows[0].place}: the times of the user {rows[0].user!r} are not written in one way"
        ) from None
    return np.argsort(joined, kind="stable").tolist()


def _parquet_requests(path: Path, columns: dict[str, str]) -> Iterator[Request]:
    with blaming(path, "not a readable Parquet file"):
        names = pq.read_schema(path).names
        chosen = _chosen(path, names, columns, ROLES)
        if HISTORY not in chosen:
            yield from _by_user(str(path), (_row(path, *values) for values in _parquet_values(path, chosen)))
            return
        for place, values in _parquet_values(
            path, {role: chosen[role] for role in chosen if role in ("user", HISTORY)}
        ):
            try:
                user = None if values.get("user") is None else id_text(values["user"], "user")
                yield Request(user, _items(values[HISTORY]))
            except BadRow as error:
                raise FrugalError(f"{path}, {place}: {error}") from None


def _parquet_values(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place of each row and its values by role; times as ticks where Parquet knows them as such."""
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS, columns=list(columns.values())):
            values = {role: batch.column(name) for role, name in columns.items()}
            for role, column in values.items():
                if role == "timestamp" and pa.types.is_temporal(column.type):
                    values[role] = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
                elif role == "timestamp":
                    values[role] = pa.array([None if one is None else str(one) for one in column.to_pylist()])
            lists = [column.to_pylist() for column in values.values()]
            for row in zip(*lists, strict=True):
                number += 1
                yield f"row {number}", dict(zip(values, row, strict=True))
