"""PDF documents: their text, or the reason why there is none."""

from pathlib import Path

from frugal.data.cleaning import clean_characters, clean_pages
from frugal.data.documents import Document
from frugal.data.pdf_pages import Pages, Unreadable, read_pages

# A PDF may begin with other bytes, but not with many.
HEADER, HEADER_WITHIN = b"%PDF-", 1024


def read_pdf(
    path: Path, name: str, split: str | None, reader: str, page_seconds: float, max_pages: int | None = None
) -> Document:
    """The text of a PDF, cleaned; of one that is encrypted, scanned, broken or no PDF, the reason why there is none.

    Args:
        name: the file's name in the data set, and the document's.
        split: train, validation or test, where the data set brings its own split.
        reader: pypdf or PyPDF2.
        page_seconds: a page that takes longer is left out; see `read_pages`.
        max_pages: later pages are left out.
    """

    def skipped(reason: str, count: int = 0) -> Document:
        return Document(name, Path(name).stem, "", split, name, count, count, "skipped", reason)

    with open(path, "rb") as stream:
        head = stream.read(HEADER_WITHIN)
    if not head:
        return skipped("empty file")
    if HEADER not in head:
        return skipped("not a PDF")
    try:
        pages = read_pages(path, reader, page_seconds, max_pages)
    except Unreadable as error:
        return skipped(error.args[0])
    text = clean_pages(pages.texts)
    if not text:
        problem = next(iter(pages.problems.values()), None)
        # A document with one readable blank page is scanned, whatever happened to its other pages.
        return skipped(
            f"no page could be read: {problem}" if problem and not pages.texts else "no text (scanned images?)",
            pages.count,
        )
    title = clean_characters(pages.title).strip() or Path(name).stem
    return Document(
        name, title, text, split, name, pages.count, pages.count - len(pages.texts), note=_note(name, pages, max_pages)
    )


def _note(name: str, pages: Pages, max_pages: int | None) -> str:
    """What was left out of a document that is kept; empty when nothing was."""
    parts = [f"page {page} was skipped ({reason})" for page, reason in list(pages.problems.items())[:3]]
    if len(pages.problems) > 3:
        parts.append(f"and {len(pages.problems) - 3} more pages")
    if max_pages is not None and pages.count > max_pages:
        parts.append(f"only the first {max_pages} of {pages.count} pages were read")
    return f"{name}: {'; '.join(parts)}" if parts else ""
