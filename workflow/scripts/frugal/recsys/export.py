"""A recommender's split in the file formats of other libraries, with the ids of the data's own files."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from frugal.config.recommendation import DataSettings
from frugal.errors import FrugalError
from frugal.recsys.histories import Histories, History, Part, Split


@dataclass(frozen=True)
class Export:
    """What is written.

    Attributes:
        name: the data set's, which files are named by.
        split: its histories have times, in ``unit``.
        users, items: ids in the order of their numbers.
        unit: s, ms, us or ns since 1970; "position" where the times are the interactions' places.
        history: see `Split.keeps_history`.
        max_length: of the histories of RecBole's files, in items.
    """

    name: str
    split: Split
    users: Sequence[str]
    items: Sequence[str]
    unit: str
    history: History = "auto"
    max_length: int = 50

    @cached_property
    def targets(self) -> dict[Part, Histories]:
        """The items to be predicted, of users with a history."""
        found = {part: self.split.targets(part, self.history) for part in ("validation", "test")}
        known = {part: self.split.context(part).lengths > 0 for part in found}
        return {part: targets.select(known[part][targets.users]) for part, targets in found.items()}


def used_users(split: Split, settings: DataSettings) -> Split:
    """The split of the users in the shards that `data.fraction` has a run read; see `frugal.recsys.shards`."""
    shards = ceil(round(settings.fraction * settings.shards, 9))
    used = np.arange(split.user_count) % settings.shards < shards
    train, validation, test = (part.select(used[part.users]) for part in (split.train, split.validation, split.test))
    return replace(split, train=train, validation=validation, test=test, known_repeats=split.repeats)


def write_rectools(folder: Path, data: Export) -> list[str]:
    """Interactions as RecTools' `Dataset.construct` takes them, a Parquet file for each part.

    Columns: user_id, item_id (texts), weight (1), datetime, and target: whether the item is to be predicted. Rows are
    user by user in the order of time, which RecTools keeps where times are equal.

    Returns:
        Notes for the user.
    """
    users, items = pa.array(data.users, pa.string()), pa.array(data.items, pa.string())
    # Places in the order of time are written as seconds, which keeps the order.
    kind = pa.timestamp("s" if data.unit == "position" else data.unit)
    for part, histories in _parts(data.split).items():
        table = {
            "user_id": users.take(pa.array(histories.users)),
            "item_id": items.take(pa.array(histories.items)),
            "weight": pa.array(np.ones(len(histories.items))),
            "datetime": pa.array(histories.times, pa.int64()).cast(kind),
            "target": pa.array(_is_target(data, part, histories)),
        }
        pq.write_table(pa.table(table), folder / f"{part}.parquet")
    notes = ["Items without interactions are not in these files: RecTools ranks those of its dataset alone."]
    if data.unit == "position":
        notes.append("The data has no times: datetime is the place of an interaction, in seconds since 1970.")
    return notes


def write_recbole(folder: Path, data: Export) -> list[str]:
    """RecBole's atomic files of a sequential data set that is split already (`benchmark_filename`).

    Each row of ``.train.inter``, ``.valid.inter`` and ``.test.inter`` has a user, the newest `max_length` items of the
    history and the item that follows it, as RecBole's own augmentation makes them; ``.item`` has the whole catalogue.
    ``recbole.yaml`` has the settings that read them.

    Raises:
        FrugalError: an id holds what RecBole takes for the end of an id.
    """
    for role, ids in (("user", data.users), ("item", data.items)):
        if wrong := next((one for one in ids if '"' in one or any(map(str.isspace, one))), None):
            raise FrugalError(
                f"{data.name}: the {role} id {wrong!r} holds a blank or a double quote, which ends an id in RecBole's "
                "files; export it with FORMAT=rectools"
            )
    for part, ending in (("train", "train"), ("validation", "valid"), ("test", "test")):
        with open(folder / f"{data.name}.{ending}.inter", "w", encoding="utf-8", newline="") as stream:
            stream.write("user_id:token\titem_id_list:token_seq\titem_id:token\n")
            rows = _training_cases(data) if part == "train" else _cases(data, part)
            for user, history, target in rows:
                listed = " ".join(data.items[item] for item in history)
                stream.write(f"{data.users[user]}\t{listed}\t{data.items[target]}\n")
    with open(folder / f"{data.name}.item", "w", encoding="utf-8", newline="") as stream:
        stream.write("item_id:token\n" + "".join(f"{item}\n" for item in data.items))
    settings = {
        "dataset": data.name,
        "benchmark_filename": ["train", "valid", "test"],
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "MAX_ITEM_LIST_LENGTH": data.max_length,
        "alias_of_item_id": ["item_id_list"],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id"], "item": ["item_id"]},
        "eval_args": {"order": "TO", "mode": "full"},
    }
    (folder / "recbole.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    notes = [f"Histories have the newest {data.max_length} items; RecBole's sequential models rank them too."]
    if any((targets.lengths > 1).any() for targets in data.targets.values()):
        notes.append("Users with several targets have a row for each, and RecBole averages over rows, not users.")
    return notes


def write_sasrec(folder: Path, data: Export) -> list[str]:
    """The text file of SASRec's authors: ``user item`` in each line, numbers from 1, a user's lines in order of time.

    Their code takes each user's last item for the test and the one before for validation, of users with three or
    more. ``users.csv`` and ``items.csv`` have the ids of the numbers.
    """
    whole = data.split.train.followed_by(data.split.validation).followed_by(data.split.test)
    # Their sampler needs users without gaps; items are numbered likewise.
    users, user = np.unique(whole.users, return_inverse=True)
    items, item = np.unique(whole.items, return_inverse=True)
    with open(folder / f"{data.name}.txt", "w", encoding="ascii", newline="") as stream:
        pairs = zip(user.tolist(), item.tolist(), strict=True)
        stream.writelines(f"{one + 1} {other + 1}\n" for one, other in pairs)
    for name, ids, numbers in (("users", data.users, users), ("items", data.items, items)):
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(("number", "id"))
            rows.writerows((number, ids[code]) for number, code in enumerate(numbers.tolist(), start=1))
    notes = [f"Items without interactions have no number: {data.split.item_count - len(items):,}."]
    left_out = len(data.split.test.items) - len(data.targets["test"].items)
    if left_out:
        notes.append(f"Test targets that Frugal leaves out, being in the history, and SASRec does not: {left_out:,}.")
    return notes


FORMATS = {"recbole": write_recbole, "rectools": write_rectools, "sasrec": write_sasrec}


def describe(data: Export) -> dict[str, Any]:
    """Counts of what was written: users with items, the catalogue, rows of each part, targets of those to predict."""
    parts = _parts(data.split)
    return {
        "users": int((sum(part.lengths for part in parts.values()) > 0).sum()),
        "items": data.split.item_count,
        "rows": {name: len(part.items) for name, part in parts.items()},
        "targets": {name: len(targets.items) for name, targets in data.targets.items()},
        "history": "keep" if data.split.keeps_history(data.history) else "exclude",
    }


def _parts(split: Split) -> dict[str, Histories]:
    return {"train": split.train, "validation": split.validation, "test": split.test}


def _is_target(data: Export, part: str, histories: Histories) -> np.ndarray:
    """bool, (interactions,): the first one of a user with an item that is to be predicted."""
    if part not in data.targets:
        return np.zeros(len(histories.items), bool)
    keys, wanted = (one.users * data.split.item_count + one.items for one in (histories, data.targets[part]))
    first = np.zeros(len(keys), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return first & np.isin(keys, wanted)


def _training_cases(data: Export) -> Iterator[tuple[int, np.ndarray, int]]:
    """User, history and the next item, for each item of the training part but a user's first."""
    train = data.split.train
    for user in np.flatnonzero(train.lengths > 1):
        items = train[user]
        for place in range(1, len(items)):
            yield user, items[max(0, place - data.max_length) : place], items[place]


def _cases(data: Export, part: Part) -> Iterator[tuple[int, np.ndarray, int]]:
    """User, history and target, for each target of a part."""
    context, targets = data.split.context(part), data.targets[part]
    for user in np.flatnonzero(targets.lengths):
        for target in targets[user]:
            yield user, context[user][-data.max_length :], target
