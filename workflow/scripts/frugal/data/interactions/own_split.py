"""A split that the user's own files bring: interactions for training, for validation and for the test."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from frugal.config.registry import DatasetEntry
from frugal.config.sources import SPLITS
from frugal.data.interactions.reading import join_tables, read_ratings
from frugal.data.interactions.rows import BadRows, RawInteractions
from frugal.errors import FrugalError


def read_split(
    record: dict[str, Any], files: Mapping[str, Sequence[Path]], entry: DatasetEntry, bad: BadRows
) -> RawInteractions:
    """The interactions of all files one after another, with ``part``, the place in `SPLITS` of each row's file.

    Args:
        files: some of `SPLITS`, in that order, to a file or the parts of one.

    Raises:
        FrugalError: one of them has no interactions; what `read_ratings` raises.
    """
    tables = {role: read_ratings(record, paths, entry, bad) for role, paths in files.items()}
    for role, table in tables.items():
        if not table.rating.size:
            raise FrugalError(
                f"{files[role][0]}: holds no interactions that can be kept; a split needs some in each of its files"
                + " (members.validation may be left out)" * (role == "validation")
            )
    rows = join_tables([paths[0] for paths in files.values()], list(tables.values()))
    sizes = [table.rating.size for table in tables.values()]
    return replace(rows, part=np.repeat([SPLITS.index(role) for role in tables], sizes).astype(np.int8))


def demand_disjoint(left: np.ndarray, apart: np.ndarray | None, rows: RawInteractions) -> None:
    """No row is in two files: a test target that is trained on tests nothing.

    Args:
        left: int64, (n,), the rows that are kept.
        apart: bool, (n,), False where a row has user, item and time of one in an earlier file; None: nowhere.

    Raises:
        FrugalError: one is; it names file and line.
    """
    if apart is None:
        return
    path, line, text = rows.locate(int(left[np.argmin(apart)]))
    raise FrugalError(
        f"{path}, line {line}: the same user, item and timestamp as in an earlier file of the split: {text!r}; remove "
        "the row from one of them, or set 'on_duplicates: keep' for this data set if both are events of their own"
    )


def has_times(rows: RawInteractions) -> bool:
    """Whether rows of several files can be compared by their times."""
    return rows.timestamp is not None and rows.time["unit"] != "position"


def describe_split(columns: dict[str, np.ndarray], users: int, timed: bool) -> dict[str, Any]:
    """What summary.json says of the split.

    Args:
        columns: user, item, timestamp and part, each (rows,).

    Returns:
        rows: of each file. without_history: rows of users who are in no earlier file; nothing is predicted for them.
        untrained: rows with an item that the file for training does not have. earlier: rows before an interaction of
        the same user in an earlier file; None where there are no times.
    """
    user, item, part = columns["user"], columns["item"], columns["part"]
    facts: dict[str, Any] = {"rows": {role: int((part == place).sum()) for place, role in enumerate(SPLITS)}}
    facts |= {"without_history": {}, "untrained": {}, "earlier": {} if timed else None}
    trained = np.zeros(int(item.max()) + 1, bool)
    trained[item[part == 0]] = True
    latest = np.full(users, np.iinfo(np.int64).min)
    known = np.zeros(users, bool)
    for place, role in enumerate(SPLITS):
        here = part == place
        if place:
            facts["without_history"][role] = int((~known[user[here]]).sum())
            facts["untrained"][role] = int((~trained[item[here]]).sum())
            if timed:
                facts["earlier"][role] = int((columns["timestamp"][here] < latest[user[here]]).sum())
        known[user[here]] = True
        np.maximum.at(latest, user[here], columns["timestamp"][here])
    return facts
