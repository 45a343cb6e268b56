"""Interactions in several files, the parts of one table: by hand, against the whole table, and what is refused."""

import bz2
import gzip
import io
import json
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.config.registry import DatasetEntry
from frugal.config.sources import PathSource, UrlsSource
from frugal.data.interactions import delimited
from frugal.data.interactions.preparation import prepare
from frugal.data.source.fetch import fetch, members_of
from frugal.errors import FrugalError
from tests.fuzz.readers import parts_difference
from tests.unit.data.conftest import QUICK, FaultyServer, Prepared, make_zip
from tests.unit.data.test_interactions import THOROUGH, parquet

OWN = {"columns": {"user": "user", "item": "item", "rating": "stars", "timestamp": "when"}}
HEADER = b"user,item,stars,when\n"
ONE, TWO = b"b,x,4,20\na,y,5,30\n", b"a,x,1,10\nc,z,2,40\n"
ROWS = [(0, 0, 1.0, 10), (0, 1, 5.0, 30), (1, 0, 4.0, 20), (2, 2, 2.0, 40)]
SPARK = {
    "part-00001.csv": HEADER + TWO,
    "part-00000.csv": HEADER + ONE,
    "part-00002.csv": b"",
    "_SUCCESS": b"",
    "part-00000.csv.crc": b"crc",
    ".part-00000.csv.crc": b"crc",
}


def reviews(rows: list[tuple[str, str, float, int]], keys: tuple[str, ...]) -> bytes:
    return b"".join(json.dumps(dict(zip(keys, row, strict=True))).encode() + b"\n" for row in rows)


def prepare_source(folder: Path, source: Any, **policies: Any) -> Prepared:
    entry = DatasetEntry(title="test", sources=(source,), **policies)
    fetch("test", entry, folder / "raw", downloads=folder / "downloads", patience=QUICK)
    out = [folder / name for name in ("interactions.parquet", "items.parquet", "users.parquet", "summary.json")]
    return Prepared(prepare("test", entry, folder / "raw", *out), folder)


def test_parts_are_one_table_in_the_order_of_their_names(prepared) -> None:
    result = prepared("csv", SPARK, **OWN)
    assert result.rows == ROWS
    assert result.facts["lines"] == {"total": 6, "header": 2, "blank": 0, "continued": 0}
    assert (result.facts["rows_read"], result.facts["rows_kept"]) == (4, 4)
    assert list(result.facts["inputs"]) == ["part-00000.csv", "part-00001.csv", "part-00002.csv"]
    # Without times the order of the rows is that of the files' names.
    untimed = {role: name for role, name in OWN["columns"].items() if role != "timestamp"}
    result = prepared("csv", SPARK, columns=untimed)
    assert result.rows == [(0, 1, 5.0, 1), (0, 0, 1.0, 2), (1, 0, 4.0, 0), (2, 2, 2.0, 3)]


def test_parts_without_a_header_and_a_list_of_names(prepared) -> None:
    positions = {"user": 0, "item": 1, "rating": 2, "timestamp": 3}
    files = {"b.csv": TWO, "a.csv": ONE, "old.csv": b"z,z,1,1\n"}
    assert prepared("csv", files, pattern=("b.csv", "a.csv"), columns=positions).rows == ROWS


def test_packed_parts(prepared, tmp_path: Path) -> None:
    files = {"part-0.csv.gz": gzip.compress(HEADER + ONE), "part-1.csv.bz2": bz2.compress(HEADER + TWO)}
    assert prepared("csv", files, **OWN).rows == ROWS
    both = {"part-0.csv": HEADER + ONE, "part-0.csv.gz": gzip.compress(HEADER + ONE)}
    with pytest.raises(FrugalError, match=r"there is a part-0\.csv too; name only one"):
        prepared("csv", both, **OWN)
    make_zip(tmp_path / "shop.zip", {f"out/{name}": data for name, data in (files | {"_SUCCESS": b""}).items()})
    source = PathSource(path=str(tmp_path / "shop.zip"), format="csv", members={"ratings": "out/part-*.csv.*"}, **OWN)
    assert prepare_source(tmp_path, source).rows == ROWS
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["part-0.csv", "part-1.csv", "source.json"]


