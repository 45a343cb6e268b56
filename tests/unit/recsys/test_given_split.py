"""A split of the user's own in shards: the parts by hand, and every target accounted for."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import partition_interactions
from frugal.config.recommendation import DataSettings
from frugal.errors import FrugalError
from frugal.files import read_json, write_json
from frugal.recsys.shards import read_split


@pytest.fixture
def cut(tmp_path, monkeypatch):
    """Partition rows (user, item, time, part); returns the folder of shards."""

    def run(rows, own=True, ratings=None, **settings):
        user, item, time, part = zip(*rows, strict=True)
        columns = {"user": pa.array(user, pa.int32()), "item": pa.array(item, pa.int32())}
        columns["rating"] = pa.array(ratings or [1.0] * len(rows), pa.float32())
        columns["timestamp"] = pa.array(time, pa.int64())
        columns |= {"part": pa.array(part, pa.int8())} if own else {}
        pq.write_table(pa.table(columns), tmp_path / "interactions.parquet")
        items = {"item": pa.array(range(5), pa.int32()), "title": list("abcde"), "original_id": list("abcde")}
        items |= {"attributes": pa.array([[]] * 5, pa.list_(pa.string()))}
        pq.write_table(pa.table(items), tmp_path / "items.parquet")
        facts = {"timestamps": True, "time": {"unit": "s"}} | ({"split": {}} if own else {})
        write_json(tmp_path / "summary.json", facts)
        options = {"interactions": "interactions.parquet", "items": "items.parquet", "summary": "summary.json"}
        command = [word for name, file in options.items() for word in (f"--{name}", str(tmp_path / file))]
        command += ["--settings", DataSettings(shards=2, **{"split": "files"} | settings).model_dump_json()]
        monkeypatch.setattr(sys, "argv", ["partition", *command, "--output", str(tmp_path / "shards")])
        partition_interactions.main()
        return tmp_path / "shards"

    return run


#: User 0: 0 1 | 2 | 3 0 3; user 1: 1, before 0 of the test by its file and after it by its time; user 2: | | 4.
ROWS = [(0, 0, 10, 0), (0, 1, 20, 0), (0, 2, 30, 1), (0, 3, 40, 2), (0, 0, 50, 2), (0, 3, 60, 2)]
ROWS += [(1, 1, 90, 0), (1, 0, 60, 2), (2, 4, 5, 2)]


def histories(part):
    return [part[user].tolist() for user in range(len(part))]


def test_the_parts_are_those_of_the_files(cut, capsys):
    folder = cut(ROWS)
    split = read_split(folder)
    assert histories(split.train) == [[0, 1], [1], []]
    assert histories(split.validation) == [[2], [], []]
    assert histories(split.test) == [[3, 0, 3], [0], [4]]
    assert histories(split.context("test")) == [[0, 1, 2], [1], []]
    # Items repeat, so that the history is ranked, and 0 stays a target of user 0; user 2 has no history.
    assert histories(split.targets("test")) == [[3, 0], [0], [4]]
    assert split.cases("test").tolist() == [0, 1]
    summary = read_json(folder / "summary.json")
    assert summary["targets"]["evaluation"] == {"targets": 3, "repeated": 1, "cold": 1}
    assert summary["accounted"] == {
        "validation": {"rows": 1, "without_history": 0, "again": 0, "targets": 1},
        "evaluation": {"rows": 5, "without_history": 1, "again": 1, "targets": 3},
    }
    printed = capsys.readouterr().out
    assert "of 5 test interactions 1 are of users without a history, who are not scored, and 1 have an item" in printed


def test_without_validation_the_last_training_item_is_held_out(cut):
    rows = [row for row in ROWS if row[3] != 1]
    split = read_split(cut(rows))
    # User 1 has one training item, which stays.
    assert histories(split.train) == [[0], [1], []]
    assert histories(split.validation) == [[1], [], []]
    assert histories(split.context("test")) == [[0, 1], [1], []]


def test_what_a_run_leaves_out_keeps_its_part(cut):
    ratings = [5.0, 1.0, 5.0, 5.0, 5.0, 1.0, 5.0, 5.0, 5.0]
    split = read_split(cut(ROWS, ratings=ratings, min_rating=4))
    assert histories(split.train) == [[0], [1], []]
    assert histories(split.test) == [[3, 0], [0], [4]]


@pytest.mark.parametrize(
    ("rows", "settings", "words"),
    [
        (ROWS, {"split": "leave_one_out"}, "are a split of their own, and data.split is 'leave_one_out'"),
        (ROWS, {"own": False}, "are one table, no split of their own, and data.split is 'files'"),
        (ROWS, {"min_rating": 4}, "data.split 'files' leaves no training interactions"),
        (ROWS, {"min_rating": 4, "ratings": [5.0, 5.0, 1.0] + [5.0] * 6}, "'files' leaves no validation interactions"),
        ([(0, 0, 1, 0), (0, 1, 2, 0), (1, 0, 3, 2)], {}, "nobody is left to be evaluated"),
    ],
)
def test_a_split_that_cannot_be(cut, tmp_path, rows, settings, words):
    with pytest.raises(FrugalError, match=words):
        cut(rows, **settings)
    assert not (tmp_path / "shards").exists()
