"""The user's own files, duplicates, numbering, and what generated files must satisfy."""

import csv
import io
import json
import math
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frugal.data.interactions import preparation as interactions
from frugal.data.interactions.movielens import RATINGS
from frugal.data.interactions.nulls import is_null
from frugal.data.interactions.rows import WHOLE_FLOAT
from frugal.errors import FrugalError
from tests.fuzz.readers import difference

OWN = {"columns": {"user": "who", "item": "what", "rating": "stars", "timestamp": "when"}}
CSV = b"when,who,what,stars,note\n30,bob,x1,2.5,\n10,ann,x1,4,good\n20,bob,a b,1,\n"
ROWS = [(0, 1, 4.0, 10), (1, 0, 1.0, 20), (1, 1, 2.5, 30)]  # by user and time
THOROUGH = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_csv_with_named_columns(prepared) -> None:
    result = prepared("csv", CSV, **OWN)
    assert result.rows == ROWS
    assert list(result.items.index) == list(result.items.title) == ["a b", "x1"]
    assert [list(values) for values in result.items.attributes] == [[], []]


def test_csv_of_another_separator_encoding_and_with_quotes(prepared) -> None:
    text = 'who;what;note\n"Zoë";"a;b";"two\nlines ""quoted"""\nann;c;\n'
    columns = {"user": "who", "item": "what"}
    result = prepared("csv", text.encode("latin-1"), columns=columns, separator=";", encoding="latin-1")
    # Without rating and timestamp: 1 and the position.
    assert result.rows == [(0, 0, 1.0, 0), (1, 1, 1.0, 1)]
    assert list(result.items.index) == ["a;b", "c"]


def test_csv_with_a_separator_of_several_letters(prepared) -> None:
    text = CSV.replace(b",", b"<>")
    assert prepared("csv", text, separator="<>", **OWN).rows == ROWS


def test_items_of_ones_own(prepared) -> None:
    items = b"id,name,kind,made\nx1,First,fun/new,2001\nz,Unrated (1999),,\na b,,new,\n"
    columns = {"item": "id", "title": "name", "attributes": "kind", "year": "made"}
    result = prepared("csv", CSV, items, item_columns=columns, attribute_separator="/", **OWN)
    assert list(result.items.index) == ["a b", "x1", "z"]
    assert list(result.items.title) == ["a b", "First", "Unrated (1999)"]
    assert [list(values) for values in result.items.attributes] == [["new"], ["fun", "new"], []]
    assert result.items.year["x1"] == 2001
    assert math.isnan(result.items.year["z"])


def test_items_of_ones_own_in_parquet(prepared) -> None:
    items = parquet(
        id=["x1", "z"],
        name=["First", None],
        kind=[["fun", "new"], None],
        made=pa.array([2001, None], pa.int64()),
    )
    columns = {"item": "id", "title": "name", "attributes": "kind", "year": "made"}
    result = prepared("csv", CSV, items, item_columns=columns, **OWN)
    assert list(result.items.title) == ["a b", "First", "z"]
    assert [list(values) for values in result.items.attributes] == [[], ["fun", "new"], []]
    assert result.items.year["x1"] == 2001
    assert result.facts["items_without_description"] == 1


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (b"id,made\nx1,soon\n", "line 2: year is not a whole number: 'x1,soon'"),
        (b"id,made\nx1,99999\n", "line 2: year is not a whole number"),
        (b"id,made\nx1\n", "line 2: wrong number of fields"),
        (b"id,made\nx\xff,1\n", "line 2: not in the encoding utf-8"),
        (b"id,made\nx1,1\nx1,2\n", "line 3: item is described twice"),
    ],
)
def test_a_bad_item_row_of_ones_own_is_named_or_skipped(prepared, items: bytes, words: str) -> None:
    columns = {"item": "id", "year": "made"}
    with pytest.raises(FrugalError, match=rf"items\.csv, {words}"):
        prepared("csv", CSV, items, item_columns=columns, **OWN)
    more = items + b"a b,1\n"
    facts = prepared("csv", CSV, more, item_columns=columns, on_bad_rows="skip", **OWN).facts
    assert sum(facts["item_rows_skipped"].values()) == 1


