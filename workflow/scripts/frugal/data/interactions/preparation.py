"""Bring any data set of interactions into one form: three Parquet files and a summary."""

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from frugal.config.registry import DatasetEntry, Published
from frugal.config.sources import INTERACTION_FORMATS, SPLITS
from frugal.data import RECORD
from frugal.data.interactions.delimited import Dialect
from frugal.data.interactions.events import describe as describe_events
from frugal.data.interactions.movielens import RATINGS, Item, read_movielens_items
from frugal.data.interactions.order import describe_ties, in_order
from frugal.data.interactions.own import read_own_items
from frugal.data.interactions.own_split import demand_disjoint, describe_split, has_times, read_split
from frugal.data.interactions.reading import quotes, read_ratings
from frugal.data.interactions.rows import INTEGER_ID, BadRows, RawInteractions
from frugal.data.source.archives import disk_errors
from frugal.data.source.parts import parts_of
from frugal.data.source.record import read_record
from frugal.errors import FrugalError
from frugal.files import atomic_path, sha256_file, write_json

ITEM_SCHEMA = pa.schema(
    [
        ("item", pa.int32()),
        ("title", pa.string()),
        ("year", pa.int16()),
        ("attributes", pa.list_(pa.string())),
        ("original_id", pa.string()),
    ]
)
USER_SCHEMA = pa.schema([("user", pa.int32()), ("original_id", pa.string())])


