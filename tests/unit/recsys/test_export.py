"""Splits in other libraries' formats, read back by hand: the histories and targets of the shards, under their ids."""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import export_data
import partition_interactions
from frugal.config.recommendation import RecommendationRun
from frugal.config.study import read_study
from frugal.errors import FrugalError
from frugal.files import read_json, write_json
from frugal.recsys.export import FORMATS
from frugal.recsys.shards import read_split

USERS, ITEMS = ["ann", "bob", "cat"], ["a", "b", "c", "d", "e"]
#: ann: a b c d, bob: c a, cat: b d a; nobody has e.
ROWS = [(0, 0, 1500), (0, 1, 2000), (0, 2, 2000), (0, 3, 9000), (1, 2, 0), (1, 0, 3000)]
ROWS += [(2, 1, 100), (2, 3, 200), (2, 0, 300)]


def write_prepared(folder: Path, rows=ROWS, users=USERS, items=ITEMS, **facts) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    user, item, time = zip(*rows, strict=True)
    columns = {"user": pa.array(user, pa.int32()), "item": pa.array(item, pa.int32())}
    columns |= {"rating": pa.array([1.0] * len(rows), pa.float32()), "timestamp": pa.array(time, pa.int64())}
    described = {"item": pa.array(range(len(items)), pa.int32()), "title": items, "original_id": items}
    described["attributes"] = pa.array([[]] * len(items), pa.list_(pa.string()))
    people = {"user": pa.array(range(len(users)), pa.int32()), "original_id": users}
    for name, table in (("interactions", columns), ("items", described), ("users", people)):
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    write_json(folder / "summary.json", {"timestamps": True, "time": {"unit": "ms"}} | facts)
    return {name: folder / name for name in export_data.FILES}


@pytest.fixture
def export(tmp_path):
    """A function that exports rows in a format; returns the folder, the notes and the split of the shards."""

    def run(form: str, rows=ROWS, max_length: int = 50, settings=None, history="auto", **more):
        paths = write_prepared(tmp_path / "shop", rows, **more)
        wanted = RecommendationRun(dataset="shop", data=settings or {}, evaluation={"history": history})
        data = export_data.read_export("shop", wanted, paths, max_length)
        (tmp_path / form).mkdir()
        notes = FORMATS[form](tmp_path / form, data)
        argv = ["--interactions", paths["interactions.parquet"], "--items", paths["items.parquet"]]
        argv += ["--summary", paths["summary.json"], "--output", tmp_path / "shards"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["x", *map(str, argv), "--settings", wanted.data.model_dump_json()])
            partition_interactions.main()
        return tmp_path / form, notes, read_split(tmp_path / "shards", wanted.data.fraction)

    return run


def inter(folder: Path, part: str) -> list[tuple[str, str, str]]:
    head, *lines = (folder / f"shop.{part}.inter").read_text().splitlines()
    assert head == "user_id:token\titem_id_list:token_seq\titem_id:token"
    return [tuple(line.split("\t")) for line in lines]


def cases(split, part, history="auto") -> list[tuple[str, str, str]]:
    """What the shards have to be predicted, as rows of RecBole's."""
    targets, context = split.targets(part, history), split.context(part)
    rows = [(user, target) for user in split.cases(part, history) for target in targets[user]]
    return [(USERS[user], " ".join(ITEMS[item] for item in context[user]), ITEMS[target]) for user, target in rows]


def test_recbole(export):
    folder, notes, split = export("recbole")
    assert inter(folder, "train") == [("ann", "a", "b"), ("bob", "c", "a")]
    assert inter(folder, "valid") == [("ann", "a b", "c"), ("cat", "b", "d")] == cases(split, "validation")
    assert inter(folder, "test") == [("ann", "a b c", "d"), ("cat", "b d", "a")] == cases(split, "test")
    assert (folder / "shop.item").read_text().split() == ["item_id:token", *ITEMS]
    settings = yaml.safe_load((folder / "recbole.yaml").read_text())
    assert (settings["dataset"], settings["benchmark_filename"]) == ("shop", ["train", "valid", "test"])
    assert len(notes) == 1


