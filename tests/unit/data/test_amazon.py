"""Amazon reviews: the four fields, every way in which a line can be broken, and files that are cut off."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.config.registry import DatasetEntry, load_datasets
from frugal.config.sources import UrlSource
from frugal.data.interactions import amazon
from frugal.data.interactions.nulls import is_null
from frugal.data.interactions.preparation import prepare
from frugal.data.source.fetch import fetch
from frugal.errors import FrugalError

from .conftest import QUICK, FaultyServer
from .test_interactions import THOROUGH, expected

CONFIG = Path(__file__).parents[3] / "config"


def review(user: Any = "A1", item: Any = "B1", rating: Any = 5.0, time: Any = 86400, **more: Any) -> bytes:
    fields = {"reviewerID": user, "asin": item, "overall": rating, "unixReviewTime": time} | more
    return json.dumps(fields).encode() + b"\n"


# As in the files of 2014 (helpful) and of 2018 (verified, style); a text may quote the other fields.
REVIEWS = [
    review("A2", "0528881469", 5.0, 1370131200, helpful=[0, 0], reviewText='"asin": "B9"', summary="Gotten"),
    review("A1", "B00", 3.0, 1290643200, verified=True, style={"Color:": " Black", "asin": "B8"}),
    review("A2", "B00", 1, 1283990400.0),
]
ROWS = [(0, 1, 3.0, 1290643200), (1, 1, 1.0, 1283990400), (1, 0, 5.0, 1370131200)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("ends", ["as they are", "windows", "none at the end", "bom and blank lines"])
def test_reviews_of_both_releases(prepared, pack, ends) -> None:
    data = b"".join(REVIEWS)
    if ends == "windows":
        data = data.replace(b"\n", b"\r\n")
    elif ends == "none at the end":
        data = data.removesuffix(b"\n")
    elif ends == "bom and blank lines":
        data = b"\xef\xbb\xbf\n" + data.replace(b"\n", b"\n \n")
    result = prepared("amazon-json", pack(data), rating_range=(1, 5))
    assert result.rows == ROWS
    assert list(result.items.index) == list(result.items.title) == ["0528881469", "B00"]
    assert (result.facts["rows_read"], result.facts["skipped"]) == (3, {})


BAD = [
    (b"{'reviewerID': 'A1'}\n", "not JSON"),
    (REVIEWS[0][:40] + b"\n", "not JSON"),
    (b"[" * 100_000 + b"\n", "not JSON"),
    (b'["A1", "B1", 5, 1]\n', "not a JSON object"),
    (b'"reviewerID"\n', "not a JSON object"),
    (b"null\n", "not a JSON object"),
    (review().replace(b"asin", b"isbn"), "asin is missing"),
    (b"{}\n", "reviewerID is missing"),
    (review(user=7), "user id is not text"),
    (review(item=None), "item id is not text"),
    (review(user=" "), "user id is missing"),
    (review(item=""), "item id is missing"),
    (review(item="\ud800"), "item id is not printable text"),
    (review(rating="5.0"), "rating is not a number"),
    (review(rating=True), "rating is not a number"),
    (review(rating=float("nan")), "rating is missing"),
    (review(rating=10**400), "rating is not a number"),
    (review(rating=0), "rating is out of range"),
    (review(rating=5.5), "rating is out of range"),
    (review(time="1370131200"), "timestamp is not a number"),
    (review(time=None), "timestamp is not a number"),
    (review(time=float("inf")), "timestamp is neither a number nor ISO 8601"),
    (review(time=0), "timestamp is not after 1970"),
    (review(time=-86400), "timestamp is not after 1970"),
    (review(time=2**63), "timestamp is out of range"),
    (review("A\xff").replace(b"\\u00ff", b"\xff"), "not in the encoding utf-8"),
]


def test_the_edition_of_2023(prepared) -> None:
    lines = [
        {"user_id": "AE1", "parent_asin": "B1", "asin": "B9", "rating": 5.0, "timestamp": 1588687728923},
        {"user_id": "AE2", "parent_asin": "B2", "asin": "B2", "rating": 3.0, "timestamp": 1588687728924},
    ]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    result = prepared("amazon-json", data)
    assert result.rows == [(0, 0, 5.0, 1588687728923), (1, 1, 3.0, 1588687728924)]
    assert result.facts["time"] == {"source": "ms", "unit": "ms"}
    with pytest.raises(FrugalError, match="line 3: user_id is missing"):  # two editions in one file
        prepared("amazon-json", data + review())


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_broken_line_is_named_or_counted(prepared, line: bytes, reason: str) -> None:
    data = REVIEWS[0] + line + b"".join(REVIEWS[1:])
    with pytest.raises(FrugalError, match=rf"ratings\.csv, line 2: {reason}.*on_bad_rows: skip"):
        prepared("amazon-json", data, rating_range=(1, 5))
    result = prepared("amazon-json", data, rating_range=(1, 5), on_bad_rows="skip")
    assert result.rows == ROWS
    assert (result.facts["rows_read"], result.facts["skipped"]) == (4, {reason: 1})
    (example,) = result.facts["skipped_examples"]
    assert example["line"] == 2
    assert len(example["text"]) <= 203


def test_a_line_without_end_does_not_fill_the_memory(prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amazon, "LONGEST_LINE", 300)
    # Several times too long, too long by one byte, and as long as can be.
    long = [review(reviewText="x" * 2000), review().ljust(300, b" ").replace(b"\n", b" ") + b"\n"]
    good = review("A3").removesuffix(b"\n").ljust(298, b" ") + b"\n"
    result = prepared("amazon-json", gzip.compress(b"".join([*long, good, *long])), on_bad_rows="skip")
    assert result.facts["skipped"] == {"line is too long": 4}
    assert (result.facts["rows_read"], result.rows) == (5, [(0, 0, 5.0, 86400)])


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_a_gzip_file_that_is_cut_off_or_damaged_is_named(prepared, policy: str) -> None:
    data = gzip.compress(b"".join(review(f"A{n}") for n in range(500)))
    # Cut in the data, cut in the sum at the end, a wrong byte in the data, rubbish behind the end.
    middle = len(data) // 2
    wrong = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
    for damaged in (data[:middle], data[:-4], wrong, data + b"rubbish"):
        with pytest.raises(FrugalError, match=r"ratings\.csv: cut off or damaged gzip file .*; delete it and fetch"):
            prepared("amazon-json", damaged, on_bad_rows=policy)


def test_files_without_a_review(prepared) -> None:
    with pytest.raises(FrugalError, match=r"ratings\.csv: holds no interactions$"):
        prepared("amazon-json", gzip.compress(b""))
    with pytest.raises(FrugalError, match=r"ratings\.csv: holds no interactions that can be kept$"):
        prepared("amazon-json", b"no review\n", on_bad_rows="skip")


def test_a_duplicate_is_found_again_in_the_packed_file(prepared) -> None:
    data = b"".join([*REVIEWS, review("A1", "B00", 2, 1290643200)])
    with pytest.raises(FrugalError, match=r"line 4: the same user, item and timestamp.*\"overall\": 2"):
        prepared("amazon-json", gzip.compress(data), on_duplicates="error")


ids = st.text(st.characters(codec="ascii", categories=("L", "Nd")), min_size=1, max_size=4).filter(
    lambda text: not is_null(text)
)
reviews = st.tuples(ids, ids, st.floats(1, 5, width=32), st.integers(1, 10**10))


@given(rows=st.lists(reviews, min_size=1, max_size=12), texts=st.text(max_size=50), pack=st.booleans())
@THOROUGH
def test_any_reviews_survive_the_round_trip(prepared, rows: list[Any], texts: str, pack: bool) -> None:
    data = b"".join(review(*row, reviewText=texts, summary=texts) for row in rows)
    result = prepared("amazon-json", gzip.compress(data) if pack else data, on_duplicates="keep", tie_order="file")
    assert result.rows == expected(rows)


@given(data=st.binary(max_size=200) | st.lists(st.sampled_from([*REVIEWS, *(line for line, _ in BAD)])).map(b"".join))
@THOROUGH
def test_no_bytes_bring_anything_but_a_readable_error(prepared, data: bytes) -> None:
    try:
        facts = prepared("amazon-json", data, rating_range=(1, 5), on_bad_rows="skip").facts
    except FrugalError:
        return
    assert facts["rows_read"] == facts["rows_kept"] + facts["duplicates"]["removed"] + sum(facts["skipped"].values())


def test_the_entries_of_the_table() -> None:
    datasets = load_datasets(CONFIG / "datasets.yaml")
    for name, file in (
        ("amazon-beauty-2014", "reviews_Beauty_5.json.gz"),
        ("amazon-electronics-2014", "reviews_Electronics_5.json.gz"),
        ("amazon-electronics-2018", "Electronics_5.json.gz"),
    ):
        entry = datasets[name]
        (source,) = entry.sources
        assert (source.file_name, source.format, source.members) == (file, "amazon-json", {"ratings": file})
        assert (entry.rating_range, entry.on_bad_rows, entry.min_interactions) == ((1, 5), "skip", None)


@pytest.mark.parametrize("way", ["address", "file", "folder"])
def test_from_an_address_or_a_copy_to_prepared_files(server: FaultyServer, tmp_path: Path, way: str) -> None:
    name = "reviews_Toys_5.json.gz"
    server.content = gzip.compress(b"".join([*REVIEWS, b"broken\n"]), mtime=0)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / name).write_bytes(server.content)
    local = {"address": None, "file": tmp_path / "copy" / name, "folder": tmp_path / "copy"}[way]
    source = UrlSource(url=server.url(name), size=len(server.content), format="amazon-json", members={"ratings": name})
    entry = DatasetEntry(title="toys", sources=(source,), rating_range=(1, 5), on_bad_rows="skip")
    downloads = tmp_path / "downloads"
    fetch("toys", entry, tmp_path / "raw", downloads=downloads, local=local, patience=QUICK)
    assert local or (downloads / name).read_bytes() == server.content
    out = [tmp_path / part for part in ("interactions.parquet", "items.parquet", "users.parquet", "summary.json")]
    facts = prepare("toys", entry, tmp_path / "raw", *out)
    assert (facts["rows_kept"], facts["users"], facts["items"]) == (3, 2, 2)
    assert facts["skipped"] == {"not JSON": 1}
