"""Downloads from a server that fails in every way the real ones do."""

import socket
from pathlib import Path

import pytest

from frugal.data.source import download as module
from frugal.data.source.download import Check, SourceUnavailable, download

from .conftest import QUICK, FaultyServer, sha256


def run(server: FaultyServer, target: Path, **check: object) -> None:
    download(server.url(), target, Check(**({"sha256": sha256(server.content)} | check)), QUICK)


def test_whole_file_arrives_and_leaves_no_parts(server: FaultyServer, tmp_path: Path) -> None:
    run(server, tmp_path / "data.bin", size=102400)
    assert (tmp_path / "data.bin").read_bytes() == server.content
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]


@pytest.mark.parametrize("fault", [500, 503, 429, ("cut", 0), ("stall", 0)])
def test_passing_faults_are_retried(server: FaultyServer, tmp_path: Path, fault: object) -> None:
    server.faults = [fault, fault]
    run(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == server.content
    assert len(server.ranges) == 3


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_an_interrupted_transfer_continues_where_it_was(server: FaultyServer, tmp_path: Path, fault: str) -> None:
    server.faults = [(fault, 1000), (fault, 500)]
    run(server, tmp_path / "data.bin")
    assert server.ranges == [None, "bytes=1000-", "bytes=1500-"]
    assert (tmp_path / "data.bin").read_bytes() == server.content


def test_a_part_of_an_earlier_run_is_continued(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(server.content[:70000])
    run(server, tmp_path / "data.bin")
    assert server.ranges == ["bytes=70000-"]
    assert (tmp_path / "data.bin").read_bytes() == server.content


def test_a_complete_part_is_taken_without_fetching_it_again(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(server.content)
    run(server, tmp_path / "data.bin")
    assert server.ranges == ["bytes=102400-"]


def test_a_part_is_not_continued_when_nothing_could_notice_a_change(server: FaultyServer, tmp_path: Path) -> None:
    server.tag = None
    (tmp_path / "data.bin.part").write_bytes(b"of another file")
    run(server, tmp_path / "data.bin", sha256=None)
    assert server.ranges == [None]
    assert (tmp_path / "data.bin").read_bytes() == server.content


def test_a_file_changed_on_the_server_is_fetched_anew(server: FaultyServer, tmp_path: Path) -> None:
    server.faults = [("cut", 1000), 500, 500]
    with pytest.raises(SourceUnavailable):
        run(server, tmp_path / "data.bin", sha256=None)
    server.tag, server.content = '"two"', b"new content"
    run(server, tmp_path / "data.bin", sha256=None)
    assert (tmp_path / "data.bin").read_bytes() == b"new content"


@pytest.mark.parametrize("fault", ["no-range", "wrong-range"])
def test_a_server_that_cannot_continue_starts_again(server: FaultyServer, tmp_path: Path, fault: str) -> None:
    server.faults = [("cut", 1000), fault]
    run(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == server.content


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(server: FaultyServer, tmp_path: Path) -> None:
    server.tag = None
    server.faults = [("cut", 1000)] * 20
    with pytest.raises(SourceUnavailable, match="connection"):
        run(server, tmp_path / "data.bin", sha256=None)
    assert len(server.ranges) == 1 + 2


def test_a_corrupt_file_is_fetched_once_more(server: FaultyServer, tmp_path: Path) -> None:
    server.faults = ["corrupt"]
    run(server, tmp_path / "data.bin")
    assert server.ranges == [None, None]
    assert (tmp_path / "data.bin").read_bytes() == server.content


def test_a_file_that_stays_corrupt_names_both_sums(server: FaultyServer, tmp_path: Path) -> None:
    found = sha256(bytes([server.content[0] ^ 1]) + server.content[1:])
    server.faults = ["corrupt", "corrupt"]
    with pytest.raises(SourceUnavailable, match=f"{found}, expected {sha256(server.content)}"):
        run(server, tmp_path / "data.bin")
    assert list(tmp_path.iterdir()) == []


def test_md5_is_checked_too(server: FaultyServer, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="md5"):
        run(server, tmp_path / "data.bin", sha256=None, md5="0" * 32)


def test_a_wrong_announced_size_is_not_fetched(server: FaultyServer, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="102400 bytes instead of 5"):
        run(server, tmp_path / "data.bin", size=5)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("status", [404, 403, 410])
def test_lasting_refusals_are_not_retried(server: FaultyServer, tmp_path: Path, status: int) -> None:
    server.faults = [status, status]
    with pytest.raises(SourceUnavailable, match=str(status)):
        run(server, tmp_path / "data.bin")
    assert len(server.ranges) == 1


def test_redirects_within_the_web_are_followed(server: FaultyServer, tmp_path: Path) -> None:
    server.faults = [("redirect", "/elsewhere")]
    run(server, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").exists()


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_to_other_schemes_are_refused(server: FaultyServer, tmp_path: Path, address: str) -> None:
    server.faults = [("redirect", address)]
    with pytest.raises(SourceUnavailable):
        run(server, tmp_path / "data.bin")
    assert not (tmp_path / "data.bin").exists()


def test_endless_redirects_end(server: FaultyServer, tmp_path: Path) -> None:
    server.faults = [("redirect", "/again")] * 50
    with pytest.raises(SourceUnavailable, match="redirects more than"):
        run(server, tmp_path / "data.bin")


def test_no_network_at_all(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(SourceUnavailable, match=r"no connection.*3 attempts"):
        download(f"http://127.0.0.1:{port}/x.zip", tmp_path / "x.zip", patience=QUICK)
    with pytest.raises(SourceUnavailable, match="no connection"):
        download("http://no-such-host.invalid/x.zip", tmp_path / "x.zip", patience=QUICK)


def test_progress_is_told_in_lines(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module._Progress, "EVERY", 0.0)
    run(server, tmp_path / "data.bin")
    told = capsys.readouterr()
    assert told.out == ""
    assert "data.bin: 0.1 MB of 0.1 MB (100 %), 0 s left" in told.err
    assert "\r" not in told.err
