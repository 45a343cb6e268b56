"""PDFs as they are met: each gives a document or a reason, and none stops the others."""

import io
import textwrap
import time
from pathlib import Path

import pytest
from pypdf import PdfWriter

from frugal.data.documents.pdf import read_pdf
from frugal.data.documents.pdf_pages import Unreadable, read_pages
from frugal.data.documents.preparation import Document
from frugal.errors import FrugalError
from frugal.rehearsal.documents import page, pdf

SENTENCE = "The glaciers of the range have lost much of their ice, and the rivers below them carry less water."


def read(path: Path, **more) -> Document:
    return read_pdf(path, path.name, None, **{"reader": "pypdf", "page_seconds": 20.0} | more)


@pytest.fixture
def make(tmp_path: Path):
    def write(data: bytes, name: str = "report.pdf") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.mark.parametrize("reader", ["pypdf", "PyPDF2"])
def test_a_report_becomes_running_text(make, reader: str) -> None:
    path = make(pdf([page(SENTENCE), page("It is warmer in the valley.")]))
    document = read(path, reader=reader)
    assert document == Document(
        "report.pdf", "report", f"{SENTENCE}\n\nIt is warmer in the valley.", None, "report.pdf", pages=2
    )


def encrypted(password: str) -> bytes:
    writer = PdfWriter(clone_from=io.BytesIO(pdf([page(SENTENCE)])))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    stream = io.BytesIO()
    writer.write(stream)
    return stream.getvalue()


IMAGE = b"q 595 0 0 842 0 0 cm BI /W 1 /H 1 /BPC 8 /CS /G ID \x80 EI Q"
LOOP = b"<< /Type /Pages /Kids [2 0 R] /Count 1 /Parent 2 0 R >>"


@pytest.mark.parametrize("reader", ["pypdf", "PyPDF2"])
@pytest.mark.parametrize(
    ("data", "reason", "pages"),
    [
        (b"", "empty file", 0),
        (SENTENCE.encode() * 100, "not a PDF", 0),
        (encrypted("secret"), "encrypted", 0),
        (pdf([]), "no pages", 0),
        (pdf([IMAGE, IMAGE]), "no text (scanned images?)", 2),
        (pdf([b"", b""]), "no text (scanned images?)", 2),
        (b"%PDF-1.4\n" + bytes(range(256)) * 20, "broken: ", 0),
        (pdf([page(SENTENCE)])[:300], "broken: ", 0),
        # A page tree that holds itself.
        (pdf([], kids="4 0 R", more=[LOOP]), "broken: ", 0),
    ],
    ids=["zero bytes", "text", "encrypted", "no pages", "image", "blank", "noise", "truncated", "loop"],
)
def test_what_cannot_be_read_is_skipped_with_its_reason(
    make, data: bytes, reason: str, pages: int, reader: str
) -> None:
    document = read(make(data), reader=reader)
    assert (document.status, document.text, document.pages) == ("skipped", "", pages)
    assert document.pages_skipped == pages
    assert document.reason.startswith(reason)
    assert "\n" not in document.reason


def test_an_empty_password_opens(make) -> None:
    assert read(make(encrypted(""))).text == SENTENCE


@pytest.mark.parametrize("reader", ["pypdf", "PyPDF2"])
def test_a_page_tree_that_is_nested_too_deeply(make, reader: str) -> None:
    depth = 5000
    nodes = [b"<< /Type /Pages /Kids [%d 0 R] /Count 1 >>" % (5 + i) for i in range(depth)]
    document = read(make(pdf([], kids="4 0 R", more=nodes)), reader=reader)
    assert document.status == "skipped"
    assert document.reason.startswith("broken: ")


def test_outlines_in_a_circle_do_no_harm(make) -> None:
    # Objects 6 and 7 follow the page's 4 and 5.
    more = [
        b"<< /Type /Outlines /First 7 0 R /Last 7 0 R >>",
        b"<< /Title (again) /Parent 6 0 R /Next 7 0 R /First 7 0 R >>",
    ]
    assert read(make(pdf([page(SENTENCE)], more=more, catalogue="/Outlines 6 0 R"))).text == SENTENCE


def test_two_thousand_pages(make) -> None:
    path = make(pdf([page(f"Station number {i} measured no rain.") for i in range(2000)]))
    document = read(path)
    assert (document.status, document.pages, document.pages_skipped) == ("kept", 2000, 0)
    assert document.text.count("Station number") == 2000
    cut = read(path, max_pages=3)
    assert (cut.pages, cut.pages_skipped) == (2000, 1997)
    assert cut.note == "report.pdf: only the first 3 of 2000 pages were read"