def test_parquet(prepared) -> None:
    columns = {
        "who": ["bob", "ann", "bob"],
        "what": ["x1", "x1", "a b"],
        "stars": [2.5, 4, 1],
        "when": [30, 10, 20],
    }
    assert prepared("parquet", parquet(**columns), **OWN).rows == ROWS
    when = pa.array([30_000, 10_000, 20_000], pa.timestamp("ms", "Europe/Paris"))
    result = prepared("parquet", parquet(**columns | {"when": when}), **OWN)
    assert result.rows == ROWS
    assert result.facts["time"] == {"source": "timestamp[ms, tz=Europe/Paris]", "unit": "s"}
    when = pa.array([30_000, 10_999, 20_000], pa.timestamp("ms"))
    result = prepared("parquet", parquet(**columns | {"when": when}), **OWN)
    assert [row[3] for row in result.rows] == [10_999, 20_000, 30_000]
    assert result.facts["time"]["unit"] == "ms"
    days = prepared("parquet", parquet(**columns | {"when": pa.array([3, 1, 2], pa.date32())}), **OWN)
    assert [row[3] for row in days.rows] == [86_400, 172_800, 259_200]
    numbers = prepared("parquet", parquet(who=[10, 9], what=[1.0, 2.0], stars=[1, 1], when=[1.0, 2.0]), **OWN)
    assert numbers.rows == [(0, 1, 1.0, 2), (1, 0, 1.0, 1)]
    assert list(numbers.items.index) == ["1", "2"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"who": ["bob", None]}, "line 2: user id is missing"),
        ({"who": [1.0, math.nan]}, "line 2: user id is missing"),
        ({"what": [5, -5]}, "line 2: item id is negative"),
        ({"stars": [1.0, math.nan]}, "line 2: rating is missing"),
        ({"stars": ["good", "bad"]}, "line 1: rating is not a number"),
        ({"when": ["soon", "2"]}, "line 1: timestamp is neither a number nor ISO 8601"),
        ({"when": [1, None]}, "line 2: timestamp"),
    ],
)
def test_bad_parquet_rows(prepared, change: dict[str, Any], words: str) -> None:
    columns = {"who": ["bob", "ann"], "what": ["x", "y"], "stars": [1.0, 2.0], "when": [1, 2]} | change
    with pytest.raises(FrugalError, match=rf"ratings\.parquet, {words}"):
        prepared("parquet", parquet(**columns), **OWN)
    kept = prepared("parquet", parquet(**columns), on_bad_rows="skip", **OWN) if "good" not in str(change) else None
    assert kept is None or kept.facts["rows_kept"] == 1


@pytest.mark.parametrize("column", [pa.array([[1], [2]]), pa.array([1, 2], pa.date32())])
def test_ids_of_a_type_that_is_no_id(prepared, column: pa.Array) -> None:
    rows = parquet(who=column, what=["x", "y"], stars=[1.0, 2.0], when=[1, 2])
    with pytest.raises(FrugalError, match=r"the column 'who' for the user is of type .*, not numbers or text"):
        prepared("parquet", rows, **OWN)


def test_what_is_no_parquet_or_lacks_a_column(prepared) -> None:
    with pytest.raises(FrugalError, match=r"ratings\.parquet: not a readable Parquet file"):
        prepared("parquet", b"PAR1 and then nothing", **OWN)
    with pytest.raises(FrugalError, match="has no column 'stars' for the rating; did you mean 'star'"):
        prepared("parquet", parquet(who=[1], what=[1], star=[1], when=[1]), **OWN)


