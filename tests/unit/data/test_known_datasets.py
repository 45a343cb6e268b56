"""Entries of config/datasets.yaml whose files were not at hand: each reads a few lines in its source's form."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from frugal.config.registry import load_datasets
from frugal.data.interactions.preparation import prepare
from frugal.data.source.fetch import fetch
from tests.unit.data.conftest import Prepared

SHIPPED = load_datasets(Path("config/datasets.yaml"))


def prepare_shipped(name: str, content: bytes, folder: Path) -> Prepared:
    """The entry ``name`` with ``content`` as the file behind its address."""
    entry = SHIPPED[name]
    file = folder / entry.sources[0].file_name
    file.write_bytes(content)
    fetch(name, entry, folder / "raw", downloads=folder / "downloads", local=file)
    out = [folder / one for one in ("interactions.parquet", "items.parquet", "users.parquet", "summary.json")]
    return Prepared(prepare(name, entry, folder / "raw", *out), folder)


def packed(lines: list[str]) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode())


def ids(result: Prepared) -> list[tuple[str, float, int]]:
    """Item, rating and time of each interaction, user by user in the order of time."""
    return [(result.items.index[item], rating, time) for _, item, rating, time in result.rows]


def test_amazon_2014(tmp_path, capsys):
    lines = [
        '{"reviewerID": "A1YJ", "asin": "7806397051", "reviewerName": "An", "helpful": [3, 4], "reviewText": "Good",'
        ' "overall": 1.0, "summary": "Fine", "unixReviewTime": 1391040000, "reviewTime": "01 30, 2014"}',
        '{"reviewerID": "A60X", "asin": "7806397051", "helpful": [1, 1], "reviewText": "", "overall": 3.0,'
        ' "summary": "Ok", "unixReviewTime": 1397779200, "reviewTime": "04 18, 2014"}',
    ]
    result = prepare_shipped("amazon-beauty-2014", packed(lines), tmp_path)
    assert ids(result) == [("7806397051", 1.0, 1391040000), ("7806397051", 3.0, 1397779200)]
    differ = ["users", "items", "interactions"]
    published = {"users": 22363, "items": 12101, "interactions": 198502}
    assert result.facts["published"] == published | {"differ": differ}
    assert "warning: amazon-beauty-2014: 2 users, and 22,363 are published" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["amazon-all-beauty-2018", "amazon-luxury-beauty-2018"])
def test_amazon_2018(name, tmp_path):
    lines = [
        '{"overall": 5.0, "verified": true, "reviewTime": "09 1, 2016", "reviewerID": "A3CI", "asin": "B00006L9LC",'
        ' "style": {"Size:": " 200ml"}, "reviewerName": "R", "reviewText": "t", "summary": "s",'
        ' "unixReviewTime": 1472688000}',
        '{"overall": 2.0, "vote": "2", "verified": false, "reviewTime": "11 14, 2013", "reviewerID": "A3H7",'
        ' "asin": "B00006L9LD", "reviewText": "t", "summary": "s", "unixReviewTime": 1384387200}',
    ]
    result = prepare_shipped(name, packed(lines), tmp_path)
    assert ids(result) == [("B00006L9LC", 5.0, 1472688000), ("B00006L9LD", 2.0, 1384387200)]
    assert "published" not in result.facts


def test_amazon_2023_reviews(tmp_path):
    reviews = [(f"AG{user}", f"B0{item}", 1588687728923 + item) for user in range(5) for item in range(5)]
    reviews.append(("AGONCE", "B00", 1588687728923))
    lines = [
        json.dumps(
            {"rating": 5.0, "title": "T", "text": "t", "images": [], "asin": f"variant of {item}", "parent_asin": item}
            | {"user_id": user, "timestamp": time, "helpful_vote": 0, "verified_purchase": True}
        )
        for user, item, time in reviews
    ]
    result = prepare_shipped("amazon-all-beauty-2023", packed(lines), tmp_path)
    assert (result.facts["users"], result.facts["items"], result.facts["k_core"]["removed"]) == (5, 5, 1)
    assert result.facts["time"] == {"source": "ms", "unit": "ms"}
    assert ids(result)[0] == ("B00", 5.0, 1588687728923)


def test_amazon_2023_ratings(tmp_path):
    lines = ["user_id,parent_asin,rating,timestamp", "AFKZ,B07,4.0,1619999999999", "AFKZ,B01,5.0,1519317108692"]
    result = prepare_shipped("amazon-beauty-and-personal-care-2023", packed(lines), tmp_path)
    assert ids(result) == [("B01", 5.0, 1519317108692), ("B07", 4.0, 1619999999999)]


def test_gowalla(tmp_path):
    lines = [
        "0\t2010-10-19T23:55:27Z\t30.2359091167\t-97.7951395833\t22847",
        "0\t2010-10-18T22:17:43Z\t30.2691029532\t-97.7493953705\t420315",
        "10\t2010-10-18T00:00:00Z\t30.2\t-97.7\t9",
    ]
    result = prepare_shipped("gowalla", packed(lines), tmp_path)
    assert ids(result) == [("420315", 1.0, 1287440263), ("22847", 1.0, 1287532527), ("9", 1.0, 1287360000)]


def test_lastfm_1k(tmp_path):
    lines = [
        'user_000001\t2009-05-04T23:08:57Z\tf1b1\tDeep Dish\td3ce\tPlay "It" Again',
        "user_000001\t2009-05-04T13:54:10Z\ta7f7\t坂本龍一\t\tComposition 0919",
        "user_000001\t2009-05-04T13:52:04Z\ta7f7\t坂本龍一\t2475\tMc2 (Live_2009_4_15)",
    ]
    text = "".join(f"{line}\n" for line in lines).encode()
    with tarfile.open(fileobj=(stream := io.BytesIO()), mode="w:gz") as bundle:
        for name, data in (("userid-profile.tsv", b""), ("userid-timestamp-artid-artname-traid-traname.tsv", text)):
            info = tarfile.TarInfo(f"lastfm-dataset-1K/{name}")
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    result = prepare_shipped("lastfm-1k", stream.getvalue(), tmp_path)
    assert ids(result) == [("2475", 1.0, 1241445124), ("d3ce", 1.0, 1241478537)]
    assert result.facts["skipped"] == {"item id is missing": 1}