def test_parts_of_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shop.tar.gz", "w:gz") as bundle:
        for name, data in (SPARK | {"items.csv": b"item\nx\ny\nz\n"}).items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    members = {"ratings": "*.csv", "items": "items.csv"}
    source = PathSource(path=str(tmp_path / "shop.tar.gz"), format="csv", members=members, **OWN)
    assert prepare_source(tmp_path, source).rows == ROWS


def test_a_folder_of_parts_alone_needs_no_members(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, data in SPARK.items():
        (folder / name).write_bytes(data)
    source = PathSource(path=str(folder), format="csv", **OWN)
    assert prepare_source(tmp_path, source).rows == ROWS
    (folder / "products.csv").write_text("item\nx\n")
    with pytest.raises(
        FrugalError, match=r"which file holds the interactions\? It has .*part-00000.csv.*products\.csv"
    ):
        fetch("test", DatasetEntry(title="t", sources=(source,)), tmp_path / "again", downloads=tmp_path)


def test_the_order_of_the_parts_is_the_same_at_every_start(tmp_path: Path) -> None:
    names = [f"part-{number:05}.csv" for number in range(40)]
    for name in reversed(names):
        (tmp_path / name).write_bytes(ONE)
    source = PathSource(path=str(tmp_path), format="csv", members={"ratings": "part-*"}, **OWN)
    assert [name for _, name in members_of(source, tmp_path).values()] == names


def test_parts_behind_several_addresses(tmp_path: Path, server: FaultyServer) -> None:
    server.content = ONE
    positions = {"user": 0, "item": 1, "rating": 2, "timestamp": 3}
    urls = [server.url(f"part-{number}.csv") for number in (1, 0)]
    result = prepare_source(
        tmp_path, UrlsSource(urls=urls, file="shop", format="csv", columns=positions), on_duplicates="keep"
    )
    assert result.rows == [(0, 1, 5.0, 30)] * 2 + [(1, 0, 4.0, 20)] * 2


def test_parts_of_parquet_and_of_json_lines(prepared) -> None:
    first = parquet(user=["b", "a"], item=["x", "y"], stars=[4, 5], when=[20, 30])
    second = parquet(user=["a", "c"], item=["x", "z"], stars=[1.0, 2.0], when=[10, 40])
    assert prepared("parquet", {"part-1.parquet": second, "part-0.snappy.parquet": first}, **OWN).rows == ROWS
    keys = ("user_id", "parent_asin", "rating", "timestamp")
    # The first review decides for all parts which keys are read.
    first = reviews([("b", "x", 4, 20), ("a", "y", 5, 30)], keys)
    second = reviews([("a", "x", 1, 10), ("c", "z", 2, 40)], keys)
    result = prepared("amazon-json", {"part-1.json": second, "part-0.json.gz": gzip.compress(first)})
    assert result.rows == ROWS
    other = reviews([("q", "x", 1, 10)], ("reviewerID", "asin", "overall", "unixReviewTime"))
    with pytest.raises(FrugalError, match=r"part-1\.json, line 1: user_id is missing"):
        prepared("amazon-json", {"part-0.json": first, "part-1.json": other})


def test_parts_of_sequences(prepared) -> None:
    assert prepared("sequences", {"part-0": b"b x y\n", "part-1": b"a y\n"}).rows == [
        (0, 1, 1.0, 0),
        (1, 0, 1.0, 0),
        (1, 1, 1.0, 1),
    ]
    with pytest.raises(FrugalError, match=r"part-1, line 2: a second line .*: the first is line 1 of part-0"):
        prepared("sequences", {"part-0": b"b x y\n", "part-1": b"a y\nb z\n"})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"part-0.csv": HEADER + ONE, "part-1.csv": TWO}, r"part-1\.csv: begins with the columns a, x, 1, 10, part-0"),
        (
            {"part-0.csv": HEADER + ONE, "part-1.csv": b"user,item,when,stars\na,x,10,1\n"},
            r"part-1\.csv: begins with the columns user, item, when, stars, part-0\.csv with user, item, stars, when",
        ),
        ({"part-0.csv": TWO, "part-1.csv": HEADER + ONE}, r"part-0\.csv, line 1: has no column 'user'"),
        ({"part-0.csv": b"", "part-1.csv": b""}, r"part-0\.csv: the file is empty, and so are the other parts"),
        ({"data.csv": HEADER, "b.csv": b""}, r"has no file like part-\*; it holds b\.csv, data\.csv"),
        ({"_SUCCESS": b"", "part-0.crc": b""}, r"has no file like part-\*; it holds _SUCCESS, part-0\.crc"),
        ({"part-0.csv": HEADER + ONE, "part-1.csv": HEADER + b"a,x,good,1\n"}, r"part-1\.csv, line 2: rating is not"),
        ({"part-0.csv": HEADER, "part-1.csv": HEADER}, "holds no interactions"),
        (
            {"part-0.csv": HEADER + ONE, "part-1.csv": HEADER + b"a,x,1,1500000000000\n"},
            r"part-1\.csv: times are written in two ways: in part-0\.csv as s, here as ms",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(prepared, files: dict[str, bytes], words: str) -> None:
    with pytest.raises(FrugalError, match=words):
        prepared("csv", files, **OWN)


def test_parquet_parts_of_other_columns(prepared) -> None:
    files = {"part-0": parquet(user=["a"], item=["x"]), "part-1": parquet(user=["a"], item=["x"], note=["n"])}
    with pytest.raises(FrugalError, match=r"part-1: begins with the columns user, item, note, part-0 with user, item;"):
        prepared("parquet", files, columns={"user": "user", "item": "item"})


def test_lists_are_of_interactions(tmp_path: Path) -> None:
    for members, words in [
        ({"ratings": "a", "items": ("b", "c")}, r"members\.items is one file"),
        ({"ratings": ()}, r"members\.ratings names no file"),
        ({"ratings": ("a/x", "b/x")}, "the same file name"),
        ({"ratings": ("a", 3)}, r"ratings: must be the path of a file, a pattern or a list of paths, got \('a', 3\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            PathSource(path="x", format="csv", members=members, **OWN)
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "x.csv").write_bytes(HEADER + ONE)
    source = PathSource(path=str(tmp_path / "in"), format="csv", members={"ratings": "*/x.csv"}, **OWN)
    with pytest.raises(FrugalError, match=r"a/x\.csv and b/x\.csv have the same file name"):
        prepare_source(tmp_path, source)


def test_skipped_rows_and_duplicates_name_their_part(prepared) -> None:
    files = {
        "part-0": HEADER + b"a,x,1,1\n,x,1,2\n\n",
        "part-1": HEADER + b"a,y,1\nb,y,3,2\n",
        "part-2": HEADER + b"b,y,4,2\n",
    }
    facts = prepared("csv", files, on_bad_rows="skip", **OWN).facts
    assert [(one["file"], one["line"]) for one in facts["skipped_examples"]] == [("part-0", 3), ("part-1", 2)]
    assert facts["skipped"] == {"user id is missing": 1, "wrong number of fields": 1}
    assert facts["lines"] == {"total": 9, "header": 3, "blank": 1, "continued": 0}
    assert (facts["rows_read"], facts["rows_kept"], facts["duplicates"]["removed"]) == (5, 2, 1)
    with pytest.raises(FrugalError, match=r"part-2, line 2: the same user, item and timestamp"):
        prepared("csv", files, on_bad_rows="skip", on_duplicates="error", **OWN)


@pytest.mark.parametrize(
    ("whole", "unit"),
    [
        (["2020-01-01", "2020-01-01T00:00:00.5Z", "2020-01-02"], "ms"),
        (["0", "1500000000001", "1500000000000"], "ms"),
        (["0", "10", "12.5"], "ms"),
        (["0", "0", "0"], "s"),
    ],
)
def test_the_unit_is_that_of_all_parts(prepared, whole: list[str], unit: str) -> None:
    rows = [f"a,x,1,{time}\n".encode() for time in whole]
    together = prepared("csv", HEADER + b"".join(rows), on_duplicates="keep", **OWN)
    apart = prepared("csv", {f"part-{n}": HEADER + row for n, row in enumerate(rows)}, on_duplicates="keep", **OWN)
    assert (apart.rows, apart.facts["time"]) == (together.rows, together.facts["time"])
    assert apart.facts["time"]["unit"] == unit


times = st.sampled_from(["0", "5", "-7", "12.5", "2020-01-01", "2020-01-01T00:00:00.25Z", "soon", ""])
rows = st.tuples(st.sampled_from(["a", "b", "12.0", "NULL", '"q,r"']), st.sampled_from("xyz"), st.integers(0, 6), times)


@pytest.mark.parametrize("form", ["csv", "parquet", "amazon-json"])
@given(table=st.lists(rows, min_size=1, max_size=12), cuts=st.lists(st.integers(0, 12), max_size=4), slow=st.booleans())
@THOROUGH
def test_any_cuts_of_a_table_give_the_interactions_of_the_whole(
    prepared, form: str, table: list[Any], cuts: list[int], slow: bool
) -> None:
    bounds = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]
    pieces = [table[low:high] for low, high in pairwise(bounds)]
    settings = {"on_bad_rows": "skip", "on_duplicates": "keep", "rating_range": (1, 5)}
    settings |= {} if form == "amazon-json" else OWN

    def outcome(files: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if slow:
                patch.setattr(delimited, "_read_fast", lambda *_: None)
            try:
                result = prepared(form, files, **settings)
            except FrugalError as error:
                return next(words for words in ("two ways", "no interactions", "empty") if words in str(error))
        names = ("rows_read", "rows_kept", "skipped", "time", "users_sha256", "timestamps")
        return result.rows, list(result.items.index), {name: result.facts[name] for name in names}

    parts = {f"part-{number}": write(form, piece) for number, piece in enumerate(pieces)}
    assert outcome(parts) == outcome(write(form, table))


def write(form: str, table: list[Any]) -> bytes:
    if form == "csv":
        return HEADER + b"".join(",".join(map(str, row)).encode() + b"\n" for row in table)
    if form == "parquet":
        columns = zip(*table, strict=True) if table else [()] * 4
        schema = pa.schema([("user", "string"), ("item", "string"), ("stars", "int64"), ("when", "string")])
        sink = io.BytesIO()
        pq.write_table(pa.table([list(column) for column in columns], schema=schema), sink)
        return sink.getvalue()
    numbers = [(user, item, rating, float(time)) for user, item, rating, time in table if time in ("5", "12.5")]
    return reviews(numbers, ("user_id", "parent_asin", "rating", "timestamp"))


@pytest.mark.parametrize("seed", range(200))
def test_both_readers_read_parts_as_the_whole(tmp_path: Path, seed: int) -> None:
    assert parts_difference(seed, tmp_path) is None


def test_times_of_parts_that_no_unit_holds(prepared) -> None:
    files = {"part-0": HEADER + b"a,x,1,0001-01-01\n", "part-1": HEADER + b"a,y,1,2020-01-01T00:00:00.000000001Z\n"}
    with pytest.raises(FrugalError, match="fractions of a second so fine"):
        prepared("csv", files, **OWN)