def test_sequences(prepared) -> None:
    result = prepared("sequences", b"bob x1 a  x1\n\nann a\n")
    assert result.rows == [(0, 0, 1.0, 0), (1, 1, 1.0, 0), (1, 0, 1.0, 1), (1, 1, 1.0, 2)]
    tabs = prepared("sequences", b"10\t3\t20\n9\t3\n", separator="\t")
    assert tabs.rows == [(0, 0, 1.0, 0), (1, 0, 1.0, 0), (1, 1, 1.0, 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"ann x\nbob\n", "line 2: no items after the user: 'bob'"),
        (b"ann x\nbob y\nann z\n", "line 3: a second line for the same user: the first is line 1"),
        (b"ann x\nbob -3\n", "line 2: item id is negative"),
        (b"ann x\nbob \xff\n", "line 2: not in the encoding utf-8"),
    ],
)
def test_bad_sequences(prepared, text: bytes, words: str) -> None:
    with pytest.raises(FrugalError, match=words):
        prepared("sequences", text)
    assert prepared("sequences", text, on_bad_rows="skip").facts["skipped"].popitem()[1] == 1


@pytest.mark.parametrize(
    ("policy", "kept", "removed"),
    [
        ("keep_last", [(1.0, 5), (4.0, 5), (3.0, 9)], 1),
        ("keep_first", [(1.0, 5), (4.0, 5), (2.0, 9)], 1),
        ("keep", [(1.0, 5), (4.0, 5), (2.0, 9), (3.0, 9)], 0),
    ],
)
def test_duplicates(prepared, policy: str, kept: list[tuple[float, int]], removed: int) -> None:
    # The same user, item and time twice; the same user and item at another time is no duplicate.
    text = b"who,what,stars,when\nann,x,1,5\nann,y,2,9\nann,y,3,9\nann,y,4,5\n"
    result = prepared("csv", text, on_duplicates=policy, tie_order="file", **OWN)
    assert [(row[2], row[3]) for row in result.rows] == kept
    assert result.facts["duplicates"] == {"policy": policy, "removed": removed}


def test_duplicates_as_errors_name_the_line(prepared) -> None:
    text = b"who,what,stars,when\n\nann,x,1,5\nann,y,2,9\nann,y,3,9\n"
    with pytest.raises(FrugalError, match=r"ratings\.csv, line 5: the same user, item and timestamp.*'ann,y,3,9'"):
        prepared("csv", text, on_duplicates="error", **OWN)
    bad = text.replace(b"x,1,5", b"x,bad,5")
    with pytest.raises(FrugalError, match="line 5: the same user"):
        prepared("csv", bad, on_duplicates="error", on_bad_rows="skip", **OWN)
    rows = parquet(who=[1, 1], what=[1, 1], stars=[1, 1], when=[1, 1])
    with pytest.raises(FrugalError, match="line 2: the same user"):
        prepared("parquet", rows, on_duplicates="error", **OWN)


CORE = [("ann", "x"), ("ann", "y"), ("bob", "x"), ("bob", "y"), ("bob", "z"), ("cat", "z"), ("cat", "w"), ("dan", "w")]


def rows_as_csv(pairs: list[tuple[str, str]]) -> bytes:
    rows = [f"{time},{user},{item},1," for time, (user, item) in enumerate(pairs)]
    return "\n".join(["when,who,what,stars,note", *rows]).encode()