def unmapped(pages: list[str]) -> bytes:
    """A PDF whose font numbers its glyphs as TrueType fonts do, and has no map from them to characters."""
    streams = []
    for text in pages:
        lines = [f"<{''.join(f'{ord(c) - 29:04x}' for c in line)}> Tj T*" for line in textwrap.wrap(text, 80)]
        streams.append("\n".join(["BT /F1 10 Tf 72 770 Td 14 TL", *lines, "ET"]).encode())
    font = b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /AAAAAA+Arial /DW 600 >>"
    return pdf(streams, more=[font]).replace(
        b"/Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding",
        b"/Type0 /BaseFont /AAAAAA+Arial /Encoding /Identity-H /DescendantFonts [%d 0 R]" % (4 + 2 * len(pages)),
    )


@pytest.mark.parametrize("reader", ["pypdf", "PyPDF2"])
def test_a_font_without_a_map_to_characters(make, reader: str) -> None:
    document = read(make(unmapped([SENTENCE, SENTENCE])), reader=reader)
    assert (document.status, document.text, document.pages_skipped) == ("skipped", "", 2)
    assert document.reason == "text layer cannot be decoded"
    # Pages of a line or two, too short to be judged one by one.
    short = ["The ice", "of the", "range melts", "every year", "and the", "rivers rise", "in the spring"]
    assert read(make(unmapped(short)), reader=reader).reason == "text layer cannot be decoded"


READER = """
import os, time


class Page:
    def __init__(self, number):
        self.number = number

    def extract_text(self):
        if self.number in {hang}:
            while True:
                pass
        if self.number in {die}:
            os._exit(1)
        if self.number in {fail}:
            raise RecursionError
        if self.number in {eat}:
            return "x" * (1 << 40)
        if self.number in {glyphs}:
            return "7KH\\x03ULYHU\\x03LV\\x03ORZ " * 9
        if self.number in {endless}:
            return "x" * 1_000_001
        return f"Text of page {{self.number}}."


class PdfReader:
    is_encrypted = False
    metadata = None

    def __init__(self, path, strict):
        time.sleep({opening})
        self.pages = [Page(i) for i in range(1, {count} + 1)]
"""


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that makes a reader whose pages misbehave; pages are counted from 1."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(count: int, opening: float = 0, **pages: set[int]) -> str:
        behaviour = {kind: pages.get(kind, set()) for kind in ("hang", "die", "fail", "eat", "endless", "glyphs")}
        name = f"reader_{time.monotonic_ns()}"
        (tmp_path / f"{name}.py").write_text(READER.format(count=count, opening=opening, **behaviour))
        return name

    return make


def test_a_page_that_hangs_or_dies_costs_that_page_only(tmp_path: Path, reader) -> None:
    name = reader(7, hang={2}, die={4}, fail={5}, eat={6}, endless={7})
    pages = read_pages(tmp_path, name, page_seconds=4.0)  # of which a good page needs none, and the process its start
    assert pages.texts == ["Text of page 1.", "Text of page 3."]
    assert pages.problems == {
        2: "did not finish in 4 s",
        4: "ended the reader's process",
        5: "broken: nested too deeply or in a circle",
        6: "broken: needs more than 2 GB of memory",
        7: "longer than 1000000 characters",
    }
    assert pages.count == 7


def test_the_last_page_may_hang(tmp_path: Path, reader) -> None:
    pages = read_pages(tmp_path, reader(2, hang={2}), page_seconds=4.0)
    assert (pages.texts, list(pages.problems)) == (["Text of page 1."], [2])


def test_a_document_of_pages_that_hang_is_given_up(tmp_path: Path, reader) -> None:
    pages = read_pages(tmp_path, reader(1000, die=set(range(2, 1001))), page_seconds=20.0)
    assert (len(pages.texts), len(pages.problems)) == (1, 999)
    assert pages.problems[6] == "ended the reader's process"
    assert pages.problems[7] == "not tried, since too many pages before it did not finish"


def test_a_document_that_does_not_open_in_time(tmp_path: Path, reader) -> None:
    with pytest.raises(Unreadable, match=r"broken: opening it did not finish in 0\.3 s"):
        read_pages(tmp_path, reader(1, opening=30), page_seconds=0.3)


def test_skipped_pages_are_noted_and_a_document_of_none_is_skipped(make, reader) -> None:
    path = make(pdf([page(SENTENCE)]))
    document = read(path, reader=reader(3, fail={2}))
    assert (document.status, document.pages, document.pages_skipped) == ("kept", 3, 1)
    assert document.note == "report.pdf: page 2 was skipped (broken: nested too deeply or in a circle)"
    document = read(path, reader=reader(4, fail={1}, glyphs={3}))
    assert (document.text, document.pages_skipped) == ("Text of page 2. Text of page 4.", 2)
    assert document.note.endswith("page 3 was skipped (text layer cannot be decoded)")
    document = read(path, reader=reader(2, fail={1, 2}))
    assert document.reason == "no page could be read: broken: nested too deeply or in a circle"


def test_a_reader_that_is_not_installed_is_an_error(make) -> None:
    with pytest.raises(FrugalError, match="no_such_reader: this reader of PDFs is not installed"):
        read(make(pdf([page(SENTENCE)])), reader="no_such_reader")
