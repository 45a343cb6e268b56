"""predictions.parquet: what was in it before, and the data's own ids beside it."""

import hashlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugal.errors import FrugalError
from frugal.recsys.catalogue import Catalogue
from frugal.recsys.evaluation import PREDICTION_COLUMNS, evaluate
from frugal.recsys.histories import Histories, Split
from frugal.recsys.predictions import read_ids, write_predictions
from frugal.recsys.shards import write_shards


@pytest.fixture
def split():
    """Two users and four items; user 1 has two targets."""
    train = Histories.from_pairs(np.array([0, 1]), np.array([0, 1]), 2)
    nothing = Histories.from_pairs(np.array([], int), np.array([], int), 2)
    test = Histories.from_pairs(np.array([0, 1, 1]), np.array([3, 2, 0]), 2)
    return Split(train, nothing, test, 4)


def test_ids_stand_beside_the_numbers(split, tmp_path):
    evaluations = {seed: evaluate(lambda users, _: np.eye(4)[users], split, "test", seed=seed) for seed in (1, 2)}
    path = tmp_path / "predictions.parquet"
    write_predictions(path, evaluations, split.targets("test"), ["w", "x", "y", "z"], ["ann", "bob"])
    table = pd.read_parquet(path)
    former = pd.concat(one.to_frame(seed) for seed, one in evaluations.items()).reset_index(drop=True)
    pd.testing.assert_frame_equal(table[list(PREDICTION_COLUMNS)], former)
    assert table["user_id"].tolist() == ["ann", "bob"] * 2
    assert [list(ids) for ids in table["target_ids"]] == [["z"], ["y", "w"]] * 2


def test_a_baseline_that_is_left_out_has_the_columns_and_no_rows(split, tmp_path):
    path = tmp_path / "predictions.parquet"
    write_predictions(path, {}, split.targets("test"), [], [])
    schema = pq.read_schema(path)
    assert schema.names == [*PREDICTION_COLUMNS, "user_id", "target_ids"]
    assert [str(schema.field(name).type) for name in ("user", "MRR", "user_id")] == ["int64", "double", "string"]
    assert pd.read_parquet(path).empty


def test_users_of_other_data_are_refused(split, tmp_path):
    users = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user": pa.array([1, 0], pa.int32()), "original_id": ["bob", "ann"]}), users)
    for ids, whole in (("ann\nbob", True), ("ann\ncarl", False)):
        catalogue = Catalogue(["w", "x", "y", "z"], hashlib.sha256(ids.encode()).hexdigest())
        write_shards(split, tmp_path / "shards", 1, {}, catalogue)
        if whole:
            assert read_ids(tmp_path / "shards", split, users) == (["w", "x", "y", "z"], ["ann", "bob"])
        else:
            with pytest.raises(FrugalError, match=r"users\.parquet: lists other users than .*shards was made with"):
                read_ids(tmp_path / "shards", split, users)
    assert read_ids(tmp_path / "shards", split, None)[1] == ["0", "1"]