def test_the_2_core_by_hand(prepared) -> None:
    # Round 1 takes dan (1 row); then w has only cat's: round 2 takes w; then cat has only z: round 3 takes cat;
    # then z has only bob's: round 4 takes z. Ann and Bob with x and y remain: rows 0 to 3 of 8.
    items = b"id,name\nx,Ex\ny,Why\nz,Zed\nv,Never rated\n"
    columns = {"item": "id", "title": "name"}
    result = prepared("csv", rows_as_csv(CORE), items, item_columns=columns, min_interactions=2, **OWN)
    assert [row[:2] for row in result.rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert list(result.items.title) == ["Ex", "Why"]
    assert result.facts["k_core"] == {"min_interactions": 2, "rounds": 4, "removed": 4}
    assert [result.facts[key] for key in ("users", "items", "items_rated", "rows_kept")] == [2, 2, 2, 4]
    assert result.facts["items_without_description"] == 0
    # Nothing of it without the key: also the item that nobody has rated has a number.
    result = prepared("csv", rows_as_csv(CORE), items, item_columns=columns, **OWN)
    assert result.facts["k_core"] is None
    assert list(result.items.index) == ["v", "w", "x", "y", "z"]
    assert result.facts["items_without_description"] == 1


def test_the_1_core_leaves_out_only_items_that_nobody_has_rated(prepared) -> None:
    result = prepared("csv", CSV, b"what\nx1\nz\n", min_interactions=1, **OWN)
    assert result.rows == ROWS
    assert list(result.items.index) == ["a b", "x1"]
    assert result.facts["k_core"] == {"min_interactions": 1, "rounds": 0, "removed": 0}


def test_a_core_of_nothing(prepared) -> None:
    with pytest.raises(FrugalError, match=r"no users and items with 3 interactions each are left; lower min_inter"):
        prepared("csv", rows_as_csv(CORE), min_interactions=3, **OWN)


def test_duplicates_do_not_count_for_the_core(prepared) -> None:
    text = b"who,what,stars,when\n" + b"ann,x,1,5\n" * 3
    with pytest.raises(FrugalError, match="no users and items with 2 interactions"):
        prepared("csv", text, min_interactions=2, **OWN)
    # Rated again at another time, it does.
    assert prepared("csv", text + b"ann,x,1,6\n", min_interactions=2, **OWN).facts["rows_kept"] == 2


@given(pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40), k=st.integers(1, 4))
def test_the_core_is_the_largest_set_that_satisfies_k(pairs: list[tuple[int, int]], k: int) -> None:
    keep, rounds = interactions.k_core(*np.array(pairs, np.int32).T, k)
    # A second way: take out one row at a time, in any order.
    left = list(range(len(pairs)))

    def count(side: int, row: int) -> int:
        return sum(pairs[other][side] == pairs[row][side] for other in left)

    while rare := [row for row in left if min(count(0, row), count(1, row)) < k]:
        left.remove(rare[0])
    assert np.flatnonzero(keep).tolist() == left
    assert (rounds == 0) == keep.all()


def test_numbers_are_ordered_as_numbers_and_text_as_text(prepared) -> None:
    text = b"who,what,stars,when\n10,b,1,1\n9,a,1,1\n"
    assert [row[:2] for row in prepared("csv", text, **OWN).rows] == [(0, 0), (1, 1)]
    # 09 is no number but a label, so all users are ordered as text: 09 before 10.
    leading = prepared("csv", text.replace(b"9,a", b"09,a"), **OWN)
    assert [row[:2] for row in leading.rows] == [(0, 0), (1, 1)]
    assert [row[:2] for row in prepared("csv", text.replace(b"9,a", b"x,a"), **OWN).rows] == [(0, 1), (1, 0)]


def test_an_open_quote_swallows_nothing(prepared) -> None:
    text = CSV + b'40,"ann,x9,1,\n41,bob,x9,1,\n'
    with pytest.raises(FrugalError, match="line 5: a double quote is opened and not closed"):
        prepared("csv", text, **OWN)
    facts = prepared("csv", text, on_bad_rows="skip", **OWN).facts
    assert (facts["rows_read"], facts["rows_kept"]) == (5, 4)
    assert facts["lines"] == {"total": 6, "header": 1, "blank": 0, "continued": 0}


TITLES = b'u,i,t,title\na,1,10,x\na,2,11,"open\na,3,12,y\nb,1,13,z\n'


def test_titles_with_quotes(prepared) -> None:
    """A quote in a title is no quoting: nothing is lost, and where nothing is quoted nothing is bad."""
    columns = {"columns": {"user": "u", "item": "i", "timestamp": "t"}}
    with pytest.raises(FrugalError, match="line 3: a double quote is opened and not closed"):
        prepared("csv", TITLES, **columns)
    assert prepared("csv", TITLES, on_bad_rows="skip", **columns).facts["rows_kept"] == 3
    assert prepared("csv", TITLES, quoting=False, **columns).facts["rows_kept"] == 4


