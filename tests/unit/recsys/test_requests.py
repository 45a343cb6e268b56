"""Histories from files: what is read from each form, and what is said of a bad line."""

import io
import tracemalloc
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frugal.errors import FrugalError
from frugal.recsys.requests import read_requests


@pytest.fixture
def read(tmp_path):
    """The (user, history) pairs of a file with this content."""

    def from_file(name, content, columns=None):
        path = tmp_path / name
        if isinstance(content, dict):
            pq.write_table(pa.table(content), path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return [(request.user, request.history) for request in read_requests(str(path), columns)]

    return from_file


def test_json_lines(read):
    text = '\ufeff{"user": "ann", "history": ["a", 7, 8.0, " b "]}\n\n{"history": []}\n{"user": 12}\n'
    assert read("x.jsonl", text) == [("ann", ["a", "7", "8", "b"]), (None, []), ("12", None)]


def test_the_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"history": ["a"]}\n'))
    assert [request.history for request in read_requests("-")] == [["a"]]
    monkeypatch.setattr("sys.stdin", io.StringIO("{}\n"))
    with pytest.raises(FrugalError, match=r'standard input, line 1: neither "history" nor "user" is given'):
        list(read_requests("-"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"history": ["a"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["a"]', "not a JSON object"),
        ('{"hsitory": ["a"], "user": 1}', r"unknown key 'hsitory'; did you mean 'history'\?"),
        ('{"history": "a b"}', "the history must be a list of item ids, got 'a b'"),
        ('{"history": null}', "the history must be a list of item ids, got nothing"),
        ('{"history": ["a", {"id": 1}]}', "the item id must be a text or a whole number, got {'id': 1}"),
        ('{"history": [1.5]}', "the item id must be a text or a whole number, got 1.5"),
        ('{"history": [true]}', "the item id must be a text or a whole number, got True"),
        ('{"history": [""]}', "item id is missing"),
        ('{"history": ["a"], "user": ["ann"]}', r"the user id must be a text or a whole number, got \['ann'\]"),
    ],
)
def test_a_malformed_line_is_named(read, line, words):
    with pytest.raises(FrugalError, match=rf"x\.jsonl, line 2: {words}"):
        read("x.jsonl", f'{{"history": ["a"]}}\n{line}\n')


def test_rows_of_interactions(read):
    # Ann's third row is her first in time; equal times keep the order of the rows.
    text = "when,customer,sku\n30,ann,a\n30,ann,b\n10,ann,c\n2024-01-01,bob,d\n"
    assert read("x.csv", text) == [("ann", ["c", "a", "b"]), ("bob", ["d"])]
    assert read("x.csv", "who;what\nann;a\n", {"user": "who", "item": "what"}) == [("ann", ["a"])]
    assert read("x.tsv", 'user\titem\nann\t"a\tb"\n') == [("ann", ["a\tb"])]
    assert read("x.csv", "user\nann\nbob\nann\n") == [("ann", None), ("bob", None), ("ann", None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user,item\nann,a\nbob,b\nann,c\n", r"line 4: the user 'ann' has rows further up already; sort the rows"),
        ("user,item\nann,a\nann\n", r"line 3: 1 fields instead of 2: 'ann'"),
        ("user,item\nann,a\nann,\n", "line 3: item id is missing"),
        ("user,item,time\nann,a,1\nann,b,soon\n", "line 3: timestamp is neither a number nor ISO 8601"),
        ("user,item,time\nann,a,1\nann,b,2024-01-01\n", "line 2: the times of the user 'ann' are not written in one"),
        ("who,item\nann,a\n", r"no column has a usual name for the user; its columns are who, item.*--fields user="),
        (
            "user,podcast\nann,a\n",
            r"no column has a usual name for the item; its columns are user, podcast. Name it",
        ),
        (b"user,item\nann,a\nann,\xff\n", r"line 3: not in the encoding utf-8"),
        ("user,item\n", "holds no histories"),
        ("", "the file is empty"),
    ],
)
def test_a_bad_row_of_interactions_is_named(read, text, words):
    with pytest.raises(FrugalError, match=rf"x\.csv(, |: ){words}"):
        read("x.csv", text)


def test_parquet(read):
    assert read("x.parquet", {"user": [1, None], "history": [["a", "b"], []]}) == [("1", ["a", "b"]), (None, [])]
    assert read("x.parquet", {"history": [[3, 4]]}) == [(None, ["3", "4"])]
    times = pa.array([20, 10, 5], pa.timestamp("s"))
    assert read("x.parquet", {"user": [1, 1, 2], "item": ["a", "b", "c"], "time": times}) == [
        ("1", ["b", "a"]),
        ("2", ["c"]),
    ]
    assert read("x.parquet", {"user": ["ann", "ann"], "item": [2, 1], "ts": ["2", "1"]}) == [("ann", ["1", "2"])]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"user": [1], "basket": [["a"]]}, "no column has a usual name for the item; its columns are user, basket. Na"),
        ({"user": [1, 1], "history": [["a"], None]}, "row 2: the history must be a list of item ids, got nothing"),
        ({"user": [1, 1], "history": [["a"], [None]]}, "row 2: the item id must be a text or a whole number, got noth"),
        ({"user": [1, 1], "item": ["a", None]}, "row 2: the item id must be"),
        ({"user": [1, 1], "item": ["a", "b"], "time": pa.array([1, None], pa.timestamp("s"))}, "row 2: timestamp is m"),
        (b"PAR1 and no more", "not a readable Parquet file"),
    ],
)
def test_a_bad_row_of_parquet_is_named(read, content, words):
    with pytest.raises(FrugalError, match=rf"x\.parquet(, |: ){words}"):
        read("x.parquet", content)


def test_files_of_another_kind_and_wrong_fields(read, tmp_path):
    with pytest.raises(FrugalError, match=r"x\.xlsx: wanted are histories as \.jsonl"):
        read("x.xlsx", "")
    for name in ("x.jsonl", "x.csv", "x.parquet"):
        with pytest.raises(FrugalError, match=rf"{name}: .*No such file"):
            list(read_requests(str(tmp_path / "absent" / name)))
    with pytest.raises(FrugalError, match=r"there is no role 'usr'; did you mean 'user'\?"):
        read("x.csv", "user,item\n", {"usr": "who"})
    with pytest.raises(FrugalError, match=r"x\.csv: a \.csv file has one item in each row: --fields item="):
        read("x.csv", "user,history\nann,a\n", {"user": "user", "history": "history"})
    with pytest.raises(FrugalError, match=r"x\.csv: has no column 'usre' for the user; did you mean 'user'\?"):
        read("x.csv", "user,item\n", {"user": "usre"})


def test_a_large_file_is_never_held(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"user": "ann", "history": ["aaaaaaaa", "bbbbbbbb", "cccccccc"]}\n' * 20_000)
    requests = read_requests(str(path))
    next(requests)
    tracemalloc.start()
    try:
        assert sum(1 for _ in islice(requests, 10_000)) == 10_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        requests.close()
    assert peak < 200_000  # bytes; the file has 1.3 million
