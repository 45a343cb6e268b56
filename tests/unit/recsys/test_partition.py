"""Cutting prepared interactions: which data a split needs, and what the record of the shards holds."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import partition_interactions
from frugal.config.recommendation import DataSettings
from frugal.errors import FrugalError
from frugal.files import read_json, write_json
from frugal.recsys.catalogue import read_catalogue
from frugal.recsys.shards import read_split


@pytest.fixture
def cut(tmp_path, monkeypatch):
    """Partition rows (user, item, time) with settings of `data`; returns the folder of shards."""

    def run(rows, timestamps=True, unit="s", **settings):
        user, item, time = zip(*rows, strict=True)
        columns = {"user": pa.array(user, pa.int32()), "item": pa.array(item, pa.int32())}
        columns |= {"rating": pa.array([1.0] * len(rows), pa.float32()), "timestamp": pa.array(time, pa.int64())}
        pq.write_table(pa.table(columns), tmp_path / "interactions.parquet")
        # In another order than that of their numbers.
        items = {"item": pa.array([2, 0, 1, 3], pa.int32()), "title": ["c", "a", "b", "d"]}
        items |= {"attributes": pa.array([[]] * 4, pa.list_(pa.string())), "original_id": ["i2", "i0", "i1", "i3"]}
        pq.write_table(pa.table(items), tmp_path / "items.parquet")
        write_json(tmp_path / "summary.json", {"timestamps": timestamps, "time": {"unit": unit}, "users_sha256": "f00"})
        options = {"interactions": "interactions.parquet", "items": "items.parquet", "summary": "summary.json"}
        command = [word for name, file in options.items() for word in (f"--{name}", str(tmp_path / file))]
        command += ["--settings", DataSettings(shards=1, **settings).model_dump_json()]
        monkeypatch.setattr(sys, "argv", ["partition", *command, "--output", str(tmp_path / "shards")])
        partition_interactions.main()
        return tmp_path / "shards"

    return run


def test_a_split_by_time_of_data_without_times_names_the_missing_column(cut):
    rows = [(0, 0, 0), (0, 1, 1), (0, 2, 2), (0, 3, 3)]
    with pytest.raises(FrugalError, match=r"data\.split 'global_time' needs times.*no column 'timestamp'"):
        cut(rows, timestamps=False, split="global_time")
    # The order of the file is enough to leave the last one out.
    assert read_split(cut(rows, timestamps=False)).test[0].tolist() == [3]


def test_times_are_kept_in_seconds(cut):
    rows = [(0, 0, 1_000), (0, 1, 2_500), (0, 2, 4_000), (0, 3, 9_000), (1, 2, 0), (1, 0, 7_000)]
    assert read_split(cut(rows)).train.times is None
    split = read_split(cut(rows, unit="ms", times=True))
    assert [split.train.times_of(user).tolist() for user in (0, 1)] == [[1, 2], [0, 7]]
    assert split.context("test").times_of(0).tolist() == [1, 2, 4]
    assert (split.test.times.tolist(), split.test.times.dtype) == ([9], np.int64)


@pytest.mark.parametrize("facts", [{"timestamps": False}, {"unit": "position"}])
def test_times_that_are_not_there_cannot_be_kept(cut, facts):
    with pytest.raises(FrugalError, match=r"interactions\.parquet: data\.times needs times, and .* has none"):
        cut([(0, 0, 0), (0, 1, 1), (0, 2, 2)], times=True, **facts)


def test_repeated_and_cold_targets_are_counted(cut):
    # User 0's test target 1 is in his history, user 1's target 3 is in nobody's training part.
    folder = cut([(0, 1, 0), (0, 0, 1), (0, 1, 2), (1, 0, 0), (1, 2, 1), (1, 3, 2)])
    summary = read_json(folder / "summary.json")
    assert summary["repeats"] == 1
    assert summary["targets"] == {
        "validation": {"targets": 2, "repeated": 0, "cold": 1},
        "evaluation": {"targets": 2, "repeated": 1, "cold": 1},
    }
    assert read_split(folder).keeps_history("auto")


def test_ties_at_the_targets_and_elsewhere_are_counted(cut):
    # User 0: 0 1 2 3 at 0 0 1 1: the targets 2 and 3 are tied with each other, and so is the only step of training.
    # User 1: 0 1 2 3 at 0 1 2 3: no ties. User 2: 0 1 at 5 5, which only train.
    rows = [(0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 1)]
    rows += [(1, 0, 0), (1, 1, 1), (1, 2, 2), (1, 3, 3), (2, 0, 5), (2, 1, 5)]
    folder = cut(rows)
    ties = {"validation": 0.5, "evaluation": 0.5, "elsewhere": pytest.approx(2 / 3)}
    assert read_json(folder / "summary.json")["ties"] == ties
    assert read_split(folder).ties == ties


@pytest.mark.parametrize(("targets", "share"), [("all", 0.8), ("first", 0.5), ("last", 1)])
def test_ties_of_the_chosen_targets(cut, targets, share):
    # The test part: user 0 has 2 and 3 at 9, 9; user 1 has 2 at 8, and 3 and 0 at 10, 10.
    rows = [(0, 0, 0), (1, 1, 1), (0, 1, 2), (1, 2, 3), (0, 2, 9), (0, 3, 9), (1, 2, 8), (1, 3, 10), (1, 0, 10)]
    rows += [(2, 0, 0), (2, 1, 1)]
    settings = {"split": "global_time", "validation_share": 0.2, "test_share": 0.45, "targets": targets}
    assert read_json(cut(rows, **settings) / "summary.json")["ties"]["evaluation"] == pytest.approx(share)


def test_the_shards_know_whose_numbers_they_have(cut):
    catalogue = read_catalogue(cut([(0, 0, 0), (0, 1, 1), (0, 2, 2)]))
    assert (catalogue.items, catalogue.users) == (["i0", "i1", "i2", "i3"], "f00")


@pytest.mark.parametrize(("targets", "expected"), [("all", [2, 3]), ("first", [2]), ("last", [3])])
def test_targets_of_a_split_by_time(cut, targets, expected):
    rows = [(0, 0, 0), (1, 1, 1), (0, 1, 2), (1, 0, 3), (0, 2, 8), (0, 3, 9)]
    split = read_split(cut(rows, split="global_time", validation_share=0.2, test_share=0.4, targets=targets))
    assert split.targets("test")[0].tolist() == expected


def test_the_core_is_that_of_the_ratings_that_are_used():
    # Each of the users 0 to 2 has the items 0 to 2, user 2 the last of them with a low rating: without it item 2 has
    # two users, user 2 two items, and of the 3-core nothing is left; of the 2-core all that is rated well.
    user, item = [0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 2] * 3
    rating = [5.0] * 8 + [1.0]
    columns = {"user": pa.array(user, pa.int32()), "item": pa.array(item, pa.int32())}
    columns |= {"rating": pa.array(rating, pa.float32()), "timestamp": pa.array(range(9), pa.int64())}
    for core, kept in ((3, 0), (2, 8), (None, 8)):
        split = partition_interactions.partition(pa.table(columns), 3, DataSettings(min_rating=4), core)
        assert len(split.context("test").followed_by(split.test).items) == kept
