"""The pages of one PDF, read in a child process: a file that hangs or eats memory harms nothing else."""

import contextlib
import importlib.util
import json
import logging
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from frugal.errors import FrugalError, first_line

# A fresh interpreter, which imports the reader and nothing else.
CHILD = (
    "import json, sys; job = json.loads(sys.argv[1]); sys.path[:] = job.pop('sys_path'); "
    "from frugal.data.documents.pdf_pages import send_pages; send_pages(**job)"
)
# Bytes of address space that a child may add to what it starts with.
MEMORY = 2 << 30
# A page of small print has some 10,000 characters.
LONGEST_PAGE = 1_000_000
# After so many pages that did not finish the rest of the document is given up.
MOST_LOST = 5


class Unreadable(Exception):
    """The document as a whole cannot be read: ``args[0]`` is the reason."""


@dataclass
class Pages:
    """What could be read of a PDF.

    Attributes:
        title: of the PDF's metadata, or empty.
        count: pages of the document, read or not.
        texts: of the pages that were read, in order.
        problems: page (from 1) to the reason why it was not read.
    """

    title: str = ""
    count: int = 0
    texts: list[str] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)


def read_pages(path: Path, reader: str, page_seconds: float, max_pages: int | None = None) -> Pages:
    """Read the first ``max_pages`` pages of a PDF, or all.

    Args:
        reader: a module with a class ``PdfReader`` in the manner of pypdf.
        page_seconds: for opening the document, and for each page. A page that takes longer is left out, and so is
            one that ends the process or raises an error; after five that did not finish, all that follow are.

    Raises:
        Unreadable: the document cannot be opened, is encrypted or has no pages.
        FrugalError: the reader is not installed.
    """
    if importlib.util.find_spec(reader) is None:
        raise FrugalError(f"{reader}: this reader of PDFs is not installed; install the package, or set pdf_reader")
    pages, read, last, lost = Pages(), 0, 0, 0
    while True:
        for message in _messages(path, reader, read, max_pages, page_seconds):
            if "unreadable" in message and not last:
                raise Unreadable(message["unreadable"])
            if "count" in message:
                pages.count, pages.title = message["count"], message["title"]
                last = min(pages.count, max_pages or pages.count)
                continue
            if "unreadable" in message:
                lost = MOST_LOST  # it could be opened before, and cannot now
            elif "text" in message:
                read += 1
                pages.texts.append(message["text"])
            else:
                read += 1
                pages.problems[read] = message["problem"]
                lost += message["lost"]
            if read == last:
                return pages
            if lost >= MOST_LOST:
                given_up = "not tried, since too many pages before it did not finish"
                pages.problems |= dict.fromkeys(range(read + 1, last + 1), given_up)
                return pages


def _messages(
    path: Path, reader: str, start: int, max_pages: int | None, page_seconds: float
) -> Iterator[dict[str, Any]]:
    """What one child says of the document and of its pages from ``start``, until it must be ended."""
    receiver, sender = Pipe(duplex=False)
    job = {"pipe": sender.fileno(), "path": str(path), "reader": reader, "start": start, "max_pages": max_pages}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(job | {"page_seconds": page_seconds, "sys_path": sys.path})],
        pass_fds=[sender.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    sender.close()
    opened = False
    try:
        while receiver.poll(page_seconds):
            message = json.loads(receiver.recv_bytes())
            opened = True
            yield message
        problem = f"did not finish in {page_seconds:g} s"
    except EOFError:
        problem = "ended the reader's process"
    finally:
        child.kill()
        child.wait()
        receiver.close()
    yield {"problem": problem, "lost": 1} if opened else {"unreadable": f"broken: opening it {problem}"}


def send_pages(pipe: int, path: str, reader: str, start: int, max_pages: int | None, page_seconds: float) -> None:
    """What the child does: send title and number of pages, then a message for each page.

    The messages are JSON, so that nothing that a hostile file brings about in this process can run code in the other.
    """
    sender = Connection(pipe, readable=False)
    _limit_memory()
    # The readers complain of every flaw, thousands of times in some files.
    logging.disable()
    warnings.simplefilter("ignore")

    def send(**message: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sender.send_bytes(json.dumps(message).encode())
        # Ends this process, too, when nobody is left to end it.
        signal.setitimer(signal.ITIMER_REAL, 2 * page_seconds + 5)

    try:
        document = importlib.import_module(reader).PdfReader(path, strict=False)
        if document.is_encrypted and not document.decrypt(""):
            send(unreadable="encrypted")
            return
        count = len(document.pages)
    except Exception as error:  # whatever a damaged file causes in the reader
        send(unreadable=_reason(error))
        return
    if not count:
        send(unreadable="no pages")
        return
    send(count=count, title=_title(document))
    for page in range(start, min(count, max_pages or count)):
        try:
            text = document.pages[page].extract_text()
        except Exception as error:
            send(problem=_reason(error), lost=0)
            continue
        if len(text) > LONGEST_PAGE:
            send(problem=f"longer than {LONGEST_PAGE} characters", lost=0)
        else:
            send(text=text)


def _limit_memory() -> None:
    """Keep this process from taking the machine's memory, where the system allows to."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _title(document: Any) -> str:
    # Metadata is damaged more often than pages are, and matters less.
    try:
        return str(document.metadata.title or "")[:200]
    except Exception:
        return ""


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "broken: nested too deeply or in a circle"
    if isinstance(error, MemoryError):
        return f"broken: needs more than {MEMORY >> 30} GB of memory"
    # pypdf asks for a package that it can decrypt with only when the file is encrypted.
    if type(error).__name__ in ("DependencyError", "FileNotDecryptedError"):
        return "encrypted"
    return f"broken: {first_line(error)[:200]}"
