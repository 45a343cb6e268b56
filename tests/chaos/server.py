"""A web server of one file that closes its connections too early, or stalls."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FaultyServer:
    """Serves ``file``, and goes on where an earlier transfer ended."""

    def __init__(self, file: Path):
        self.file, self.content = file, file.read_bytes()
        self.share, self.stalls = 1.0, False
        self.closing = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/{file.name}"

    def __enter__(self) -> "FaultyServer":
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    @contextmanager
    def faulty(self, share: float, stalls: bool = False) -> Iterator[None]:
        """Send so much of the file and no more, then close the connection, or leave it open."""
        self.share, self.stalls = share, stalls
        try:
            yield
        finally:
            self.share, self.stalls = 1.0, False

    def __exit__(self, *_) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                asked = self.headers.get("Range", "bytes=0-")
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                body = server.content[start:]
                self.send_response(206 if start else 200)
                if start:
                    last = len(server.content) - 1
                    self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"one"')
                self.end_headers()
                end = max(0, int(len(server.content) * server.share) - start)
                self.wfile.write(body[:end])
                self.wfile.flush()
                if server.stalls:
                    server.closing.wait()

        return Handler
