"""Stand-ins of document files: WikiText, an export of Wikipedia, texts, JSON lines and PDFs."""

import io
import json
import textwrap
from collections.abc import Sequence
from xml.sax.saxutils import escape

from frugal.config.sources import FileSource
from frugal.rehearsal.world import articles, paragraphs

#: Documents of each role; the splits that a data set brings are of different documents.
COUNTS = {"train": 40, "validation": 6, "test": 8, "data": 40}
FIRST = {"train": 0, "validation": 1000, "test": 2000, "data": 3000}
PDF_PAGES = 4


def document_files(source: FileSource, file: str) -> dict[str, bytes]:
    """The members of a source of documents: path inside its archive to content.

    Args:
        file: the name of the member of a source that names none.
    """
    named = source.members or {"data": file}
    return {str(path): _document(source.format, role, str(path)) for role, path in named.items()}


def pdf_report(number: int) -> bytes:
    """A PDF of some pages of text, each number another one."""
    texts = [" ".join(paragraphs(4000 + 100 * number + page, 3)) for page in range(PDF_PAGES)]
    return pdf(list(map(page, texts)))


def _document(form: str, role: str, name: str) -> bytes:
    role = role if role in COUNTS else "data"
    found = list(articles(FIRST[role], COUNTS[role]))
    if form == "wikitext":
        return "".join(f" \n = {title} = \n \n{_wikitext_lines(texts)}" for title, texts in found).encode()
    if form == "wikipedia-dump":
        return _export(found)
    if form == "pdf":
        return pdf_report(sum(name.encode()) % 50)
    lines = [{"id": str(n), "title": title, "text": "\n\n".join(texts)} for n, (title, texts) in enumerate(found)]
    if name.endswith(".json"):
        return json.dumps(lines).encode()
    if name.endswith((".jsonl", ".ndjson")):
        return "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return lines[0]["text"].encode()


def _wikitext_lines(texts: Sequence[str]) -> str:
    """Paragraphs below a section's heading, with blanks around punctuation, as WikiText is tokenised."""
    lines = [" = = History = = ", " ", *(text.replace(",", " ,").replace(".", " .") for text in texts)]
    return "".join(f" {line.strip()} \n" for line in lines)


def _export(found: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    pages = "".join(
        f"<page><title>{escape(title)}</title><ns>0</ns><id>{number}</id><revision><id>{number}</id>"
        f"<text>{escape(_markup(title, texts))}</text></revision></page>\n"
        for number, (title, texts) in enumerate(found, start=1)
    )
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="en">\n'
    return f"{head}<siteinfo><sitename>Stand-in</sitename></siteinfo>\n{pages}</mediawiki>\n".encode()


def _markup(title: str, texts: Sequence[str]) -> str:
    first, *rest = texts
    body = "\n\n".join(rest)
    return f"'''{title}''' is an article. {first}<ref>A source</ref>\n\n== History ==\n{body}\n\n[[Category:Stand-ins]]"


def pdf(pages: list[bytes], kids: str | None = None, more: list[bytes] | None = None, catalogue: str = "") -> bytes:
    """A PDF with one content stream for each page, and a correct table of references.

    Args:
        pages: content streams, as `page` makes them.
        kids: the page tree's references; None: those of all pages.
        more: further objects.
        catalogue: further entries of the catalogue.
    """
    numbers = range(4, 4 + 2 * len(pages), 2)
    tree = kids if kids is not None else " ".join(f"{n} 0 R" for n in numbers)
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {catalogue} >>".encode(),
        f"<< /Type /Pages /Kids [{tree}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, content in zip(numbers, pages, strict=True):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (number + 1)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    data, places = io.BytesIO(b"%PDF-1.4\n"), []
    data.seek(0, io.SEEK_END)
    for number, content in enumerate([*objects, *(more or [])], start=1):
        places.append(data.tell())
        data.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    start = data.tell()
    data.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1))
    data.writelines(b"%010d 00000 n \n" % place for place in places)
    data.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, start))
    return data.getvalue()


def page(text: str) -> bytes:
    """The content stream of a page of running text."""
    lines = [f"({line}) Tj T*" for line in textwrap.wrap(text, 80)]
    return "\n".join(["BT /F1 10 Tf 72 770 Td 14 TL", *lines, "ET"]).encode()