def test_a_bad_row_changes_no_other(prepared) -> None:
    nanoseconds = b"u,i,t\na,1,1700000000000000001\na,2,1700000000000000002\n"
    columns = {"columns": {"user": "u", "item": "i", "timestamp": "t"}}
    good = prepared("csv", nanoseconds, **columns)
    assert good.facts["time"] == {"source": "ns", "unit": "ns"}
    skipped = prepared("csv", nanoseconds + b"b,,1700000000000000003\n", on_bad_rows="skip", **columns)
    assert skipped.rows == good.rows
    assert skipped.facts["skipped"] == {"item id is missing": 1}


@pytest.mark.parametrize(
    ("written", "values", "unit"),
    [
        (["2018-09-20", "2018-09-21"], [1537401600, 1537488000], "s"),
        (["2019-10-01 00:00:00 UTC", "2019-10-01T02:00:00.5+02:00"], [1569888000000, 1569888000500], "ms"),
        (['"2005-04-02 23:53:47"', '"2005-04-02 23:31:16"'], [1112484676, 1112486027], "s"),
        (["1000.9", "1000.25"], [1000250, 1000900], "ms"),
        (["1700000000000", "1700000000001"], [1700000000000, 1700000000001], "ms"),
    ],
)
def test_times(prepared, written: list[str], values: list[int], unit: str) -> None:
    rows = "".join(f"a,{item},{time}\n" for item, time in enumerate(written))
    result = prepared("csv", f"u,i,t\n{rows}".encode(), columns={"user": "u", "item": "i", "timestamp": "t"})
    assert [row[3] for row in result.rows] == values
    assert result.facts["time"]["unit"] == unit


@pytest.mark.parametrize("other", ["1700000000000", "2018-09-20"])
def test_a_mixture_of_times_is_an_error(prepared, other: str) -> None:
    text = f"u,i,t\na,1,1500000000\na,2,{other}\n".encode()
    with pytest.raises(FrugalError, match=r"times are written in two ways: line 2 as s .*line 3 as"):
        prepared("csv", text, columns={"user": "u", "item": "i", "timestamp": "t"}, on_bad_rows="skip")


def test_words_for_missing_values_are_no_ids(prepared) -> None:
    users = ("NULL", r"\N", "None", "NaN", "n/a", "<NA>", "")
    text = "u,i\nann,1\n" + "".join(f"{user},1\n" for user in users)
    facts = prepared("csv", text.encode(), columns={"user": "u", "item": "i"}, on_bad_rows="skip").facts
    assert facts["skipped"] == {"user id is missing": len(users)}
    assert facts["users"] == 1


def test_whole_floats_are_whole_numbers(prepared) -> None:
    own = {"columns": {"user": "u", "item": "i"}, "item_columns": {"item": "id", "title": "name"}}
    result = prepared("csv", b"u,i\n1.0,1.0\n2.0,10.0\n", b"id,name\n10,ten\n11,eleven\n", **own)
    assert list(result.items.index) == ["1", "10", "11"]
    with pytest.raises(FrugalError, match=r"none of the items .* is described: .*'0010', .* has '10'; write ids alike"):
        prepared("csv", b"u,i\n1,10\n", b"id,name\n0010,ten\n", **own)


def test_columns_by_position(prepared) -> None:
    """Files without a header: SASRec's, one pair a line in order, and Amazon's ratings only."""
    pairs = prepared("csv", b"1 1\n1 2\n2 1\n", columns={"user": 0, "item": 1}, separator=" ")
    assert pairs.rows == [(0, 0, 1.0, 0), (0, 1, 1.0, 1), (1, 0, 1.0, 2)]
    ratings = b"A1,B1,5.0,1387670400\nA2,B1,4.0,1387670401\n"
    columns = {"user": 0, "item": 1, "rating": 2, "timestamp": 3}
    assert prepared("csv", ratings, columns=columns).rows == [(0, 0, 5.0, 1387670400), (1, 0, 4.0, 1387670401)]
    with pytest.raises(FrugalError, match=r"line 1: has no column 4 for the timestamp: its 4 columns count from 0"):
        prepared("csv", ratings, columns=columns | {"timestamp": 4})
    with pytest.raises(FrugalError, match=r"line 1: rating is not a number: 'user,item,stars,time'"):
        prepared("csv", b"user,item,stars,time\n" + ratings, columns=columns)


