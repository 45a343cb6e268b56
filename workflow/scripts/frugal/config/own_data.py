"""Describe a user's own file or folder as a source of a data set: its format, its files and their columns."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet

from frugal.config.errors import nearest
from frugal.data import JSON_LINES
from frugal.data.interactions.nulls import BadRow
from frugal.data.interactions.times import parse_timestamp
from frugal.data.source.parts import PARTS
from frugal.errors import FrugalError, blaming
from frugal.kinds import PREFERENCE, RECOMMENDATION, Kind

#: Role -> usual names of its column, the likeliest first, in lower case and without separators.
INTERACTION_NAMES = {
    "user": "user userid uid reviewerid customer customerid member memberid visitorid account accountid reader "
    "readerid sessionid session",
    "item": "item itemid iid movie movieid film filmid product productid asin sku book bookid isbn article articleid "
    "track trackid song songid game gameid",
    "rating": "rating ratings stars score overall",
    "timestamp": "timestamp time unixreviewtime ts datetime date createdat when",
}
#: Usual names of a column of event types. It is not guessed: which types to keep is the user's choice.
EVENT_NAMES = {"event": "event eventtype eventname action actiontype behavior behaviour behaviortype interactiontype"}
#: Role -> usual names of the files of a split, without their ending.
SPLIT_NAMES = {"train": "train training", "validation": "validation valid val dev", "test": "test testing"}
ITEM_NAMES = {
    "item": f"{INTERACTION_NAMES['item']} id",
    "title": "title name itemtitle itemname movietitle producttitle booktitle",
    "attributes": "attributes genres genre categories category tags class",
    "year": "year releaseyear publicationyear",
}
TABLES, TEXTS, SEQUENCES, PDFS = (".csv", ".tsv", ".parquet"), (".txt", *JSON_LINES), (".txt", ".seq"), (".pdf",)
SEPARATORS = ",;\t|"
FEWEST_DOCUMENTS = 3
#: Bytes of a file that are looked at.
BEGINNING = 2**20


def describe_source(data: Path, kind: Kind, columns: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The source of an entry of config/datasets.yaml for ``data``, and notes for the user.

    Args:
        data: a file, or a folder.
        kind: the experiment's, which decides whether interactions or documents are looked for.
        columns: role (user, item, rating, timestamp) to the column's name, where the user has given it.

    Raises:
        FrugalError: there is nothing to read, or nothing that the kind can use; columns cannot be guessed.
    """
    if not data.exists():
        raise FrugalError(f"{data}: there is no such file or folder; give DATA the path of your data")
    files = sorted(path for path in data.rglob("*") if path.is_file()) if data.is_dir() else [data]
    files = [path for path in files if not path.name.startswith(".")]
    if not any(path.stat().st_size for path in files):
        raise FrugalError(f"{data}: is empty")
    if kind.reads == "documents":
        if columns:
            raise FrugalError(f"FIELDS: an experiment of the kind '{kind.name}' reads texts, which have no columns")
        return _documents(data, files), []
    return _interactions(data, files, kind, columns)


def _documents(data: Path, files: Sequence[Path]) -> dict[str, Any]:
    found = {
        name: count
        for name, suffixes in {"pdf": PDFS, "text": TEXTS}.items()
        if (count := sum(path.suffix.lower() in suffixes for path in files))
    }
    if not found:
        raise FrugalError(
            f"{data}: holds no text; wanted: .txt (one document), .jsonl or .ndjson (one document a line) or .pdf"
        )
    if len(found) > 1:
        counted = " and ".join(f"{count} of the format '{name}'" for name, count in found.items())
        raise FrugalError(f"{data}: holds {counted}; put them into two folders, and name one as DATA")
    format, count = found.popitem()
    if count < FEWEST_DOCUMENTS and not any(path.suffix.lower() in JSON_LINES for path in files):
        raise FrugalError(
            f"{data}: holds {count} document{'s' * (count > 1)}, and at least {FEWEST_DOCUMENTS} are needed, for "
            "training, validation and test: cut the text into several .txt files, or lines of a .jsonl file"
        )
    return {"path": str(data), "format": format}


