"""Event types: which rows are kept, what is counted, and what is refused."""

import gzip
from typing import Any

import pytest

from frugal.config.registry import check_entries
from frugal.data.interactions import delimited, own
from frugal.errors import FrugalError
from tests.unit.data.test_interactions import parquet

OWN = {"columns": {"user": "who", "item": "what", "timestamp": "when", "event": "type"}}
LOG = b"type,who,what,when\nview,bob,x,10\nbuy,bob,x,20\ncart,ann,y,30\nbuy,ann,x,40\nview,cat,z,50\n"
ANN, BOB, CAT, X, Y, Z = 0, 1, 2, 0, 1, 2
ALL = [(ANN, Y, 1.0, 30), (ANN, X, 1.0, 40), (BOB, X, 1.0, 10), (BOB, X, 1.0, 20), (CAT, Z, 1.0, 50)]


@pytest.mark.parametrize(
    ("events", "rows", "left_out"),
    [
        (["buy"], [(ANN, X, 1.0, 40), (BOB, X, 1.0, 20)], 3),
        (["buy", "cart"], [(ANN, Y, 1.0, 30), (ANN, X, 1.0, 40), (BOB, X, 1.0, 20)], 2),
        (["view", "cart", "buy"], ALL, 0),
    ],
)
def test_rows_of_the_wanted_types_are_kept_and_all_are_counted(prepared, events, rows, left_out) -> None:
    result = prepared("csv", LOG, events=events, **OWN)
    assert result.rows == rows
    assert result.facts["events"] == {"kept": events, "left_out": left_out, "rows": {"buy": 2, "cart": 1, "view": 2}}
    assert (result.facts["rows_read"], result.facts["rows_kept"]) == (5, len(rows))
    # Items and users of other types alone are none of the catalogue.
    distinct = [len({row[place] for row in rows}) for place in (0, 1)]
    assert [result.facts["users"], result.facts["items"]] == distinct


def test_other_reasons_stay_their_own(prepared) -> None:
    log = LOG + b"buy,ann,x,40\nbuy,,x,60\nview,,,soon\n,ann,x,70\n"
    result = prepared("csv", log, events=["buy"], on_bad_rows="skip", **OWN)
    assert result.rows == [(ANN, X, 1.0, 40), (BOB, X, 1.0, 20)]
    assert result.facts["skipped"] == {"event type is missing": 1, "user id is missing": 1}
    assert result.facts["duplicates"]["removed"] == 1
    # The view without user, item and time is no bad row: nothing of it is looked at.
    assert result.facts["events"] == {"kept": ["buy"], "left_out": 4, "rows": {"buy": 4, "cart": 1, "view": 3}}
    with pytest.raises(FrugalError, match=r"line 8: user id is missing: 'buy,,x,60'"):
        prepared("csv", log, events=["buy"], **OWN)


def test_times_of_other_types_may_be_written_in_another_way(prepared) -> None:
    log = LOG.replace(b"10", b"2020-01-01").replace(b"50", b"1700000000000")
    result = prepared("csv", log, events=["buy"], **OWN)
    assert [row[3] for row in result.rows] == [40, 20]
    assert result.facts["time"] == {"source": "s", "unit": "s"}


def test_parts_packed_and_without_a_header(prepared) -> None:
    positions = {"columns": {"event": 0, "user": 1, "item": 2, "timestamp": 3}}
    _, *lines = LOG.splitlines(keepends=True)
    # The first part has no row of the type.
    files = {"part-0.csv": lines[0] + lines[2], "part-1.csv.gz": gzip.compress(b"".join((lines[1], *lines[3:])))}
    result = prepared("csv", files, events=["buy"], **positions)
    assert result.rows == [(ANN, X, 1.0, 40), (BOB, X, 1.0, 20)]
    assert result.facts["events"]["rows"] == {"buy": 2, "cart": 1, "view": 2}


@pytest.mark.parametrize("types", [["3", "4", "4"], [3, 4, 4], [3.0, 4.0, 4.0]])
def test_parquet_of_any_type_and_numbers_in_the_study(prepared, types: list[Any]) -> None:
    table = parquet(type=types, who=["a", "b", "c"], what=[1, 2, 2], when=[30, 20, 10])
    result = prepared("parquet", table, events=[4], **OWN)
    assert result.rows == [(0, 0, 1.0, 20), (1, 0, 1.0, 10)]
    assert list(result.items.index) == ["2"]
    table = parquet(type=types, who=["a", "b", ""], what=[1, 2, 2], when=[30, 20, 10])
    with pytest.raises(FrugalError, match=r"line 3: user id is missing"):
        prepared("parquet", table, events=[4], **OWN)


def test_the_fast_readers_name_the_right_row(prepared, monkeypatch) -> None:
    for module, name in ((delimited, "_read_slow"), (own, "_parquet_slow")):
        monkeypatch.setattr(module, name, None)
    twice = LOG + b"view,ann,x,1\nbuy,bob,x,20\n"
    with pytest.raises(FrugalError, match=r"line 8: the same user, item and timestamp .*'buy,bob,x,20'"):
        prepared("csv", twice, events=["buy"], on_duplicates="error", **OWN)
    table = parquet(type=["view", "buy", "view", "buy"], who=["a"] * 4, what=["x"] * 4, when=[1, 2, 1, 2])
    with pytest.raises(FrugalError, match=r"line 4: the same user, item and timestamp .*event=buy"):
        prepared("parquet", table, events=["buy"], on_duplicates="error", **OWN)


def test_a_type_that_no_row_has_is_named(prepared) -> None:
    with pytest.raises(FrugalError, match=r"no row has the event type 'bui'; did you mean 'buy'\?; correct 'events'"):
        prepared("csv", LOG, events=["buy", "bui"], **OWN)
    with pytest.raises(FrugalError, match="no row has the event type 'order'; the types are: buy, cart, view;"):
        prepared("csv", LOG, events=["order"], **OWN)


@pytest.mark.parametrize(
    ("source", "more", "words"),
    [
        ({"columns": {"user": "u", "item": "i", "event": "e"}}, {}, r"columns\.event needs 'events'"),
        ({"columns": {"user": "u", "item": "i"}}, {"events": ["buy"]}, r"sources\.0 names no column of event types"),
        ({"format": "recbole"}, {"events": ["buy"]}, r"sources\.0 names no column of event types"),
        ({"columns": {"user": "u", "item": "i", "event": "e"}}, {"events": []}, r"mine\.events"),
        ({"columns": {"user": "u", "item": "i", "event": "e"}}, {"events": "buy"}, r"mine\.events"),
        ({"columns": {"user": "u", "item": "i", "event": 2}}, {"events": ["buy"]}, "names of columns, or .* positions"),
    ],
)
def test_events_and_their_column_belong_together(source, more, words) -> None:
    entry = {"title": "Mine", "sources": [{"path": "a.csv", "format": "csv"} | source], **more}
    with pytest.raises(FrugalError, match=words):
        check_entries("datasets", {"mine": entry}, "table")