def test_all_rows_bad(prepared) -> None:
    with pytest.raises(FrugalError, match="holds no interactions that can be kept"):
        prepared("csv", b"who,what,stars,when\na,b,c,d\n", on_bad_rows="skip", **OWN)


def test_columns_are_found_or_named(prepared) -> None:
    with pytest.raises(FrugalError, match=r"has no column 'what' for the item; did you mean 'whats'\?"):
        prepared("csv", CSV.replace(b"what", b"whats"), **OWN)
    with pytest.raises(FrugalError, match="has more than one column 'who'"):
        prepared("csv", CSV.replace(b"note", b"who"), **OWN)


def test_files_that_changed_after_the_fetch_are_refused(prepared) -> None:
    result = prepared("csv", CSV, **OWN)
    raw = result.folder / "raw"
    from frugal.config.registry import DatasetEntry
    from frugal.config.sources import PathSource

    entry = DatasetEntry(title="t", sources=(PathSource(path="x"),))
    out = [result.folder / name for name in ("a", "b", "c", "d")]
    (raw / "ratings.csv").write_bytes(CSV.replace(b"2.5", b"3.5"))
    with pytest.raises(FrugalError, match=r"ratings\.csv: has changed since it was fetched; fetch 'mine' again"):
        interactions.prepare("mine", entry, raw, *out)
    (raw / "ratings.csv").unlink()
    with pytest.raises(FrugalError, match=r"ratings\.csv: is missing; fetch"):
        interactions.prepare("mine", entry, raw, *out)
    (raw / "source.json").write_text('{"format": "files", "members": {}}')
    with pytest.raises(FrugalError, match="the format 'files' holds no interactions"):
        interactions.prepare("mine", entry, raw, *out)
    # What a folder gives whose source names no members.
    (raw / "orders.csv").touch()
    record = {"format": "sequences", "members": {"orders.csv": {"file": "orders.csv", "size": 0, "sha256": ""}}}
    (raw / "source.json").write_text(json.dumps(record))
    with pytest.raises(FrugalError, match=r"no file of interactions is named; add 'members: \{ratings: <file>\}'"):
        interactions.prepare("mine", entry, raw, *out)
    outside = {"ratings": {"file": "../orders.csv", "size": 0, "sha256": ""}}
    for text in ("[1", "[]", "{}", json.dumps(record | {"members": []}), json.dumps(record | {"members": outside})):
        (raw / "source.json").write_text(text)
        with pytest.raises(FrugalError, match="damaged"):
            interactions.prepare("mine", entry, raw, *out)
    assert not any(path.exists() for path in out)


def test_preparing_twice_gives_the_same_bytes(prepared) -> None:
    one, two = (prepared("csv", CSV, **OWN).folder for _ in range(2))
    for name in ("interactions.parquet", "items.parquet", "users.parquet", "summary.json"):
        first, second = (folder / name for folder in (one, two))
        if name == "summary.json":
            # Only the folder that the files came from differs.
            first, second = (json.loads(path.read_text()) | {"source": None} for path in (first, second))
            assert first == second
        else:
            assert first.read_bytes() == second.read_bytes()


ids = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=4).filter(
    lambda text: not is_null(text) and not text.startswith(("-", "\ufeff")) and not WHOLE_FLOAT.fullmatch(text)
)
whole = st.integers(0, 10**12).map(str)
ratings = st.floats(-100, 100, width=32)
times = st.integers(-(10**10), 10**10)


