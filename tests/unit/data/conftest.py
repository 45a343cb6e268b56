"""A web server that misbehaves on demand, and small data sets written on the spot."""

import hashlib
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from frugal.config.registry import DatasetEntry
from frugal.config.sources import PathSource
from frugal.data.interactions.preparation import prepare
from frugal.data.source.download import Patience
from frugal.data.source.fetch import fetch

QUICK = Patience(attempts=3, delay=0.01, max_delay=0.02, connect=2.0, stall=0.4)


class FaultyServer:
    """Serves ``content`` at every path; ``faults`` are used up one request at a time, then all is well.

    A fault is a status (500), ``("cut", n)``, ``("stall", n)``, ``"corrupt"``, ``"no-range"``,
    ``"wrong-range"``, ``"slow"`` or ``("redirect", address)``. ``ranges`` keeps each request's Range header.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.faults: list[Any] = []
        self.ranges: list[str | None] = []
        self.tag: str | None = '"one"'
        self.released = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def url(self, name: str = "data.bin") -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{name}"

    def close(self) -> None:
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                """Quiet: the tests look at ``ranges`` instead."""

            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                server.ranges.append(asked)
                fault = server.faults.pop(0) if server.faults else None
                self.close_connection = True
                if isinstance(fault, int):
                    self._head(fault, 0)
                    return
                if isinstance(fault, tuple) and fault[0] == "redirect":
                    self._head(302, 0, Location=fault[1])
                    return
                start = 0
                if asked and fault != "no-range" and self.headers.get("If-Range", server.tag) == server.tag:
                    start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(server.content) and start:
                    self._head(416, 0)
                    return
                body = server.content[start:]
                extra = {"ETag": server.tag} if server.tag else {}
                if start:
                    first = start + 1 if fault == "wrong-range" else start
                    extra["Content-Range"] = f"bytes {first}-{len(server.content) - 1}/{len(server.content)}"
                self._head(206 if start else 200, len(body), **extra)
                if fault == "corrupt":
                    body = bytes([body[0] ^ 1]) + body[1:]
                if fault == "slow":
                    server.released.wait(0.3)
                self.wfile.write(body[: fault[1]] if isinstance(fault, tuple) else body)
                self.wfile.flush()
                if isinstance(fault, tuple) and fault[0] == "stall":
                    server.released.wait(5)

            def _head(self, status: int, length: int, **headers: str) -> None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key.replace("_", "-"), value)
                self.send_header("Content-Length", str(length))
                self.send_header("Connection", "close")
                self.end_headers()

        return Handler


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    faulty = FaultyServer(bytes(range(256)) * 400)
    yield faulty
    faulty.close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests on this machine, whatever proxies and tokens the shell knows."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_zip(path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, data in files.items():
            bundle.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path.read_bytes()


class Prepared:
    """What preparation gave: summary, interactions as rows, items by original id."""

    def __init__(self, facts: dict[str, Any], folder: Path) -> None:
        self.facts, self.folder = facts, folder
        self.interactions = pd.read_parquet(folder / "interactions.parquet")
        self.items = pd.read_parquet(folder / "items.parquet").set_index("original_id")

    @property
    def rows(self) -> list[tuple[int, int, float, int]]:
        return list(self.interactions.itertuples(index=False, name=None))


@pytest.fixture
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Prepared]:
    """A function that writes files, fetches them as a local folder and prepares them.

    ``ratings`` is a file, or files by their names: the parts of a table, which ``pattern`` names. ``settings`` named
    like a key of the entry go to the entry, the others to its source.
    """

    def run(
        form: str,
        ratings: bytes | dict[str, bytes],
        items: bytes | None = None,
        pattern: str | tuple[str, ...] = "part-*",
        **settings: Any,
    ) -> Prepared:
        folder = tmp_path_factory.mktemp("data")
        suffix = ".parquet" if form == "parquet" else ".csv"
        members = {"ratings": pattern if isinstance(ratings, dict) else f"ratings{suffix}"}
        (folder / "in").mkdir()
        for name, data in ratings.items() if isinstance(ratings, dict) else [(members["ratings"], ratings)]:
            (folder / "in" / name).write_bytes(data)
        if items is not None:
            members["items"] = "items.parquet" if items.startswith(b"PAR1") else "items.csv"
            (folder / "in" / members["items"]).write_bytes(items)
        policies = {key: settings.pop(key) for key in list(settings) if key in DatasetEntry.model_fields}
        source = PathSource(path=str(folder / "in"), format=form, members=members, **settings)
        entry = DatasetEntry(title="test", sources=(source,), **policies)
        fetch("test", entry, folder / "raw", downloads=folder / "downloads")
        out = [folder / name for name in ("interactions.parquet", "items.parquet", "users.parquet", "summary.json")]
        return Prepared(prepare("test", entry, folder / "raw", *out), folder)

    return run
