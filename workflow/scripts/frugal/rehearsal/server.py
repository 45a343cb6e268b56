"""A web server on this machine that gives the stand-ins: plain files, a package index, and repositories of the Hub.

Of the Hub's protocol it speaks what `huggingface_hub.snapshot_download` asks for (huggingface_hub 2.4): the list of a
commit's files, and each file with its ETag and commit. Gated repositories want the token.
"""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

#: What a stand-in job may show as its access token; a real one never reaches this server.
TOKEN = "hf_rehearsal"
#: Every file is sent whole, but for one that a `Fault` cuts off.
WHOLE = 1.0


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub at one commit: path to content."""

    commit: str
    files: Mapping[str, bytes]
    gated: bool = False


@dataclass
class Fault:
    """What the server answers instead of what is asked for, to paths that match ``pattern``.

    Attributes:
        status: of the answer; 200 sends the file, up to ``share`` of it.
        code: the Hub's name of the error (`X-Error-Code`).
        times: requests that meet the fault; then all is well.
    """

    pattern: str
    status: int
    share: float = WHOLE
    code: str = ""
    times: int = 1_000_000


@dataclass
class Site:
    """What is served.

    Attributes:
        files: path below `/files/` to content.
        packages: name of a wheel to its content.
        repositories: `organisation/name` to repository.
        requests: method and path of every request, in their order.
        unanswered: those of them that no stand-in answers.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    packages: dict[str, bytes] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)


class StandInServer:
    """Serves a `Site` on 127.0.0.1, from `with` on, to its end.

    Args:
        port: 0 takes a free one.
    """

    def __init__(self, site: Site, port: int = 0) -> None:
        self.http = ThreadingHTTPServer(("127.0.0.1", port), _handler(site))
        self.http.daemon_threads = True
        self.port = self.http.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "StandInServer":
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def variables(self) -> dict[str, str]:
        """Environment variables that send pip and the Hub's client here, past any proxy and the user's own settings."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": f"{self.url}/simple/",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_NO_INDEX": "0",
            "PIP_FIND_LINKS": "",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            site.requests.append(f"{self.command} {path}")
            fault = next((one for one in site.faults if one.times and re.search(one.pattern, path)), None)
            if fault is None:
                self._find(path)
                return
            fault.times -= 1
            if fault.status == 200:
                self._find(path, fault.share)
            else:
                self._refuse(fault.status, fault.code)

        def _find(self, path: str, share: float = WHOLE) -> None:
            first, _, rest = path.lstrip("/").partition("/")
            if first == "files" and rest in site.files:
                self._send(site.files[rest], share)
            elif first == "simple":
                self._send(_links(site.packages, rest.strip("/")), share, "text/html")
            elif first == "packages" and rest in site.packages:
                self._send(site.packages[rest], share)
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([0-9a-f]{40})", path):
                if repository := self._repository(*found.groups()):
                    self._send(_tree(repository), share, "application/json")
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", path):
                name, commit, file = found.groups()
                if repository := self._repository(name, commit):
                    self._send(repository.files[file], share, **{"X-Repo-Commit": commit})
            else:
                self._refuse(404, "")

        def _repository(self, name: str, commit: str) -> Repository | None:
            """The repository, if it is there and this request may read it; else None, and the request is answered."""
            repository = site.repositories.get(name)
            if repository is None:
                self._refuse(404, "RepoNotFound")
            elif repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
            elif repository.commit != commit:
                self._refuse(404, "RevisionNotFound")
            else:
                return repository
            return None

        def _send(self, content: bytes, share: float = WHOLE, kind: str = "application/octet-stream", **headers: str):
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = min(int(asked[1]), len(content)) if asked else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            headers = {"ETag": f'"{_blob_id(content)}"', "Content-Type": kind} | headers
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if self.command == "GET":
                end = int(len(content) * share)
                self.wfile.write(content[start:end])
                self.close_connection = end < len(content)

        def _refuse(self, status: int, code: str) -> None:
            if status == 404:
                site.unanswered.append(site.requests[-1])
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


def _tree(repository: Repository) -> bytes:
    """The Hub's list of a commit's files."""
    files = [
        {"type": "file", "path": path, "size": len(content), "oid": _blob_id(content)}
        for path, content in sorted(repository.files.items())
    ]
    return json.dumps(files).encode()


def _links(packages: Mapping[str, bytes], name: str) -> bytes:
    """The page of a package in a simple index (PEP 503): a link to each of its wheels."""
    wheels = [wheel for wheel in packages if wheel.split("-")[0].replace("_", "-").lower() == name.lower()]
    links = (
        f'<a href="/packages/{wheel}#sha256={hashlib.sha256(packages[wheel]).hexdigest()}">{wheel}</a>'
        for wheel in wheels
    )
    return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()


def _blob_id(content: bytes) -> str:
    """git's hash of a file."""
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()