def _interactions(
    data: Path, files: Sequence[Path], kind: Kind, columns: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    tables = [path for path in files if path.suffix.lower() in TABLES]
    tables = [path for path in tables if path.stat().st_size or not path.match(PARTS)]
    if not data.is_dir() and data.suffix.lower() in SEQUENCES and kind is not PREFERENCE and not columns:
        return {"path": str(data), "format": "sequences"}, []
    if not tables:
        raise FrugalError(
            f"{data}: is no table; wanted: a .csv, .tsv or .parquet file of interactions, for the kind "
            "'recommendation' also a .txt file with a user and then the user's items, in order, in each line"
        )
    headers = {}
    for path in tables:
        with blaming(path, "cannot be read"):
            headers[path] = _header(path)
    split = _split_files(headers) if kind is RECOMMENDATION else {}
    ratings = split["train"] if split else _file_of_ratings(data, headers, columns)
    names, _, row = headers[ratings]
    chosen = _columns(ratings, names, columns)
    notes = _time_notes(ratings, chosen, names, row)
    if event := guess(names, EVENT_NAMES).get("event"):
        notes.append(
            f"The column {event!r} may hold event types: rows of all types are taken. To keep some, add it to the "
            f"columns (event: {event}) and name them (events: [purchase]), see docs/how-to/own-data.md."
        )
    source: dict[str, Any] = {
        "path": str(data),
        "format": "parquet" if ratings.suffix.lower() == ".parquet" else "csv",
    }
    items = next((path for path in tables if path != ratings and _is_item_file(headers[path][0])), None)
    if data.is_dir():
        several = len(_parts(ratings, headers)) > 1
        name = ratings.with_name(f"{PARTS}{ratings.suffix}") if several else ratings
        files = split or {"ratings": name}
        source["members"] = {role: str(path.relative_to(data)) for role, path in files.items()}
        if items:
            source["members"]["items"] = str(items.relative_to(data))
    source["columns"] = chosen
    if items:
        source["item_columns"] = guess(headers[items][0], ITEM_NAMES)
    if kind is PREFERENCE and "title" not in source.get("item_columns", {}):
        raise FrugalError(
            f"{data}: an experiment of the kind 'preference' asks a language model about titles: DATA must be a folder "
            "with the file of ratings and a file of items, which has a column item (or item_id) and a column title; "
            "attributes such as genres or categories help"
        )
    separators = {headers[path][1] for path in (ratings, items) if path} - {None}
    if len(separators) > 1:
        raise FrugalError(f"{ratings} and {items}: have different separators; write both with the same")
    if separators - {","}:
        source["separator"] = separators.pop()
    return source, notes


def _file_of_ratings(data: Path, headers: Mapping[Path, Any], columns: Mapping[str, str]) -> Path:
    """The table that has users and items."""
    if len(headers) == 1:
        return next(iter(headers))
    wanted = [path for path, (names, _, _) in headers.items() if {"user", "item"} <= (guess(names) | columns).keys()]
    if columns:
        wanted = [path for path in wanted if set(columns.values()) <= set(headers[path][0])]
    if len(wanted) == 1 or (wanted and wanted == _parts(wanted[0], headers)):
        return wanted[0]
    seen = "; ".join(f"{path.name}: {', '.join(names)[:100]}" for path, (names, _, _) in headers.items())
    found = "several files" if wanted else "no file"
    raise FrugalError(f"{data}: {found} with a column for users and one for items; name one file as DATA. Seen: {seen}")


def _split_files(headers: Mapping[Path, Any]) -> dict[str, Path]:
    """The files of a split, by their names: training, maybe validation, and test; empty without one of each."""
    named = {
        role: [path for path in headers if path.stem.lower() in words.split()] for role, words in SPLIT_NAMES.items()
    }
    if len(named["train"]) != 1 or len(named["test"]) != 1 or len(named["validation"]) > 1:
        return {}
    return {role: path for role, paths in named.items() for path in paths}


def _parts(one: Path, headers: Mapping[Path, Any]) -> list[Path]:
    """The files that are parts of the same table as ``one``, as Spark and Hadoop write it."""
    if not one.match(PARTS):
        return [one]
    alike = one.parent, one.suffix, headers[one][:2]
    return [path for path in headers if path.match(PARTS) and (path.parent, path.suffix, headers[path][:2]) == alike]


def _is_item_file(names: Sequence[str]) -> bool:
    found = guess(names, ITEM_NAMES)
    return "item" in found and len(found) > 1 and "user" not in guess(names)


def guess(names: Sequence[str], usual: Mapping[str, str] = INTERACTION_NAMES) -> dict[str, str]:
    """Role -> the column of a usual name; roles for which there is none are left out."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    return {
        role: plain[found] for role, words in usual.items() if (found := next(filter(plain.get, words.split()), None))
    }


def _columns(file: Path, names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Role -> column: as given, or else guessed."""
    for role, name in given.items():
        if role not in INTERACTION_NAMES:
            raise FrugalError(f"FIELDS: there is no role '{role}'{nearest(role, list(INTERACTION_NAMES))}")
        if name not in names:
            raise FrugalError(f"FIELDS: {file} has no column '{name}'{nearest(name, list(names))}")
    free = [name for name in names if name not in given.values()]
    chosen = guess(free) | given
    if missing := [role for role in ("user", "item") if role not in chosen]:
        raise FrugalError(
            f"{file}: no column has a usual name for the {' and the '.join(missing)}; its columns are "
            f'{", ".join(names)[:300]}. Name them: FIELDS="user=... item=... rating=... timestamp=..." (rating and '
            "timestamp may be missing)"
        )
    return {role: chosen[role] for role in INTERACTION_NAMES if role in chosen}


def _time_notes(file: Path, columns: dict[str, str], names: Sequence[str], row: Sequence[Any]) -> list[str]:
    """Leaves out a column of times that cannot be read, and says so; says what a missing rating or time means."""
    notes = []
    if "rating" not in columns:
        notes.append("No column of ratings: every interaction counts as 1.")
    name = columns.get("timestamp")
    if name is None:
        notes.append("No column of times: the order of the rows is taken as the order in time.")
    elif row and isinstance(row[names.index(name)], str):
        try:
            parse_timestamp(row[names.index(name)])
        except BadRow:
            del columns["timestamp"]
            notes.append(
                f"The column {name!r} is no column of times ({row[names.index(name)][:20]!r}) and is left out:"
                " the order of the rows is taken as the order in time. Or convert it."
            )
    return notes


def _header(file: Path) -> tuple[list[str], str | None, list[Any]]:
    """A table's column names, its separator (None of Parquet) and its first row."""
    if file.suffix.lower() == ".parquet":
        # Parquet is typed: whether a time can be read is found out when the data is prepared.
        return pyarrow.parquet.read_schema(file).names, None, []
    with open(file, "rb") as stream:
        beginning = stream.read(BEGINNING)
    try:
        # The last character may be cut.
        text = beginning.decode("utf-8-sig", errors="ignore" if len(beginning) == BEGINNING else "strict")
    except UnicodeDecodeError as error:
        raise FrugalError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    lines = [line for line in text.splitlines()[:2] if line.strip()]
    if not lines or "\0" in lines[0]:
        raise FrugalError(f"{file}: {'is no text' if lines else 'is empty'}; a CSV file begins with its columns' names")
    separator = max(SEPARATORS, key=lambda mark: (lines[0].count(mark), -SEPARATORS.index(mark)))
    names, *rows = ([field.strip() for field in row] for row in csv.reader(lines, delimiter=separator))
    if len(names) < 2 or len(set(names)) < len(names) or any(re.fullmatch(r"[-+.\d]*", name) for name in names):
        raise FrugalError(
            f"{file}, line 1: {lines[0][:100]!r} does not name the columns; put a line such as "
            "user,item,rating,timestamp at the beginning (separators: comma, semicolon, tab or |)"
        )
    return names, separator, rows[0] if rows and len(rows[0]) == len(names) else []