def prepare(
    name: str, entry: DatasetEntry, raw: Path, interactions: Path, items: Path, users: Path, summary: Path
) -> dict[str, Any]:
    """Turn a fetched data set into ``interactions``, ``items``, ``users`` and ``summary``.

    ``interactions`` (Parquet): user and item (int32, from 0), rating (float32), timestamp (int64, since 1970 in the
    unit that ``summary`` names), by user and time; equal times are ordered as `order.in_order` says. Where the files
    are a split also part (int8, the place in `SPLITS`), and rows are by user, part and time. ``items`` (Parquet): item
    (int32), title, year (int16 or null), attributes (such as genres: a list of strings), original_id. ``users``
    (Parquet): user (int32), original_id.
    Users and items are numbered in the order of their original ids, as numbers where all are whole numbers, else as
    text; items that nobody has rated have a number too, unless the entry sets ``min_interactions``: then only the users
    and items of the k-core have one.

    Returns:
        What ``summary`` holds.

    Raises:
        FrugalError: a file is missing or changed since it was fetched, or a row is bad and the entry does
            not skip such rows.
    """
    raw = Path(raw)
    record = read_record(raw, INTERACTION_FORMATS, "interactions")
    paths = {role: raw / member["file"] for role, member in record["members"].items()}
    files = {role: parts for role in ("ratings", *SPLITS) if (parts := parts_of(paths, role))}
    if not files:
        raise FrugalError(
            f"{raw / RECORD}: no file of interactions is named; add 'members: {{ratings: <file>}}' to the source in "
            "the table"
        )
    if bool(entry.events) != ("event" in record.get("columns", {})):
        raise FrugalError(f"{raw / RECORD}: its columns are not those of the table now; fetch '{name}' again")
    parts = files.get("ratings", ())
    table = parts[0] if len(parts) == 1 else raw  # for messages
    skip = entry.on_bad_rows == "skip"
    bad, bad_items = BadRows(table, skip), BadRows(paths.get("items", raw), skip)
    # The sums are computed while the files are read: hashing leaves the interpreter free.
    with ThreadPoolExecutor(1) as pool:
        sums = {role: pool.submit(sha256_file, path) for role, path in paths.items()}
        rows = read_ratings(record, parts, entry, bad) if parts else read_split(record, files, entry, bad)
        described = _read_items(record, paths.get("items"), bad_items)
        inputs = {paths[role].name: pending.result() for role, pending in sums.items()}
    for member in record["members"].values():
        if inputs[member["file"]] != member["sha256"]:
            raise FrugalError(f"{raw / member['file']}: has changed since it was fetched; fetch '{name}' again")

    events = describe_events(table, entry.events, rows.events) if entry.events else None
    user_ids, user = number(rows.user.codes, rows.user.values)
    item_ids, item = number(rows.item.codes, rows.item.values, [one.id for one in described])
    timestamp = np.arange(user.size) if rows.timestamp is None else rows.timestamp
    columns = {"user": user, "item": item, "rating": rows.rating, "timestamp": timestamp}
    if rows.part is None:
        keep = deduplicate(user, item, timestamp, len(item_ids), entry.on_duplicates, rows)
    else:
        columns["part"] = rows.part
        keep = deduplicate_split(columns, len(user_ids), len(item_ids), entry.on_duplicates, rows)
    if keep is not None:
        columns = {role: values[keep] for role, values in columns.items()}
    if not columns["user"].size:
        raise FrugalError(f"{table}: holds no interactions{' that can be kept' * bool(bad.counts)}")
    duplicates, core = int(user.size - columns["user"].size), None
    check_described(table, paths.get("items"), item_ids, rows, described)
    if entry.min_interactions is not None:
        kept, rounds = k_core(columns["user"], columns["item"], entry.min_interactions)
        if not kept.any():
            raise FrugalError(
                f"{table}: no users and items with {entry.min_interactions} interactions each are left; "
                "lower min_interactions for this data set"
            )
        core = {"min_interactions": entry.min_interactions, "rounds": rounds, "removed": int((~kept).sum())}
        columns = {role: values[kept] for role, values in columns.items()}
        user_ids, columns["user"] = renumber(user_ids, columns["user"])
        item_ids, columns["item"] = renumber(item_ids, columns["item"])

    tie_order = entry.tie_order if rows.timestamp is not None else "file"
    order = in_order(columns, user_ids, item_ids, tie_order, entry.tie_seed)
    if rows.part is not None:
        order = order[np.lexsort((columns["part"][order], columns["user"][order]))]
    for role in columns:  # one at a time, which takes less memory
        columns[role] = columns[role][order]
    del order
    _write_parquet(pa.table(columns), interactions)
    _write_parquet(_item_table(item_ids, described), items)
    _write_parquet(pa.table({"user": range(len(user_ids)), "original_id": user_ids}, schema=USER_SCHEMA), users)
    facts = {
        "name": name,
        "source": record["source"],
        "format": record["format"],
        "lines": asdict(rows.lines) if rows.lines else None,
        "rows_read": rows.rows_read,
        "rows_kept": int(columns["user"].size),
        "skipped": dict(sorted(bad.counts.items())),
        "skipped_examples": bad.examples,
        **({"events": events} if events else {}),
        **({} if rows.part is None else {"split": describe_split(columns, len(user_ids), has_times(rows))}),
        "time": rows.time,
        "duplicates": {"policy": entry.on_duplicates, "removed": duplicates},
        "k_core": core,
        "item_rows_skipped": dict(sorted(bad_items.counts.items())),
        "item_rows_skipped_examples": bad_items.examples,
        "items_without_description": len(set(item_ids) - {one.id for one in described}) if described else 0,
        "timestamps": rows.timestamp is not None,
        "ties": {
            "order": tie_order,
            "seed": entry.tie_seed if tie_order == "random" else None,
            **describe_ties(columns["user"], columns["timestamp"], len(user_ids)),
        },
        "users_sha256": hashlib.sha256("\n".join(user_ids).encode()).hexdigest(),
        **_describe(columns, len(user_ids), len(item_ids)),
        "inputs": dict(sorted(inputs.items())),
        "outputs": {Path(path).name: sha256_file(path) for path in (interactions, items, users)},
    }
    check_counts(table, facts)
    if entry.published is not None:
        facts["published"] = compare_published(name, entry.published, facts)
    with disk_errors(summary):
        write_json(summary, facts)
    return facts


def check_counts(path: Path, facts: dict[str, Any]) -> None:
    """Every line of the file is accounted for, in the counts of summary.json.

    Raises:
        FrugalError: they do not add up; that is an error of this program.
    """
    filtered = facts["k_core"]["removed"] if facts["k_core"] else 0
    filtered += facts.get("events", {}).get("left_out", 0)
    rows = facts["rows_kept"] + filtered + facts["duplicates"]["removed"] + sum(facts["skipped"].values())
    lines = facts["lines"]
    without_rows = lines["header"] + lines["blank"] + lines["continued"] if lines else 0
    if rows != facts["rows_read"] or (lines and lines["total"] - without_rows != rows):
        raise FrugalError(
            f"{path}: {facts['rows_read']} rows were read, and {rows} are accounted for; this is an error of Frugal's, "
            "please report it with the file"
        )


