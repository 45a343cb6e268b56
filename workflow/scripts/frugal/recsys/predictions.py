"""predictions.parquet of a recommender: the rank of each test user's targets, under the ids of the data's own files.

Separate from `frugal.recsys.evaluation`, which training imports, so that a change here does not retrain a model.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from frugal.data.prepared import read_columns
from frugal.errors import FrugalError
from frugal.files import atomic_path
from frugal.recsys.catalogue import Catalogue
from frugal.recsys.evaluation import PREDICTION_COLUMNS, Evaluation
from frugal.recsys.histories import Histories, Split
from frugal.recsys.shards import shards_catalogue

TEXTS = pa.list_(pa.string())
USERS = pa.schema({"user": pa.int32(), "original_id": pa.string()})


def read_ids(sequences: Path, split: Split, users: Path | None) -> tuple[list[str], list[str]]:
    """The ids of a split's items and users, in the order of their numbers.

    Args:
        sequences: the folder of shards that ``split`` was read from.
        users: users.parquet of the prepared data; None: the users' numbers are their ids.

    Raises:
        FrugalError: the shards have no ids, or those of other users than ``users``.
    """
    catalogue = shards_catalogue(sequences, split.item_count)
    if users is None:
        return catalogue.items, [str(number) for number in range(split.user_count)]
    ids = user_ids(users)
    check_users(ids, catalogue, users, sequences)
    return catalogue.items, ids


def user_ids(path: Path) -> list[str]:
    """The users' ids in the data set's own files, from users.parquet, in the order of their numbers.

    Raises:
        FrugalError: the file cannot be read, or lacks them.
    """
    return read_columns(path, USERS, "prepare_interactions").sort_by("user")["original_id"].to_pylist()


def check_users(ids: Sequence[str], catalogue: Catalogue, users: Path, numbered: Path | str) -> None:
    """The users that a file lists are those of a catalogue, in the same order.

    Args:
        ids: what ``users``, users.parquet, lists.
        numbered: what has the catalogue, shards or a model, for the message.

    Raises:
        FrugalError: they are others: the data was prepared again from other files.
    """
    if catalogue.users is not None and catalogue.users != hashlib.sha256("\n".join(ids).encode()).hexdigest():
        raise FrugalError(
            f"{users}: lists other users than {numbered} was made with: the data has changed since; run the study again"
        )


def write_predictions(
    path: Path, evaluations: Mapping[int, Evaluation], targets: Histories, items: Sequence[str], users: Sequence[str]
) -> None:
    """Write predictions.parquet: the rows of `Evaluation.to_frame` of each seed, and beside them original ids.

    The further columns are user_id and target_ids, a list of the ids of the user's targets.

    Args:
        evaluations: seed -> its evaluation; none: the table has its columns and no rows.
        targets: the items that were to be predicted, of every user.
        items, users: ids in the order of the numbers.
    """
    frames = [evaluation.to_frame(seed) for seed, evaluation in evaluations.items()]
    frame = pd.concat(frames) if frames else pd.DataFrame(columns=list(PREDICTION_COLUMNS)).astype(PREDICTION_COLUMNS)
    ids = {
        "user_id": pa.array([users[user] for user in frame["user"]], pa.string()),
        "target_ids": pa.array([[items[item] for item in targets[user]] for user in frame["user"]], TEXTS),
    }
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for name, column in ids.items():
        table = table.append_column(name, column)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
