"""One file over http(s): resumed, retried, checked, and never half there."""

import fcntl
import hashlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from frugal.data.source.archives import disk_errors
from frugal.errors import FrugalError, first_line
from frugal.files import lock

CHUNK = 1 << 18
REDIRECTS = 10
TRANSIENT = (requests.Timeout, requests.ConnectionError, urllib3.exceptions.HTTPError)


class SourceUnavailable(FrugalError):
    """This source does not give the file; another one may."""


class _Retry(Exception):
    """A fault that may be gone the next time."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        attempts: failures in a row, without a new byte between them, before giving up.
        delay: seconds before the first retry; doubled each time up to ``max_delay``.
        connect: seconds to reach the server.
        stall: seconds without a byte before the connection counts as dead.
    """

    attempts: int = 5
    delay: float = 1.0
    max_delay: float = 30.0
    connect: float = 15.0
    stall: float = 30.0


@dataclass(frozen=True)
class Check:
    """What a file must be: any of hex sha256, hex md5 and size in bytes."""

    sha256: str | None = None
    md5: str | None = None
    size: int | None = None

    def problem(self, path: Path) -> str | None:
        """How ``path`` differs, naming both sums; None when it is right or nothing is known."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {size} bytes instead of {self.size}"
        kind = "sha256" if self.sha256 else "md5"
        expected = self.sha256 or self.md5
        if expected:
            with open(path, "rb") as stream:
                found = hashlib.file_digest(stream, kind).hexdigest()
            if found != expected:
                return f"has the {kind} {found}, expected {expected}"
        return None

    @property
    def by_content(self) -> bool:
        return bool(self.sha256 or self.md5)


def say(message: str) -> None:
    """One line of progress, on stderr so that stdout stays free."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of ``target``; a second process waits, then finds the file made."""
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        stream = open(target.with_name(f".{target.name}.lock"), "w")  # noqa: SIM115 (closed below, with the lock)
    try:
        try:
            lock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{target.name}: another process is fetching it; waiting")
            lock(stream, fcntl.LOCK_EX)
        yield
    finally:
        stream.close()


def download(url: str, target: Path, check: Check | None = None, patience: Patience | None = None) -> None:
    """Fetch ``url`` to ``target``, continuing ``<target>.part`` where an earlier try has left one.

    The caller holds the lock. What can succeed another time (time-outs, lost connections, 5xx, short
    bodies) is tried again with doubling delays; a wrong checksum is tried once more from the start.

    Raises:
        SourceUnavailable: the server does not give the file; the message says why.
        FrugalError: the disk is full or the folder may not be written.
    """
    check, patience = check or Check(), patience or Patience()
    part = target.with_name(f"{target.name}.part")
    fresh_starts = 1
    while True:
        with disk_errors(target):
            _fill(url, part, check, patience)
            problem = check.problem(part)
            if problem is None:
                part.replace(target)
                _tag(part).unlink(missing_ok=True)
                return
            _discard(part)
        if fresh_starts == 0:
            raise SourceUnavailable(f"{url}: what arrives {problem}")
        fresh_starts -= 1
        say(f"{target.name}: {problem}; fetching it once more from the start")


def _fill(url: str, part: Path, check: Check, patience: Patience) -> None:
    """Bring ``part`` to its full length, with retries."""
    failures, furthest = 0, _size(part)
    with requests.Session() as session:
        while True:
            try:
                return _transfer(session, url, part, check, patience)
            except (_Retry, *TRANSIENT) as error:
                reason = _reason(error)
            # Bytes gained count as success; the same bytes gained again after a restart do not.
            failures = 1 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures >= patience.attempts:
                raise SourceUnavailable(f"{url}: {reason} ({failures} attempts)")
            wait = min(patience.delay * 2 ** (failures - 1), patience.max_delay)
            say(f"{part.stem}: {reason}; trying again in {wait:.0f} s")
            time.sleep(wait)