def test_recbole_cuts_histories(export):
    folder, notes, _ = export("recbole", max_length=2)
    assert inter(folder, "test") == [("ann", "b c", "d"), ("cat", "b d", "a")]
    assert yaml.safe_load((folder / "recbole.yaml").read_text())["MAX_ITEM_LIST_LENGTH"] == 2
    assert "newest 2 items" in notes[0]


@pytest.mark.parametrize("wrong", ["two words", 'qu"ote', "tab\tbed"])
def test_an_id_that_recbole_would_cut_is_refused(export, wrong):
    with pytest.raises(FrugalError, match=r"shop: the item id .* holds a blank or a double quote.*FORMAT=rectools"):
        export("recbole", items=[*ITEMS[:3], wrong, "e"])


def rows_of(folder: Path, part: str) -> list[tuple]:
    table = pd.read_parquet(folder / f"{part}.parquet")
    assert list(table.columns) == ["user_id", "item_id", "weight", "datetime", "target"]
    assert set(table["weight"]) <= {1.0}
    time = table["datetime"].astype("datetime64[ns]").astype("int64") // 10**6
    return list(zip(table["user_id"], table["item_id"], time, table["target"], strict=True))


def test_rectools(export):
    folder, _, split = export("rectools")
    assert rows_of(folder, "train") == [
        ("ann", "a", 1500, False),
        ("ann", "b", 2000, False),
        ("bob", "c", 0, False),
        ("bob", "a", 3000, False),
        ("cat", "b", 100, False),
    ]
    assert rows_of(folder, "validation") == [("ann", "c", 2000, True), ("cat", "d", 200, True)]
    assert rows_of(folder, "test") == [("ann", "d", 9000, True), ("cat", "a", 300, True)]
    # Sorted by time as RecTools does, the history is that of the shards, also where times are equal.
    whole = pd.concat([pd.read_parquet(folder / f"{part}.parquet") for part in ("train", "validation")])
    ordered = whole.sort_values("datetime", kind="stable").groupby("user_id")["item_id"].agg(list)
    assert ordered.to_dict() == {
        name: [ITEMS[item] for item in split.context("test")[user]] for user, name in enumerate(USERS)
    }


def test_data_without_times(export):
    rows = [(user, item, place) for place, (user, item, _) in enumerate(ROWS)]
    folder, notes, _ = export("rectools", rows, timestamps=False, time=None)
    assert [row[2] for row in rows_of(folder, "test")] == [3000, 8000]
    assert "datetime is the place" in notes[-1]


def test_several_targets_repeats_and_users_without_history(export):
    # The test part begins at 80: ann has c, a (again), c (again); dan has only b there, and no history.
    rows = [(0, 0, 10), (1, 1, 20), (1, 2, 30), (2, 0, 40), (0, 1, 50), (1, 3, 60), (2, 3, 70)]
    rows += [(0, 2, 80), (0, 0, 90), (0, 2, 95), (3, 1, 99)]
    settings = {"split": "global_time", "validation_share": 0.2, "test_share": 0.3}
    folder, _, split = export("rectools", rows, settings=settings, users=[*USERS, "dan"])
    found = rows_of(folder, "test")
    assert [row[:2] for row in found] == [("ann", "c"), ("ann", "a"), ("ann", "c"), ("dan", "b")]
    assert [row[3] for row in found] == [True, True, False, False]
    assert split.targets("test")[0].tolist() == [2, 0]


def test_the_history_may_be_left_out_and_each_target_has_a_row(export):
    rows = [(0, 0, 10), (1, 1, 20), (1, 2, 30), (2, 0, 40), (0, 1, 50), (1, 3, 60), (2, 3, 70)]
    rows += [(0, 2, 80), (0, 0, 90), (0, 3, 95)]
    settings = {"split": "global_time", "validation_share": 0.2, "test_share": 0.3}
    folder, notes, split = export("recbole", rows, settings=settings, history="exclude")
    assert inter(folder, "test") == [("ann", "a b", "c"), ("ann", "a b", "d")] == cases(split, "test", "exclude")
    assert "a row for each" in notes[-1]


