"""Stand-ins of interaction files, in the format that a source of the table has."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from frugal.config.sources import Columns, FileSource, ItemColumns, is_pattern
from frugal.data.interactions.movielens import FLAGS
from frugal.errors import FrugalError
from frugal.rehearsal.world import Item, interactions, items

#: The event type of all interactions.
EVENT = "interaction"


def interaction_files(source: FileSource, file: str) -> dict[str, bytes]:
    """The members of a source of interactions: path inside its archive to content.

    Args:
        file: the name of the member of a source that names none.

    Raises:
        FrugalError: the source has a format, or names its members in a way, that no stand-in is made in.
    """
    if source.splits:
        raise FrugalError("members: no stand-in for a data set whose files bring a split of their own")
    ratings, catalogue = WRITERS[source.format](source)
    parts = source.members.get("ratings", file)
    named = [parts] if isinstance(parts, str) else list(parts)
    names = [_concrete(name) for name in named]
    if len(names) > 1 and source.format == "parquet":
        raise FrugalError("members.ratings: no stand-in for a Parquet table in several parts; name one part")
    members = dict(zip(names, _in_parts(source, ratings, len(names)), strict=True))
    if "items" in source.members:
        members[_concrete(str(source.members["items"]))] = catalogue
    return members


def _concrete(name: str) -> str:
    """A name that a pattern matches."""
    if is_pattern(name) and "[" in name:
        raise FrugalError(f"members: no stand-in for the pattern '{name}'; name the files, or use * and ?")
    return name.replace("*", "1").replace("?", "1")


def _in_parts(source: FileSource, ratings: bytes, count: int) -> list[bytes]:
    """A text file's lines in ``count`` parts, each with the header."""
    if count == 1:
        return [ratings]
    head = int(source.columns is not None and isinstance(source.columns.user, str))
    lines = ratings.splitlines(keepends=True)
    header, rows = lines[:head], lines[head:]
    size = -(-len(rows) // count)
    return [b"".join([*header, *rows[start : start + size]]) for start in range(0, len(rows), size)]


def _movielens_100k(source: FileSource) -> tuple[bytes, bytes]:
    ratings = _lines("\t", ((r.user, r.item, r.rating, r.time) for r in interactions()))
    rows = []
    for item in items():
        flags = [int(genre in item.genres) for genre in FLAGS]
        rows.append((item.number, item.title, "01-Jan-1995", "", "http://localhost/", *flags))
    return ratings.encode("latin-1"), _lines("|", rows).encode("latin-1")


def _movielens_dat(source: FileSource) -> tuple[bytes, bytes]:
    ratings = _lines("::", ((r.user, r.item, r.rating, r.time) for r in interactions()))
    catalogue = _lines("::", ((i.number, i.title, "|".join(i.genres) or "Drama") for i in items()))
    return ratings.encode("latin-1"), catalogue.encode("latin-1")


def _movielens_csv(source: FileSource) -> tuple[bytes, bytes]:
    ratings = [("userId", "movieId", "rating", "timestamp")]
    ratings += [(r.user, r.item, r.rating - 0.5 * (r.item % 2), r.time) for r in interactions()]
    catalogue = [("movieId", "title", "genres")]
    catalogue += [(i.number, i.title, "|".join(i.genres) or "(no genres listed)") for i in items()]
    return _csv(ratings), _csv(catalogue)


def _recbole(source: FileSource) -> tuple[bytes, bytes]:
    ratings = [("user_id:token", "item_id:token", "rating:float", "timestamp:float")]
    ratings += [(r.user, r.item, r.rating, r.time) for r in interactions()]
    catalogue = [("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")]
    for item in items():
        title, _, year = item.title.rpartition(" (")
        catalogue.append((item.number, title, year.rstrip(")"), " ".join(item.genres)))
    return _lines("\t", ratings).encode(), _lines("\t", catalogue).encode()


def _amazon(source: FileSource) -> tuple[bytes, bytes]:
    """Reviews as of 2014, sorted by product; their times are days."""
    lines = []
    for row in sorted(interactions(), key=lambda row: row.item):
        review = {
            "reviewerID": f"A{row.user:012}",
            "asin": f"B{row.item:09}",
            "reviewerName": f"Reader {row.user}",
            "helpful": [0, 0],
            "reviewText": "It does what it should.",
            "overall": float(row.rating),
            "summary": "Good",
            "unixReviewTime": row.time,
            "reviewTime": datetime.fromtimestamp(row.time, UTC).strftime("%m %d, %Y"),
        }
        lines.append(json.dumps(review))
    return "".join(f"{line}\n" for line in lines).encode(), b""


def _own_csv(source: FileSource) -> tuple[bytes, bytes]:
    encode = source.encoding or "utf-8"
    tables = (_table(source.columns, _interaction_cells), _table(source.item_columns, _item_cells(source)))
    first, second = (_csv(rows, source.separator or ",").decode().encode(encode, "replace") for rows in tables)
    return first, second


def _own_parquet(source: FileSource) -> tuple[bytes, bytes]:
    import pandas as pd

    def parquet(rows: list[Sequence[Any]]) -> bytes:
        stream = io.BytesIO()
        if rows:
            pd.DataFrame(rows[1:], columns=list(rows[0])).to_parquet(stream, index=False)
        return stream.getvalue()

    return (
        parquet(_table(source.columns, _interaction_cells)),
        parquet(_table(source.item_columns, _item_cells(source))),
    )


def _sequences(source: FileSource) -> tuple[bytes, bytes]:
    histories: dict[int, list[int]] = {}
    for row in interactions():
        histories.setdefault(row.user, []).append(row.item)
    lines = _lines(source.separator or " ", ((user, *history) for user, history in histories.items()))
    return lines.encode(), _csv(_table(source.item_columns, _item_cells(source)))


WRITERS: dict[str, Callable[[FileSource], tuple[bytes, bytes]]] = {
    "movielens-100k": _movielens_100k,
    "movielens-dat": _movielens_dat,
    "movielens-csv": _movielens_csv,
    "recbole": _recbole,
    "amazon-json": _amazon,
    "csv": _own_csv,
    "parquet": _own_parquet,
    "sequences": _sequences,
}


def _interaction_cells(role: str) -> Iterable[Any]:
    if role == "event":
        return [EVENT for _ in interactions()]
    names = {"user": "user", "item": "item", "rating": "rating", "timestamp": "time"}
    return [getattr(row, names[role]) for row in interactions()]


def _item_cells(source: FileSource) -> Callable[[str], Iterable[Any]]:
    def cell(role: str, item: Item) -> Any:
        if role == "attributes":
            return source.attribute_separator.join(item.genres)
        return {"item": item.number, "title": item.title, "year": 1930 + item.number % 80}[role]

    return lambda role: [cell(role, item) for item in items()]


def _table(columns: Columns | ItemColumns | None, cells: Callable[[str], Iterable[Any]]) -> list[Sequence[Any]]:
    """Rows with the columns that a source names, below a header; without one where it gives positions."""
    given = columns.model_dump(exclude_none=True) if columns is not None else {}
    if not given:
        return []
    if isinstance(next(iter(given.values())), str):
        return [tuple(given.values()), *zip(*(cells(role) for role in given), strict=True)]
    at = {position: list(cells(role)) for role, position in given.items()}
    count = len(next(iter(at.values())))
    return [[at[i][row] if i in at else "" for i in range(max(at) + 1)] for row in range(count)]


def _csv(rows: Iterable[Sequence[Any]], separator: str = ",") -> bytes:
    if len(separator) > 1:
        return _lines(separator, rows).encode()
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode()


def _lines(separator: str, rows: Iterable[Sequence[Any]]) -> str:
    return "".join(f"{separator.join(map(str, row))}\n" for row in rows)