def _transfer(session: requests.Session, url: str, part: Path, check: Check, patience: Patience) -> None:
    start = _size(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": "frugal"}
    tag = _tag(part).read_text(encoding="utf-8") if _tag(part).exists() else ""
    if start and not (tag or check.by_content):
        # Nothing would notice if the file had changed on the server meanwhile.
        _discard(part)
        start = 0
    if start:
        headers["Range"] = f"bytes={start}-"
        if tag:
            headers["If-Range"] = tag
    with _open(session, url, headers, patience) as response:
        status = response.status_code
        if status == 416:
            if check.by_content and check.problem(part) is None:
                return
            _discard(part)
            raise _Retry("the server refuses to continue; starting again")
        if status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                _discard(part)
                raise _Retry("the server continues at the wrong place; starting again")
        elif status == 200:
            start = 0
        elif status >= 500 or status in (408, 425, 429):
            raise _Retry(f"the server answers {status}")
        else:
            raise SourceUnavailable(f"{url}: the server answers {status} {response.reason}")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        if total is not None and check.size is not None and total != check.size:
            raise SourceUnavailable(f"{url}: announces {total} bytes instead of {check.size}")
        _tag(part).write_text(_validator(response), encoding="utf-8")
        progress = _Progress(part.stem, start, total or check.size)
        with open(part, "ab" if start else "wb") as out:
            # read1 hands over what has come in: after a stall nothing that arrived is lost.
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                out.write(chunk)
                progress.add(len(chunk))
    if total is not None and _size(part) < total:
        raise _Retry(f"the connection ended after {_size(part)} of {total} bytes")
    progress.done()


def _open(session: requests.Session, url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
    """GET with redirects followed by hand, so that none leads from the web to another scheme."""
    address = url
    for _ in range(REDIRECTS):
        try:
            response = session.get(
                address,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(patience.connect, patience.stall),
            )
        except requests.exceptions.SSLError as error:
            raise SourceUnavailable(f"{address}: no secure connection: {first_line(error)}") from None
        except TRANSIENT:
            raise
        except (requests.RequestException, ValueError) as error:
            raise SourceUnavailable(f"{address}: {first_line(error)}") from None
        if not response.is_redirect:
            return response
        response.close()
        address = urljoin(address, response.headers["Location"])
        if urlsplit(address).scheme not in ("http", "https"):
            raise SourceUnavailable(f"{url}: redirects to {address}, which is not http or https")
    raise SourceUnavailable(f"{url}: redirects more than {REDIRECTS} times")


def _validator(response: requests.Response) -> str:
    """What names this version of the file: a strong ETag, else its date."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _reason(error: Exception) -> str:
    """A library's error in a few words; the text of urllib3's is a nest of representations."""
    if isinstance(error, _Retry):
        return str(error)
    if isinstance(error, (requests.ConnectTimeout, requests.ReadTimeout, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection was lost"
    return "no connection" if isinstance(error, requests.ConnectionError) else first_line(error)


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Progress:
    """A line every two seconds at most: megabytes, share, speed, time left."""

    EVERY = 2.0

    def __init__(self, name: str, start: int, total: int | None) -> None:
        self.name, self.start, self.at, self.total = name, start, start, total
        self.began = self.reported = time.monotonic()
        if start:
            say(f"{name}: continuing after {start / 1e6:.1f} MB")

    def add(self, count: int) -> None:
        self.at += count
        if time.monotonic() - self.reported >= self.EVERY:
            self.reported = time.monotonic()
            self.tell()

    def tell(self) -> None:
        speed = (self.at - self.start) / max(time.monotonic() - self.began, 1e-9)
        text = f"{self.name}: {self.at / 1e6:.1f} MB"
        if self.total:
            left = (self.total - self.at) / max(speed, 1e-9)
            text += f" of {self.total / 1e6:.1f} MB ({100 * self.at / self.total:.0f} %), {left:.0f} s left"
        say(f"{text}, {speed / 1e6:.1f} MB/s")

    def done(self) -> None:
        seconds = time.monotonic() - self.began
        say(f"{self.name}: {self.at / 1e6:.1f} MB in {seconds:.1f} s")
