"""The stand-ins are fetched, unpacked and read by the code that reads the real ones."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from frugal.config.registry import DatasetEntry, check_entries, load_datasets
from frugal.config.sources import DOCUMENT_FORMATS, INTERACTION_FORMATS
from frugal.data.interactions.preparation import prepare
from frugal.data.source.fetch import fetch
from frugal.data.source.record import read_record
from frugal.errors import FrugalError
from frugal.rehearsal.interactions import WRITERS
from frugal.rehearsal.packing import pack
from frugal.rehearsal.server import Site, StandInServer
from frugal.rehearsal.standins import stand_in_dataset
from frugal.rehearsal.world import ITEMS, LONGEST, USERS, interactions
from prepare_documents import read_documents

SHIPPED = load_datasets(Path("config/datasets.yaml"))
FIELDS = {"user": "who", "item": "what", "rating": "stars", "timestamp": "when"}
OWN = {
    "csv": {"columns": FIELDS, "members": {"ratings": "part-*.csv"}, "url": "http://x.org/shop.tar.gz"},
    "parquet": {"columns": FIELDS, "members": {"ratings": "a/r.parquet"}, "url": "http://x.org/shop.zip"},
    "sequences": {"url": "http://x.org/histories.txt"},
}
OWN["csv"] |= {"item_columns": {"item": "id", "title": "name", "attributes": "tags"}}
OWN["csv"]["members"]["items"] = "items.csv"


@pytest.fixture(scope="module")
def site():
    site = Site()
    with StandInServer(site) as server:
        yield site, server.url


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def fetched(name: str, entry: DatasetEntry, site, folder: Path) -> tuple[DatasetEntry, Path]:
    """The stand-in's entry, and its folder as the workflow fetches it."""
    plain, _ = stand_in_dataset(name, entry, *site)
    stand_in = check_entries("datasets", {name: plain}, "test")[name]
    fetch(name, stand_in, folder / "raw", downloads=folder / "downloads")
    return stand_in, folder / "raw"


def prepared(name: str, entry: DatasetEntry, site, folder: Path) -> tuple[dict, pd.DataFrame]:
    stand_in, raw = fetched(name, entry, site, folder)
    outputs = [folder / file for file in ("interactions.parquet", "items.parquet", "users.parquet", "summary.json")]
    return prepare(name, stand_in, raw, *outputs), pd.read_parquet(outputs[1])


@pytest.mark.parametrize("name", ["movielens-1m", "movielens-20m", "amazon-electronics-2014", "movielens-100k"])
def test_interactions_of_the_shipped_data_sets(name, site, tmp_path):
    entry = SHIPPED[name]
    if name == "movielens-100k":  # its second source: the first is a wheel, for which pip is started
        entry = entry.model_copy(update={"sources": entry.sources[1:]})
    facts, catalogue = prepared(name, entry, site, tmp_path)
    rows = interactions()
    used = {row.item for row in rows}
    described = "amazon" not in name
    assert (facts["users"], facts["rows_kept"]) == (USERS, len(rows))
    assert facts["items"] == (ITEMS if described else len(used))
    assert max(pd.read_parquet(tmp_path / "interactions.parquet").groupby("user").size()) == LONGEST
    if described:
        titles = catalogue.set_index("original_id")["title"]
        assert (titles["1"], titles["2"]) == ("Café Noir (1958)", 'Man Called "Joe", The (1966)')
        assert set(catalogue.set_index("original_id")["attributes"]["7"]) == {"War", "Comedy"}


@pytest.mark.parametrize("form", list(OWN))
def test_interactions_of_own_data_behind_an_address(form, site, tmp_path):
    entries = {"shop": {"title": "Shop", "sources": [{"format": form, **OWN[form]}]}}
    entry = check_entries("datasets", entries, "test")["shop"]
    facts, _ = prepared("shop", entry, site, tmp_path)
    assert (facts["users"], facts["rows_kept"]) == (USERS, len(interactions()))


def documents(entry: DatasetEntry, raw: Path) -> list:
    return list(read_documents(raw, read_record(raw, DOCUMENT_FORMATS, "documents"), entry))


def test_documents_of_the_shipped_data_sets(site, tmp_path):
    articles = documents(*fetched("wikitext-2-raw", SHIPPED["wikitext-2-raw"], site, tmp_path / "w"))
    assert Counter(one.split for one in articles) == {"train": 40, "validation": 6, "test": 8}
    reports = documents(*fetched("climate-reports", SHIPPED["climate-reports"], site, tmp_path / "c"))
    assert len(reports) == 8 == len({one.text for one in reports})
    assert min(len(one.text) for one in reports) > 4000


def test_an_export_of_wikipedia_in_a_wheel(site, tmp_path):
    """Up to pip, which a rehearsal starts."""
    plain, _ = stand_in_dataset("wikipedia-sample", SHIPPED["wikipedia-sample"], *site)
    (source,) = plain["sources"]
    assert source["package"] == "rehearsal-gensim==4.4.0"
    assert source["file"].startswith("rehearsal_gensim-4.4.0-cp311-cp311-manylinux")
    (tmp_path / source["file"]).write_bytes(site[0].packages[source["file"]])
    stand_in = check_entries("datasets", {"w": plain}, "test")["w"]
    fetch("w", stand_in, tmp_path / "raw", downloads=tmp_path)
    pages = documents(stand_in, tmp_path / "raw")
    assert len(pages) == 40
    assert all(one.text.startswith(f"{one.title} is an article.") for one in pages)


def test_texts_of_own_data(site, tmp_path):
    source = {"url": "http://x.org/texts.zip", "format": "text", "members": {"data": "texts.jsonl"}}
    entry = check_entries("datasets", {"t": {"title": "T", "sources": [source]}}, "test")["t"]
    assert len(documents(*fetched("t", entry, site, tmp_path))) == 40


def test_the_users_own_file_is_its_own_stand_in(site):
    stand_in, words = stand_in_dataset("climate-chapters", SHIPPED["climate-chapters"], *site)
    assert stand_in["sources"] == [{"format": "pdf", "path": "corpora/climate"}]
    assert words == "corpora/climate, as it is"


def test_no_name_of_a_download_is_that_of_the_real_one(site):
    for name, entry in SHIPPED.items():
        source = stand_in_dataset(name, entry, *site)[0]["sources"][0]
        assert "path" in source or source["file"].startswith(("rehearsal-", "rehearsal_"))
        assert "path" in source or "urls" in source or {"sha256", "size"} <= source.keys()


def test_a_form_without_a_stand_in_is_named(site):
    source = {"url": "http://x.org/a.zip", "format": "csv", "columns": FIELDS, "members": {"ratings": "[ab].csv"}}
    entry = check_entries("datasets", {"shop": {"title": "S", "sources": [source]}}, "test")["shop"]
    with pytest.raises(FrugalError, match=r"shop: members: no stand-in for the pattern '\[ab\]\.csv'; name the files"):
        stand_in_dataset("shop", entry, *site)


def test_every_format_of_interactions_has_a_writer():
    assert WRITERS.keys() == set(INTERACTION_FORMATS)


def test_archives_are_the_same_each_time():
    members = {"a/b.csv": b"1,2\n", "c.txt": b"text"}
    for name in ("x.zip", "x.tar.gz", "x.tar"):
        assert pack(name, members) == pack(name, members)
    assert pack("x.csv", {"x.csv": b"12"}) == b"12"
    with pytest.raises(FrugalError, match=r"x\.csv: no stand-in for a file of this name that holds"):
        pack("x.csv", members)