def compare_published(name: str, published: Published, facts: dict[str, Any]) -> dict[str, Any]:
    """The published counts and the names of those that are others here, of which a warning is printed."""
    found = {"users": facts["users"], "items": facts["items_rated"], "interactions": facts["rows_kept"]}
    stated = published.model_dump()
    differ = [role for role in found if found[role] != stated[role]]
    for role in differ:
        print(f"warning: {name}: {found[role]:,} {role}, and {stated[role]:,} are published", file=sys.stderr)
    return {**stated, "differ": differ}


def check_described(
    table: Path, items: Path | None, item_ids: list[str], rows: RawInteractions, described: list[Item]
) -> None:
    """The item file describes the items of the interactions.

    Raises:
        FrugalError: it describes none of them; both sides are shown.
    """
    if not described:
        return
    known = {one.id for one in described}
    rated = [rows.item.values[code] for code in np.unique(rows.item.codes)]
    missing = [value for value in map(str.strip, rated) if value not in known]
    if not missing:
        return
    sides = f"{items} has {_examples(sorted(known))}, {table} has {_examples(missing)}"
    if len(missing) == len(rated):
        raise FrugalError(f"none of the items with interactions is described: {sides}; write ids alike in both files")
    if 2 * len(missing) > len(rated):
        print(
            f"warning: {len(missing)} of {len(rated)} items with interactions are not described: {sides}",
            file=sys.stderr,
        )


def _examples(values: Sequence[str]) -> str:
    return ", ".join(map(repr, values[:3])) + (", ..." if len(values) > 3 else "")


def number(codes: np.ndarray, values: list[str], more: Sequence[str] = ()) -> tuple[list[str], np.ndarray]:
    """Number ids by their order.

    Args:
        codes: int32, (rows,), into ``values``.
        values: ids, maybe with blanks around them.
        more: ids that get a number though no row has them.

    Returns:
        The sorted distinct ids, and int32 numbers into them, (rows,).
    """
    clean = [value.strip() for value in values]
    distinct = set(clean).union(more)
    integers = all(INTEGER_ID.fullmatch(value) for value in distinct)
    ordered = sorted(distinct, key=int if integers else None)
    place = {value: index for index, value in enumerate(ordered)}
    return ordered, np.array([place[value] for value in clean], np.int32)[codes]


def deduplicate(
    user: np.ndarray,
    item: np.ndarray,
    timestamp: np.ndarray,
    items: int,
    policy: str,
    rows: RawInteractions,
) -> np.ndarray | None:
    """Rows to keep, a mask of (rows,), or None for all of them.

    A duplicate has user, item and timestamp of another row; an item rated again later is none.

    Raises:
        FrugalError: there is one and the policy is ``error``; it names file and line.
    """
    if policy == "keep" or not user.size:
        return None
    pair = user.astype(np.int64)
    pair *= items
    pair += item
    ordered = np.sort(pair)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not repeated.size:
        return None
    # Only rows whose user and item meet more than once can be duplicates: few, and so cheap to compare.
    suspects = np.flatnonzero(np.isin(pair, repeated))
    # The sort is stable: rows that are equal in both stand side by side, in the order of the file.
    suspects = suspects[np.lexsort((timestamp[suspects], pair[suspects]))]
    equal = (np.diff(pair[suspects]) == 0) & (np.diff(timestamp[suspects]) == 0)
    duplicated = np.sort(suspects[:-1][equal] if policy == "keep_last" else suspects[1:][equal])
    if not duplicated.size:
        return None
    if policy == "error":
        path, line, text = rows.locate(int(duplicated[0]))
        raise FrugalError(
            f"{path}, line {line}: the same user, item and timestamp as in an earlier row: {text!r}; "
            "correct the file, or set 'on_duplicates: keep_last' (or keep_first, keep) for this data set"
        )
    keep = np.ones(user.size, bool)
    keep[duplicated] = False
    return keep


