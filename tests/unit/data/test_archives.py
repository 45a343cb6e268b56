"""Archives that try to escape, to lie or to fill the disk."""

import bz2
import contextlib
import errno
import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frugal.data.source import archives
from frugal.data.source.archives import Limits, single_member, unpack
from frugal.errors import FrugalError

from .conftest import make_zip


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> None:
    with tarfile.open(path, mode) as bundle:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))


def test_zip_members_lie_side_by_side(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"top/a.csv": b"one", "top/deep/b.csv": b"two", "top/c.csv": b"three"})
    members = {"ratings": "top/a.csv", "items": "top/deep/b.csv"}
    assert unpack(tmp_path / "a.zip", members, tmp_path / "out") == {"ratings": "a.csv", "items": "b.csv"}
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {
        "a.csv": b"one",
        "b.csv": b"two",
    }


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_members(tmp_path: Path, mode: str) -> None:
    make_tar(tmp_path / "a.tar", {"./top/a.csv": b"one", "top/b.csv": b"two"}, mode)
    unpack(tmp_path / "a.tar", {"ratings": "top/a.csv"}, tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {"a.csv": b"one"}


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), ("", bytes)])
def test_single_files(tmp_path: Path, suffix: str, pack: object) -> None:
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(pack(b"rows"))
    assert single_member(path) == "a.csv"
    unpack(path, {"ratings": "a.csv"}, tmp_path / "out")
    assert (tmp_path / "out" / "a.csv").read_bytes() == b"rows"


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/etc/evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_paths_that_lead_outside_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    files = {name: b"evil", "good": b"good"}
    path = tmp_path / f"a.{kind}"
    make_zip(path, files) if kind == "zip" else make_tar(path, files, "w")
    with pytest.raises(FrugalError, match="leads outside"):
        unpack(path, {"x": "good"}, tmp_path / "out")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_tar_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as bundle:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        bundle.addfile(info)
    with pytest.raises(FrugalError, match="not a plain file"):
        unpack(tmp_path / "a.tar", {"x": "link"}, tmp_path / "out")


def test_zip_links_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        bundle.writestr(info, "/etc/passwd")
    with pytest.raises(FrugalError, match="not a plain file"):
        unpack(tmp_path / "a.zip", {"x": "link"}, tmp_path / "out")


def test_a_bomb_is_stopped_by_its_ratio(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"zeros": bytes(1 << 22)})
    with pytest.raises(FrugalError, match=r"more than 100 times its size.*max_ratio"):
        unpack(tmp_path / "a.zip", {"x": "zeros"}, tmp_path / "out", Limits(floor=1 << 20))
    unpack(tmp_path / "a.zip", {"x": "zeros"}, tmp_path / "allowed", Limits(ratio=2000, floor=1 << 20))


@pytest.mark.parametrize("kind", ["zip", "tar", "gz"])
def test_unpacking_stops_at_the_size_limit(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        make_zip(path, {"big": bytes(3 << 20)})
    elif kind == "tar":
        # The big member is not wanted, but must be unpacked to reach the one that is.
        make_tar(path, {"other": bytes(3 << 20), "big": b"x"})
    else:
        path.write_bytes(gzip.compress(b"x" * (3 << 20)))
    with pytest.raises(FrugalError, match="max_unpacked_size"):
        unpack(path, {"x": "big"}, tmp_path / "out", Limits(size=2 << 20))
    assert sum(p.stat().st_size for p in (tmp_path / "out").iterdir()) <= 2 << 20


def test_a_missing_member_is_named_with_what_there_is(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"top/a.csv": b"one"})
    with pytest.raises(FrugalError, match=r"a\.zip: has no member top/b\.csv; it holds top/a\.csv"):
        unpack(tmp_path / "a.zip", {"x": "top/b.csv"}, tmp_path / "out")
    make_tar(tmp_path / "a.tar", {"top/a.csv": b"one"})
    with pytest.raises(FrugalError, match=r"has no member top/b\.csv"):
        unpack(tmp_path / "a.tar", {"x": "top/b.csv"}, tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "csv.gz", "csv.bz2"])
def test_cut_and_damaged_archives(tmp_path: Path, kind: str) -> None:
    path, data = tmp_path / f"a.{kind}", bytes(range(256)) * 300
    if kind == "zip":
        make_zip(path, {"a": data})
    elif kind == "tar.gz":
        make_tar(path, {"a": data})
    else:
        path.write_bytes((gzip if kind == "csv.gz" else bz2).compress(data))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FrugalError, match="damaged archive"):
        unpack(path, {"x": "a"}, tmp_path / "out")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ"]),
    tail=st.binary(max_size=600),
)
def test_no_bytes_bring_anything_but_a_readable_error(tmp_path: Path, head: bytes, tail: bytes) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(head + tail)
    out = tmp_path / "out"
    (out / "x").unlink(missing_ok=True)
    with contextlib.suppress(FrugalError):
        unpack(path, {"x": "x"}, out)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "not allowed"), (errno.EACCES, "not allowed")],
)
def test_disk_faults_are_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    make_zip(tmp_path / "a.zip", {"a": b"one"})

    def fail(*_: object) -> None:
        raise OSError(number, "system's words", str(tmp_path / "out" / "a"))

    monkeypatch.setattr(archives, "_copy", fail)
    with pytest.raises(FrugalError, match=words):
        unpack(tmp_path / "a.zip", {"x": "a"}, tmp_path / "out")
