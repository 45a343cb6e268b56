"""A split of the user's own: files for training, validation and the test, read by hand, and what is refused."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from frugal.config.registry import check_entries
from frugal.config.sources import PathSource
from frugal.config.study import load_study
from frugal.errors import FrugalError
from tests.unit.data.conftest import Prepared
from tests.unit.data.test_interactions import parquet
from tests.unit.data.test_parts import prepare_source

COLUMNS = {"user": "u", "item": "i", "timestamp": "t"}
HEADER = b"u,i,t\n"
#: ann has x y, then z, then x again and w; bob has y in training, cat is in the test alone; w is never trained.
FILES = {
    "train.csv": HEADER + b"ann,y,20\nann,x,10\nbob,y,90\n",
    "valid.csv": HEADER + b"ann,z,30\n",
    "test.csv": HEADER + b"cat,x,5\nann,w,50\nann,x,40\nbob,x,60\n",
}
MEMBERS = {"train": "train.csv", "validation": "valid.csv", "test": "test.csv"}
ANN, BOB, CAT, W, X, Y, Z = 0, 1, 2, 0, 1, 2, 3


def prepare_files(folder: Path, files: dict[str, bytes], members=MEMBERS, form="csv", **settings) -> Prepared:
    (folder / "in").mkdir()
    for name, data in files.items():
        (folder / "in" / name).write_bytes(data)
    policies = {key: settings.pop(key) for key in ("on_bad_rows", "on_duplicates", "events") if key in settings}
    columns = {} if form == "sequences" else {"columns": COLUMNS} | settings
    source = PathSource(path=str(folder / "in"), format=form, members=members, **columns)
    return prepare_source(folder, source, **policies)


def parts(result: Prepared) -> list[tuple[int, int, int, int]]:
    return list(result.interactions[["user", "item", "timestamp", "part"]].itertuples(index=False, name=None))


def test_every_row_has_its_file_and_what_is_odd_is_counted(tmp_path):
    result = prepare_files(tmp_path, FILES)
    rows = [(ANN, X, 10, 0), (ANN, Y, 20, 0), (ANN, Z, 30, 1), (ANN, X, 40, 2), (ANN, W, 50, 2)]
    assert parts(result) == [*rows, (BOB, Y, 90, 0), (BOB, X, 60, 2), (CAT, X, 5, 2)]
    assert result.facts["split"] == {
        "rows": {"train": 3, "validation": 1, "test": 4},
        "without_history": {"validation": 0, "test": 1},
        "untrained": {"validation": 1, "test": 1},
        "earlier": {"validation": 0, "test": 1},
    }
    assert result.facts["lines"] == {"total": 11, "header": 3, "blank": 0, "continued": 0}
    assert list(result.facts["inputs"]) == ["test.csv", "train.csv", "valid.csv"]


def test_the_validation_may_be_missing_and_files_may_have_parts(tmp_path):
    files = {"train-0.csv": HEADER + b"ann,y,20\n", "train-1.csv": b"i,t,u\nx,10,ann\n", "test.csv": FILES["test.csv"]}
    with pytest.raises(FrugalError, match=r"train-1\.csv: begins with the columns i, t, u, train-0\.csv with u, i, t"):
        prepare_files(tmp_path, files, {"train": "train-*.csv", "test": "test.csv"})
    (again := tmp_path / "again").mkdir()
    # Columns are looked up by name in each file of the split.
    files |= {"train-1.csv": HEADER + b"ann,x,10\n", "test.csv": b"t,i,u\n30,z,ann\n"}
    result = prepare_files(again, files, {"train": ["train-0.csv", "train-1.csv"], "test": "test.csv"})
    assert [row[2:] for row in parts(result)] == [(10, 0), (20, 0), (30, 2)]
    assert result.facts["split"]["rows"] == {"train": 2, "validation": 0, "test": 1}


def test_sequences_and_parquet(tmp_path):
    (one := tmp_path / "one").mkdir()
    files = {"a.txt": b"ann x y\n", "b.txt": b"ann x\n"}
    result = prepare_files(one, files, {"train": "a.txt", "test": "b.txt"}, "sequences")
    assert [row[:2] + row[3:] for row in parts(result)] == [(0, 0, 0), (0, 1, 0), (0, 0, 2)]
    assert result.facts["split"]["earlier"] is None
    (two := tmp_path / "two").mkdir()
    files = {"a.parquet": parquet(u=[1, 1], i=[5, 6], t=[1, 2]), "b.parquet": parquet(u=[1], i=[7], t=[3])}
    result = prepare_files(two, files, {"train": "a.parquet", "test": "b.parquet"}, "parquet")
    assert [row[1:] for row in parts(result)] == [(0, 1, 0), (1, 2, 0), (2, 3, 2)]


def test_duplicates_within_a_file_and_a_row_in_two_files(tmp_path):
    (one := tmp_path / "one").mkdir()
    result = prepare_files(one, FILES | {"train.csv": FILES["train.csv"] + b"ann,x,10\n"})
    assert (len(parts(result)), result.facts["duplicates"]["removed"]) == (8, 1)
    (two := tmp_path / "two").mkdir()
    leak = FILES | {"test.csv": FILES["test.csv"] + b"ann,y,20\n"}
    with pytest.raises(FrugalError, match=r"test\.csv, line 6: the same user, item and timestamp as in an earlier"):
        prepare_files(two, leak)
    (three := tmp_path / "three").mkdir()
    assert len(parts(prepare_files(three, leak, on_duplicates="keep"))) == 9


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"train.csv": b""}, r"train\.csv: the file is empty"),
        ({"valid.csv": HEADER}, r"valid\.csv: holds no interactions .*members\.validation may be left out"),
        ({"test.csv": HEADER + b"cat,,5\n"}, r"test\.csv: holds no interactions that can be kept"),
        ({"test.csv": HEADER + b"cat,x,2020-01-01\n"}, r"test\.csv: times are written in two ways: in train\.csv as s"),
        ({"test.csv": b"u,item,t\ncat,x,5\n"}, r"test\.csv, line 1: has no column 'i' for the item"),
    ],
)
def test_files_that_are_no_part_of_a_split(tmp_path, changed, words):
    with pytest.raises(FrugalError, match=words):
        prepare_files(tmp_path, FILES | changed, on_bad_rows="skip")
    assert not list(tmp_path.glob("*.parquet"))


def test_event_types_of_a_split(tmp_path):
    files = {"a.csv": b"u,i,e\nann,x,buy\nann,y,view\n", "b.csv": b"u,i,e\nann,z,buy\n"}
    columns = {"user": "u", "item": "i", "event": "e"}
    result = prepare_files(tmp_path, files, {"train": "a.csv", "test": "b.csv"}, columns=columns, events=["buy"])
    assert [row[1:] for row in parts(result)] == [(0, 0, 0), (1, 1, 2)]
    assert result.facts["events"]["left_out"] == 1


def test_other_data_sets_are_written_as_before(prepared):
    result = prepared("csv", FILES["test.csv"], columns=COLUMNS)
    assert pq.read_schema(result.folder / "interactions.parquet").names == ["user", "item", "rating", "timestamp"]
    assert "split" not in result.facts


@pytest.mark.parametrize(
    ("members", "more", "words"),
    [
        ({"train": "a.csv"}, {}, "members must name 'ratings', .* or 'train' and 'test'"),
        ({"ratings": "r.csv", "test": "b.csv"}, {}, "members name 'ratings', and 'test' of a split too"),
        ({"train": "x/a.csv", "test": "y/a.csv"}, {}, "two members have the same file name"),
        ({"train": "a.csv", "test": "b.csv"}, {"min_interactions": 5}, "min_interactions would remove targets"),
    ],
)
def test_members_of_a_split(members, more, words):
    source = {"path": "in", "format": "csv", "columns": COLUMNS, "members": members}
    with pytest.raises(FrugalError, match=words):
        check_entries("datasets", {"mine": {"title": "Mine", "sources": [source], **more}}, "table")


@pytest.mark.parametrize("split", ["leave_one_out", "files"])
def test_the_studys_split_goes_with_the_files(split):
    members = {"ratings": "a.csv"} if split == "files" else {"train": "a.csv", "test": "b.csv"}
    source = {"path": "in", "format": "csv", "columns": COLUMNS, "members": members}
    run = {"kind": "recommendation", "title": "Next", "dataset": "mine", "data": {"split": split}}
    datasets = {"mine": {"title": "Mine", "sources": [source]}}
    words = f"next.variants.tuned: data.split is '{split}' on mine; data.split 'files' belongs"
    with pytest.raises(FrugalError, match=words):
        load_study({"study": "shop", "datasets": datasets, "experiments": {"next": run}}, "shop.yaml")