def numbers(path: Path) -> list[list[str]]:
    head, *rows = csv.reader(path.read_text().splitlines())
    assert head == ["number", "id"]
    return rows


def test_sasrec_as_its_authors_cut_it(export):
    folder, notes, split = export("sasrec")
    lines = (folder / "shop.txt").read_text().splitlines()
    assert lines == ["1 1", "1 2", "1 3", "1 4", "2 3", "2 1", "3 2", "3 4", "3 1"]
    histories = defaultdict(list)
    names = {name: dict(numbers(folder / f"{name}.csv")) for name in ("users", "items")}
    for line in lines:
        user, item = line.split(" ")
        histories[names["users"][user]].append(names["items"][item])
    for user, history in histories.items():
        cut = len(history) - 2 if len(history) >= 3 else len(history)
        parts = history[:cut], history[cut : cut + 1], history[cut + 1 :]
        number = USERS.index(user)
        shards = ([ITEMS[item] for item in part[number]] for part in (split.train, split.validation, split.test))
        assert parts == tuple(shards), user
    assert "have no number: 1" in notes[0]


def test_only_the_users_that_a_run_reads(export):
    settings = {"shards": 3, "fraction": 0.5}
    folder, _, split = export("sasrec", settings=settings)
    assert {line.split()[0] for line in (folder / "shop.txt").read_text().splitlines()} == {"1", "2"}
    assert numbers(folder / "users.csv") == [["1", "ann"], ["2", "bob"]]
    assert split.train.lengths.tolist() == [2, 2, 0]


STUDY = """
study: shop
datasets:
  shop: {title: Shop, sources: [{path: shop.csv, format: csv, columns: {user: u, item: i, timestamp: t}}]}
experiments:
  next:
    kind: recommendation
    title: Next
    dataset: shop
    variants:
      one: {}
      two: {data: {min_rating: 1}}
  timed:
    kind: recommendation
    title: By time
    dataset: shop
    data: {split: global_time}
    variants: {moment: {}}
"""


@pytest.fixture
def main(tmp_path, monkeypatch):
    def run(**options: str) -> None:
        (tmp_path / "study.yaml").write_text(STUDY)
        given = {"configfile": tmp_path / "study.yaml", "prepared": tmp_path, "output": tmp_path / "out"} | options
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", ["export_data.py", *words])
        export_data.main()

    return run


def test_the_command(main, tmp_path, capsys):
    write_prepared(tmp_path / "shop")
    main(data="shop", format="sasrec", run="next/one")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "export.json",
        "items.csv",
        "shop.txt",
        "users.csv",
    ]
    facts = read_json(tmp_path / "out" / "export.json")
    assert facts["rows"] == {"train": 5, "validation": 2, "test": 2}
    assert (facts["users"], facts["items"], facts["targets"]) == (3, 5, {"validation": 2, "test": 2})
    assert "note: Items without interactions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "shop", "format": "recbol", "run": "next/one"}, "FORMAT=recbol: .* did you mean 'recbole'"),
        ({"data": "", "format": "sasrec"}, "DATA=: no recommender of the study 'shop' reads it; they read: shop"),
        ({"data": "shop", "format": "sasrec"}, "in different ways; choose RUN=next/one or RUN=next/two or RUN=timed"),
        ({"data": "shop", "format": "sasrec", "run": "next/thre"}, "RUN=next/thre: there is no such run on shop"),
        ({"data": "shop", "format": "sasrec", "run": "timed/moment"}, "FORMAT=sasrec: .* 'global_time'"),
        ({"data": "shop", "format": "sasrec", "run": "next/one"}, r"interactions\.parquet: not there; prepare"),
    ],
)
def test_what_cannot_be_exported_is_named(main, tmp_path, options, words):
    with pytest.raises(FrugalError, match=words):
        main(**options)
    assert not (tmp_path / "out").exists()


def test_the_shipped_studies_have_one_way_for_each_data_set():
    study = read_study("config/config.yaml")
    assert export_data.find_run(study, "movielens-100k").data.split == "leave_one_out"