def rows_of(one_id: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, str, float, int]]]:
    return st.lists(st.tuples(one_id, one_id, ratings, times), min_size=1, max_size=12)


def write(form: str, rows: list[tuple[str, str, float, int]]) -> bytes:
    header = ("who", "what", "stars", "when")
    if form == "parquet":
        return parquet(**dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)))
    if form == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        return text.getvalue().encode()
    separator = RATINGS[form].separator
    body = "".join(separator.join(map(str, row)) + "\n" for row in rows)
    columns = RATINGS[form].columns
    return ("" if RATINGS[form].fields else separator.join(columns.values()) + "\n").encode() + body.encode()


def expected(rows: list[tuple[str, str, float, int]]) -> list[tuple[int, int, float, int]]:
    """The numbering and the order, ties as in the file, written a second time and more simply."""

    def order(values: list[str]) -> list[str]:
        plain = all(v.isascii() and v.isdigit() and str(int(v)) == v for v in values)
        return sorted(set(values), key=int if plain else None)

    users, items = order([row[0] for row in rows]), order([row[1] for row in rows])
    return sorted(((users.index(u), items.index(i), r, t) for u, i, r, t in rows), key=itemgetter(0, 3))


@pytest.mark.parametrize("form", ["csv", "parquet"])
@given(rows=rows_of(ids | whole))
@THOROUGH
def test_any_rows_survive_the_round_trip_through_ones_own_formats(prepared, form: str, rows: list[Any]) -> None:
    assert prepared(form, write(form, rows), on_duplicates="keep", tie_order="file", **OWN).rows == expected(rows)


@pytest.mark.parametrize("form", RATINGS)
@given(rows=rows_of(whole))
@THOROUGH
def test_any_rows_survive_the_round_trip_through_movielens_formats(prepared, form: str, rows: list[Any]) -> None:
    result = prepared(form, write(form, rows), on_duplicates="keep", tie_order="file")
    assert result.rows == expected(rows)


@given(sequences=st.dictionaries(ids, st.lists(ids, min_size=1, max_size=6), min_size=1, max_size=5))
@THOROUGH
def test_any_sequences_survive_the_round_trip(prepared, sequences: dict[str, list[str]]) -> None:
    text = "".join(f"{user} {' '.join(items)}\n" for user, items in sequences.items())
    rows = [(u, i, 1.0, position) for u, items in sequences.items() for position, i in enumerate(items)]
    assert prepared("sequences", text.encode()).rows == expected(rows)


PIECES = b'1 2 1.5 -3 nan " , \t :: | \n \r \r\n \xff \0 \x1f who,what,stars,when\n user_id:token\titem_id:token\t'
pieces = st.sampled_from(PIECES.split(b" "))
junk = st.binary(max_size=200) | st.lists(pieces, max_size=40).map(b"".join)


@pytest.mark.parametrize("form", [*RATINGS, "csv", "parquet", "sequences"])
@given(data=junk, items=st.none() | junk, policy=st.sampled_from(["error", "skip"]))
@THOROUGH
def test_no_bytes_bring_anything_but_a_readable_error(
    prepared, form: str, data: bytes, items: bytes | None, policy: str
) -> None:
    own = (OWN | {"item_columns": {"item": "what"}}) if form in ("csv", "parquet") else {}
    try:
        result = prepared(form, data, items, on_bad_rows=policy, **own)
    except FrugalError:
        return
    facts = result.facts
    assert facts["rows_kept"] == len(result.interactions) > 0
    removed = facts["duplicates"]["removed"] + sum(facts["skipped"].values())
    assert facts["rows_read"] == facts["rows_kept"] + removed


@pytest.mark.parametrize("seed", range(300))
def test_both_readers_read_alike(tmp_path, seed: int) -> None:
    assert difference(seed, tmp_path) is None


def test_the_hand_written_parquet_helper_is_honest() -> None:
    assert list(pd.read_parquet(io.BytesIO(parquet(a=[1, 2]))).a) == [1, 2]
