"""Plain text: WikiText as it is, text files, and JSON lines."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from frugal.data.documents import Document
from frugal.errors import FrugalError, first_line

# ` = Title = `, and not ` = = Section = = `.
TITLE = re.compile(r" = (?!=)(.*[^=\s]) = \n?")
JSON_LINES = (".jsonl", ".ndjson")


def read_wikitext(path: Path, split: str, file: str = "") -> Iterator[Document]:
    """The articles of a raw WikiText file; joined, they are the file, byte for byte.

    An article begins at a line `` = Title = `` after a blank line; what stands before the first title belongs to the
    first article.

    Args:
        split: train, validation or test.
        file: what the manifest calls ``path``.

    Raises:
        FrugalError: the file is not UTF-8.
    """
    title, lines = "", []
    try:
        # Only \n ends a line here; any other line end is part of the text.
        with open(path, encoding="utf-8", newline="\n") as stream:
            for line in stream:
                found = TITLE.fullmatch(line)
                if found and (not lines or lines[-1].isspace()):
                    if title:
                        yield Document(title, title, "".join(lines), split, file)
                        lines = []
                    title = found[1]
                lines.append(line)
    except UnicodeDecodeError as error:
        raise FrugalError(f"{path}: is not UTF-8 ({first_line(error)}); fetch it again") from None
    if lines:
        title = title or path.stem
        yield Document(title, title, "".join(lines), split, file)


def read_text(path: Path, name: str, split: str | None, text_field: str, skip: bool) -> Iterator[Document]:
    """The document of a text file, or those of a file of JSON lines; line ends become ``\\n``.

    A line of JSON is an object with the text under ``text_field``, and maybe ``id`` and ``title``.

    Args:
        name: the file's name in the data set, and the document's.
        split: train, validation or test, where the data set brings its own split.
        skip: leave out what cannot be read, with its reason, instead of raising an error.

    Raises:
        FrugalError: the text is not UTF-8, or a line is no such object, and ``skip`` is not set.
    """
    if path.suffix.lower() in JSON_LINES:
        yield from _json_lines(path, name, split, text_field, skip)
        return
    title = Path(name).stem
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        yield _bad(path, f"{path}", name, name, split, "not UTF-8", skip)
        return
    if text.strip():
        yield Document(name, title, text, split, name)
    else:
        yield Document(name, title, "", split, name, status="skipped", reason="empty")


def _json_lines(path: Path, name: str, split: str | None, text_field: str, skip: bool) -> Iterator[Document]:
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            place = f"{name}:{number}"
            reason, record = _parse(line, text_field)
            if reason:
                yield _bad(path, f"{path}, line {number}", place, name, split, reason, skip)
                continue
            document, title, text = (record.get(key) for key in ("id", "title", text_field))
            document = place if document in (None, "") else str(document)
            title = str(title or document)
            if text.strip():
                yield Document(document, title, text, split, name)
            else:
                yield Document(document, title, "", split, name, status="skipped", reason="empty")


def _parse(line: bytes, text_field: str) -> tuple[str, dict]:
    """What is wrong with a line, or nothing, and its object."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
        # JSON can hold halves of surrogate pairs, which no file of text can.
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeError:
        return "not UTF-8", {}
    except (ValueError, RecursionError):
        return "not JSON", {}
    if not isinstance(record, dict):
        return "not a JSON object", {}
    if not isinstance(record.get(text_field), str):
        return f"no text under the key '{text_field}'", {}
    return "", record


def _bad(path: Path, place: str, document: str, file: str, split: str | None, reason: str, skip: bool) -> Document:
    if not skip:
        raise FrugalError(
            f"{place}: {reason}; correct it, or set 'on_bad_rows: skip' for this data set to leave such text out"
        )
    return Document(document, path.stem, "", split, file, status="skipped", reason=reason)
