"""The tables that one stage of the workflow writes and a later one reads: whole, and sound."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from frugal.errors import FrugalError, blaming

INTERACTIONS = pa.schema(
    {"user": pa.int32(), "item": pa.int32(), "rating": pa.float32(), "timestamp": pa.int64()},
)
#: Where the data set's files bring a split: the file of each interaction, a place in `frugal.config.sources.SPLITS`.
PART = pa.field("part", pa.int8())
ITEMS = pa.schema({"item": pa.int32(), "title": pa.string(), "attributes": pa.list_(pa.string())})


def read_columns(path: Path | str, schema: pa.Schema, rule: str) -> pa.Table:
    """The columns of ``schema`` of the Parquet file that the rule ``rule`` has made; nothing in them is null.

    Raises:
        FrugalError: the file cannot be read or is damaged, or a column is missing, has gaps or is of another type.
    """
    with blaming(path, "cannot be read", f"; make it again with the rule {rule}"):
        table = pq.read_table(path, columns=schema.names)
        if missing := [name for name in schema.names if name not in table.column_names]:
            raise ValueError(f"has no column '{missing[0]}'")
        table.validate(full=True)
        table = table.select(schema.names).cast(schema)
        if empty := [name for name in schema.names if table[name].null_count]:
            raise ValueError(f"the column '{empty[0]}' has gaps")
    return table


def read_interactions(path: Path | str, own_split: bool = False) -> pa.Table:
    """interactions.parquet of a prepared data set: columns as in `INTERACTIONS`, ids numbered from 0.

    Args:
        own_split: also the column `PART`.

    Raises:
        FrugalError: also where the file is empty, or holds an id or a rating that preparation never writes.
    """
    schema = INTERACTIONS.append(PART) if own_split else INTERACTIONS
    table = read_columns(path, schema, "prepare_interactions")
    user, item, rating = (table[name].to_numpy() for name in ("user", "item", "rating"))
    # Every user has a row, so that there cannot be more users than rows.
    if not len(user) or min(user.min(), item.min()) < 0 or user.max() >= len(user) or not np.isfinite(rating).all():
        raise FrugalError(f"{path}: holds no interactions, or damaged ones; make it again with prepare_interactions")
    return table


def read_items(path: Path | str, interactions: pa.Table | None = None) -> pa.Table:
    """items.parquet of a prepared data set: columns as in `ITEMS`, one row for each item, in any order.

    Args:
        interactions: of the same data set, whose items must be among these.

    Raises:
        FrugalError: also where items are missing or there twice.
    """
    table = read_columns(path, ITEMS, "prepare_interactions")
    if not np.array_equal(np.sort(table["item"].to_numpy()), np.arange(table.num_rows)):
        raise FrugalError(f"{path}: its items are not numbered from 0; make it again with prepare_interactions")
    if interactions is not None and interactions["item"].to_numpy().max() >= table.num_rows:
        raise FrugalError(f"{path}: describes fewer items than were rated; make it again with prepare_interactions")
    return table


def original_ids(path: Path | str) -> list[str]:
    """The items' ids in the data set's own files, from its items.parquet, in the order of their numbers.

    Raises:
        FrugalError: the file cannot be read, or lacks them.
    """
    table = read_columns(path, pa.schema({"item": pa.int32(), "original_id": pa.string()}), "prepare_interactions")
    return table.sort_by("item")["original_id"].to_pylist()
