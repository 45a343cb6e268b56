"""The formats of MovieLens: 100K (u.data), 1M (``::``), 20M (CSV), and RecBole's atomic files."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from frugal.data.interactions.delimited import Dialect, find_columns, records
from frugal.data.interactions.rows import BadRow, BadRows, Rules, parse_id
from frugal.errors import FrugalError

ROLES = ("user", "item", "rating", "timestamp")
IN_ORDER = {role: position for position, role in enumerate(ROLES)}
RATINGS = {
    "movielens-100k": Dialect("\t", IN_ORDER, fields=4),
    "movielens-dat": Dialect("::", IN_ORDER, fields=4),
    "movielens-csv": Dialect(
        ",", dict(zip(ROLES, ("userId", "movieId", "rating", "timestamp"), strict=True)), quoting=True
    ),
}
#: The columns of RecBole's atomic files, by their usual names; those of MovieLens-100K come first.
RECBOLE_RATINGS = {"user": ("user_id",), "item": ("item_id",), "rating": ("rating",), "timestamp": ("timestamp",)}
RECBOLE_ITEMS = {
    "item": ("item_id",),
    "title": ("movie_title", "title", "item_name", "name"),
    "year": ("release_year", "year"),
    "genres": ("class", "genre", "genres", "categories", "category"),
}
# The columns 5 to 23 of u.item are flags for these, in this order. The first is no genre.
# fmt: off
FLAGS = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
NO_ATTRIBUTE = ("", "unknown", "(no genres listed)")
# What RecBole's MovieLens-100K writes for the one film without title and date.
UNKNOWN = ("unkonwn", "unknown")
YEAR = re.compile(r"\((\d{4})(?:\s*[-\u2013]\s*(?:\d{4})?\s*)?\)")


@dataclass(frozen=True)
class Item:
    """One item as its file describes it; ``id`` is the file's own."""

    id: str
    title: str
    year: int | None
    attributes: tuple[str, ...]


def year_of(title: str) -> int | None:
    """The year in the last parenthesis that holds one: 1995 for ``Toy Story (1995)``."""
    years = YEAR.findall(title)
    return int(years[-1]) if years else None


def split_attributes(text: str, separator: str) -> tuple[str, ...]:
    """Attributes, such as genres, without blanks and without the words that stand for none."""
    values = (value.strip() for value in text.split(separator))
    return tuple(value for value in values if value not in NO_ATTRIBUTE)


def read_movielens_items(path: Path, form: str, encoding: str | None, bad: BadRows) -> list[Item]:
    """The item file of one of the four formats, in its order.

    The files of 100K and 1M are in latin-1; copies converted to UTF-8 are recognised.

    Raises:
        FrugalError: a row is bad and ``bad`` does not skip.
    """
    # Text with accents in latin-1 is practically never valid UTF-8, so the attempt decides.
    encoding = encoding or ("utf-8" if _is_utf8(path) or form in ("movielens-csv", "recbole") else "latin-1")
    if form == "movielens-100k":
        rows = _rows(path, Dialect("|", {}, fields=5 + len(FLAGS), encoding=encoding), bad)
        return unique(path, rows, _item_100k, bad)
    if form == "movielens-dat":
        rows = _rows(path, Dialect("::", {}, fields=3, encoding=encoding), bad)
        return unique(path, rows, lambda f: _item(f[0], f[1], split_attributes(f[2], "|")), bad)
    if form == "movielens-csv":
        columns = {"item": "movieId", "title": "title", "genres": "genres"}
        rows = _rows(path, Dialect(",", columns, quoting=True, encoding=encoding), bad)
        return unique(path, rows, lambda f: _item(f[0], f[1], split_attributes(f[2], "|")), bad)
    columns = present(path, RECBOLE_ITEMS, encoding)
    rows = _rows(path, Dialect("\t", columns, typed_header=True, encoding=encoding), bad)
    return unique(path, rows, lambda fields: _item_recbole(dict(zip(columns, fields, strict=True))), bad)


def present(path: Path, names: dict[str, tuple[str, ...]], encoding: str = "utf-8") -> dict[str, str]:
    """Role -> column, for the columns that an atomic file of RecBole has; the first name of a role that has none is
    kept where the role is needed: user and item.
    """
    header = next(records(path, Dialect("\t", {}, encoding=encoding)), None)
    known = {name.strip().partition(":")[0] for name in header.fields} if header else set()
    found = {role: next((name for name in usual if name in known), None) for role, usual in names.items()}
    return {role: name or names[role][0] for role, name in found.items() if name or role in ("user", "item")}


Row = tuple[int, str, list[str]]


def unique(path: Path, rows: Iterator[Row], make: Callable[[list[str]], Item], bad: BadRows) -> list[Item]:
    """Items from rows (line, text, fields); a second row for the same id is a bad row."""
    items: dict[str, Item] = {}
    for line, text, fields in rows:
        try:
            item = make(fields)
            if item.id in items:
                raise BadRow("item is described twice")
            items[item.id] = item
        except BadRow as error:
            bad.add(line, text, *error.args)
    if not items:
        raise FrugalError(f"{path}: describes no item")
    return list(items.values())


def _rows(path: Path, dialect: Dialect, bad: BadRows) -> Iterator[Row]:
    """Line, text and the fields of the dialect's columns (all of them without a header)."""
    layout = find_columns(path, dialect)
    for record in records(path, dialect):
        if record.line == layout.header_line:
            continue
        if record.reason:
            bad.add(record.line, record.text, record.reason)
        elif len(record.fields) != layout.fields:
            bad.add(
                record.line,
                record.text,
                "wrong number of fields",
                f"{len(record.fields)} instead of {layout.fields}",
            )
        else:
            chosen = layout.positions.values() or range(layout.fields)
            yield record.line, record.text, [record.fields[position] for position in chosen]


def _item(original: str, title: str, genres: tuple[str, ...], integer_ids: bool = True) -> Item:
    title = title.strip()
    return Item(parse_id(original, "item", Rules(integer_ids=integer_ids)), title, year_of(title), genres)


def _item_100k(fields: list[str]) -> Item:
    flags = fields[5:]
    if not set(flags) <= {"0", "1"}:
        raise BadRow("a genre flag is neither 0 nor 1")
    genres = tuple(name for name, flag in zip(FLAGS, flags, strict=True) if flag == "1" and name != "unknown")
    return _item(fields[0], fields[1], genres)


def _item_recbole(fields: dict[str, str]) -> Item:
    """RecBole cuts the last parenthesis off the title and calls it the year; put it back."""
    original = fields["item"].strip()
    title, year = fields.get("title", "").strip() or original, fields.get("year", "").strip()
    title = "unknown" if title in UNKNOWN else title
    if year and year not in UNKNOWN:
        title = f"{title} ({year})"
    return _item(original, title, split_attributes(fields.get("genres", ""), " "), integer_ids=False)


def _is_utf8(path: Path) -> bool:
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
