"""Plain text: WikiText as it is, text files, JSON lines and arrays of JSON."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frugal.data import JSON_LINES
from frugal.data.documents.characters import encoding_of, is_binary, plain_characters
from frugal.data.documents.preparation import Document
from frugal.errors import FrugalError, first_line

# ` = Title = `, and not ` = = Section = = `.
TITLE = re.compile(r" = (?!=)(.*[^=\s]) = \n?")
JSON_FILES = (*JSON_LINES, ".json")


def read_wikitext(path: Path, split: str, file: str = "") -> Iterator[Document]:
    """The articles of a raw WikiText file; joined, they are the file, but for what `plain_characters` changes.

    An article begins at a line `` = Title = `` after a blank line; what stands before the first title belongs to the
    first article.

    Args:
        split: train, validation or test.
        file: what the manifest calls ``path``.

    Raises:
        FrugalError: the file is neither UTF-8 nor UTF-16.
    """
    title, lines = "", []
    try:
        # Every line end is read as \n, as the published perplexities' readers do.
        with open(path, encoding=encoding_of(path)) as stream:
            for line in map(plain_characters, stream):
                found = TITLE.fullmatch(line)
                if found and (not lines or lines[-1].isspace()):
                    if title:
                        yield Document(title, title, "".join(lines), split, file)
                        lines = []
                    title = found[1]
                lines.append(line)
    except UnicodeError as error:
        raise FrugalError(f"{path}: is not UTF-8 ({first_line(error)}); fetch it again") from None
    if lines:
        title = title or path.stem
        yield Document(title, title, "".join(lines), split, file)


def read_text(path: Path, name: str, split: str | None, text_field: str, skip: bool) -> Iterator[Document]:
    """The document of a text file, or those of a file of JSON; see `plain_characters` for what is left out.

    JSON is one object a line, or an array of objects, with the text under ``text_field``, and maybe ``id`` and
    ``title``. Files are UTF-8, or UTF-16 or UTF-32 with a byte-order mark.

    Args:
        name: the file's name in the data set, and the document's.
        split: train, validation or test, where the data set brings its own split.
        skip: leave out what cannot be read, with its reason, instead of raising an error.

    Raises:
        FrugalError: the text is in another encoding, is binary or JSON under another name, or a record is no such
            object, and ``skip`` is not set.
    """
    if path.suffix.lower() in JSON_FILES:
        yield from _json_documents(path, name, split, text_field, skip)
        return
    title = Path(name).stem
    try:
        text = path.read_text(encoding=encoding_of(path))
    except UnicodeError:
        yield _bad(path, f"{path}", name, name, split, "not UTF-8", skip)
        return
    if is_binary(text):
        yield _bad(path, f"{path}", name, name, split, "not text", skip)
    elif _is_json(text):
        yield _bad(
            path, f"{path}", name, name, split, "JSON in a file that is not named .json, .jsonl or .ndjson", skip
        )
    elif (text := plain_characters(text)).strip():
        yield Document(name, title, text, split, name)
    else:
        yield Document(name, title, "", split, name, status="skipped", reason="empty")


def _is_json(text: str) -> bool:
    """Whether a text, or its first line, is a JSON object, or the text an array of objects."""
    text = text.strip()
    if text[:1] not in ("{", "["):
        return False
    for part in (text, text.split("\n", 1)[0]):
        try:
            value = json.loads(part)
        except (ValueError, RecursionError):
            continue
        if (isinstance(value, dict) and value) or (isinstance(value, list) and any(isinstance(v, dict) for v in value)):
            return True
    return False


def _json_documents(path: Path, name: str, split: str | None, text_field: str, skip: bool) -> Iterator[Document]:
    try:
        for number, part, reason, record in _records(path):
            place, keys = f"{name}:{number}", ""
            if not reason and (reason := _fault(record, text_field)) and isinstance(record, dict):
                keys = f" (its keys: {', '.join(map(repr, record))[:200]}; see 'text_field')"
            if reason:
                yield _bad(path, f"{path}, {part} {number}", place, name, split, reason, skip, keys)
                continue
            document, title, text = (record.get(key) for key in ("id", "title", text_field))
            document = place if document in (None, "") else str(document)
            title = str(title or document)
            if (text := plain_characters(text)).strip():
                yield Document(document, title, text, split, name)
            else:
                yield Document(document, title, "", split, name, status="skipped", reason="empty")
    except UnicodeError:  # of UTF-16, where no line after the fault can be read
        yield _bad(path, f"{path}", name, name, split, "not UTF-8", skip)


def _records(path: Path) -> Iterator[tuple[int, str, str, Any]]:
    """Number, "line" or "record", what is wrong with it or nothing, and the value of each record of a JSON file."""
    encoding = encoding_of(path)
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    with open(path, encoding=encoding, errors=errors) as stream:
        if path.suffix.lower() == ".json":
            # An array or one object over several lines; JSON lines otherwise.
            reason, value = _parse(stream.read())
            if not reason:
                records = value if isinstance(value, list) else [value]
                for number, record in enumerate(records, start=1):
                    yield number, "record", _unwritable(record), record
                return
            stream.seek(0)
        for number, line in enumerate(stream, start=1):
            line = line.strip("\ufeff")
            if line.strip():
                reason, record = _parse(line)
                yield number, "line", reason or _unwritable(record), record


def _parse(text: str) -> tuple[str, Any]:
    """What is wrong with a text of JSON, or nothing, and its value."""
    try:
        return "", json.loads(text)
    except (ValueError, RecursionError):
        return ("not UTF-8" if _unwritable(text) else "not JSON"), None


def _unwritable(value: Any) -> str:
    """The reason where a value holds bytes that are not UTF-8, or halves of surrogate pairs, as JSON can."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        return "not UTF-8"
    return ""


def _fault(record: Any, text_field: str) -> str:
    if not isinstance(record, dict):
        return "not a JSON object"
    return "" if isinstance(record.get(text_field), str) else f"no text under the key '{text_field}'"


def _bad(
    path: Path, place: str, document: str, file: str, split: str | None, reason: str, skip: bool, more: str = ""
) -> Document:
    if not skip:
        raise FrugalError(
            f"{place}: {reason}{more}; correct it, or set 'on_bad_rows: skip' for this data set to leave such text out"
        )
    return Document(document, path.stem, "", split, file, status="skipped", reason=reason)
