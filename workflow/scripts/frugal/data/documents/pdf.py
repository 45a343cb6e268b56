"""PDF documents: their text, or the reason why there is none."""

from pathlib import Path

from frugal.data.documents.characters import is_undecoded
from frugal.data.documents.cleaning import clean_characters, clean_pages
from frugal.data.documents.pdf_pages import Pages, Unreadable, read_pages
from frugal.data.documents.preparation import Document

# A PDF may begin with other bytes, but not with many.
UNDECODED = "text layer cannot be decoded"
HEADER, HEADER_WITHIN = b"%PDF-", 1024


def read_pdf(
    path: Path, name: str, split: str | None, reader: str, page_seconds: float, max_pages: int | None = None
) -> Document:
    """The text of a PDF, cleaned; of one that is encrypted, scanned, broken or no PDF, the reason why there is none.

    Pages whose text layer cannot be decoded (see `is_undecoded`) are left out.

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
    _drop_undecoded(pages)
    text = clean_pages(pages.texts)
    if not text:
        if UNDECODED in pages.problems.values():
            return skipped(UNDECODED, pages.count)
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


def _drop_undecoded(pages: Pages) -> None:
    """Move the pages whose text is none from the texts to the problems: one by one, or all, where they are short."""
    numbers = [page for page in range(1, pages.count + 1) if page not in pages.problems]
    texts = dict(zip(numbers, pages.texts, strict=False))  # pages past max_pages are in neither
    wrong = [page for page, text in texts.items() if is_undecoded(text)]
    rest = [page for page in texts if page not in set(wrong)]
    if is_undecoded("\n".join(texts[page] for page in rest)):
        wrong, rest = list(texts), []
    pages.problems |= dict.fromkeys(wrong, UNDECODED)
    pages.texts = [texts[page] for page in rest]


def _note(name: str, pages: Pages, max_pages: int | None) -> str:
    """What was left out of a document that is kept; empty when nothing was."""
    parts = [f"page {page} was skipped ({reason})" for page, reason in list(pages.problems.items())[:3]]
    if len(pages.problems) > 3:
        parts.append(f"and {len(pages.problems) - 3} more pages")
    if max_pages is not None and pages.count > max_pages:
        parts.append(f"only the first {max_pages} of {pages.count} pages were read")
    return f"{name}: {'; '.join(parts)}" if parts else ""