def deduplicate_split(
    columns: dict[str, np.ndarray], users: int, items: int, policy: str, rows: RawInteractions
) -> np.ndarray | None:
    """As `deduplicate`, within each file of a split.

    Raises:
        FrugalError: also where a row is in two files, unless the policy is ``keep``.
    """
    user, item, timestamp, part = (columns[name] for name in ("user", "item", "timestamp", "part"))
    keep = deduplicate(user + part.astype(np.int64) * users, item, timestamp, items, policy, rows)
    if policy != "keep" and has_times(rows):
        left = np.arange(user.size) if keep is None else np.flatnonzero(keep)
        apart = deduplicate(user[left], item[left], timestamp[left], items, "keep_first", rows)
        demand_disjoint(left, apart, rows)
    return keep


def k_core(user: np.ndarray, item: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    """The largest set of rows in which every user and every item has at least ``k`` of them.

    Removing users and items below ``k`` takes rows from others, so it is done until nothing changes; the set does
    not depend on the order (Seidman 1983, Network structure and minimum degree).

    Args:
        user, item: int32, (rows,), numbered from 0.

    Returns:
        A mask of (rows,), and the number of rounds that removed something.
    """
    left, rounds = np.arange(user.size), 0
    while True:
        good = (np.bincount(user[left]) >= k)[user[left]] & (np.bincount(item[left]) >= k)[item[left]]
        if good.all():
            break
        left, rounds = left[good], rounds + 1
    keep = np.zeros(user.size, bool)
    keep[left] = True
    return keep, rounds


def renumber(ids: list[str], codes: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The ids that ``codes``, int32 (rows,), still name, in their order, and int32 numbers into them, (rows,)."""
    present, dense = np.unique(codes, return_inverse=True)
    return [ids[code] for code in present], dense.astype(np.int32)


def _read_items(record: dict[str, Any], path: Path | None, bad: BadRows) -> list[Item]:
    if path is None:
        return []
    form, encoding = record["format"], record.get("encoding")
    if form in RATINGS or form == "recbole":
        return read_movielens_items(path, form, encoding, bad)
    columns = record.get("item_columns") or {"item": record.get("columns", {}).get("item", "item")}
    # The separator of sequences stands between items; their item file is plain CSV.
    separator = (record.get("separator") if form == "csv" else None) or ","
    dialect = Dialect(separator, columns, quoting=quotes(separator, record), encoding=encoding or "utf-8")
    return read_own_items(path, dialect, record["attribute_separator"], bad)


def _item_table(ids: list[str], described: list[Item]) -> pa.Table:
    """Items in the order of ``ids``; one that no file describes has its id for a title."""
    known = {one.id: one for one in described}
    items = [known.get(one) or Item(one, one, None, ()) for one in ids]
    return pa.table(
        {
            "item": range(len(items)),
            "title": [one.title for one in items],
            "year": [one.year for one in items],
            "attributes": [list(one.attributes) for one in items],
            "original_id": ids,
        },
        schema=ITEM_SCHEMA,
    )


def _describe(columns: dict[str, np.ndarray], users: int, items: int) -> dict[str, Any]:
    rating, timestamp = columns["rating"], columns["timestamp"]
    return {
        "users": users,
        "items": items,
        "items_rated": int(np.count_nonzero(np.bincount(columns["item"], minlength=items))),
        "density": rating.size / (users * items),
        "rating_min": float(rating.min()),
        "rating_max": float(rating.max()),
        "first_timestamp": int(timestamp.min()),
        "last_timestamp": int(timestamp.max()),
    }


def _write_parquet(table: pa.Table, path: Path) -> None:
    # Times grow in small steps and rarely repeat, so differences pack better and faster than a dictionary.
    delta = {"timestamp": "DELTA_BINARY_PACKED"} if "timestamp" in table.column_names else None
    repeated = [name for name in table.column_names if name != "timestamp"]
    with disk_errors(path), atomic_path(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=1,
            use_dictionary=repeated,
            column_encoding=delta,
        )
