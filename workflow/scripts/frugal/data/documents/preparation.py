"""Documents on their way to a language model: kept or skipped, each with a row in the manifest."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from frugal.data.documents.characters import one_line
from frugal.data.documents.duplicates import NearDuplicates
from frugal.data.source.archives import disk_errors
from frugal.errors import FrugalError
from frugal.files import atomic_path, sha256_file, write_json

DOCUMENTS = pa.schema(
    [
        ("document", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("split", pa.string()),
        ("characters", pa.int64()),
        ("words", pa.int64()),
    ]
)
MANIFEST = pa.schema(
    [
        ("document", pa.string()),
        ("title", pa.string()),
        ("file", pa.string()),
        ("pages", pa.int32()),
        ("pages_skipped", pa.int32()),
        ("characters", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)
# A row group is written when it holds so many characters or rows: more are never in memory.
GROUP_CHARACTERS, GROUP_ROWS = 4_000_000, 10_000
EXAMPLES = 10
NOTES = 50


@dataclass(frozen=True)
class Document:
    """One source document, with its text or the reason why it has none.

    Attributes:
        name: stable and unique in the data set, such as a file's name or an article's title.
        split: train, validation or test, where the data set brings its own split.
        file: where it comes from, relative to the data set's folder.
        pages: 0 for what has no pages.
        status: kept or skipped.
        reason: why it was skipped; what follows a colon or the word "of" differs from document to document.
        note: what a reader of the summary should know of a document that is kept.
    """

    name: str
    title: str
    text: str
    split: str | None = None
    file: str = ""
    pages: int = 0
    pages_skipped: int = 0
    status: str = "kept"
    reason: str = ""
    note: str = ""


def write_documents(
    documents: Iterable[Document],
    documents_path: Path,
    manifest_path: Path,
    summary_path: Path,
    *,
    folder: Path,
    source: Any = None,
    min_characters: int = 0,
    similarity: float | None = None,
) -> dict[str, Any]:
    """Write the kept documents, a manifest of all documents, and a summary.

    ``documents_path`` (Parquet) has one row for each kept document: document, title, text, split (or null),
    characters and words (separated by blanks). ``manifest_path`` (Parquet) has one for each document: document,
    title, file, pages, pages_skipped, characters, status (kept or skipped), reason. Documents pass one by one.

    Args:
        folder: where the documents come from, for messages.
        source: what the summary says of their origin.
        min_characters: documents that are shorter are skipped.
        similarity: documents as similar to an earlier one are skipped; see `NearDuplicates`.

    Returns:
        What ``summary_path`` (JSON) holds.

    Raises:
        FrugalError: no document is kept; nothing is written then.
    """
    counts = _Counts()
    filtered = _filtered(_unique(documents), min_characters, similarity)
    with disk_errors(documents_path), atomic_path(documents_path) as kept, atomic_path(manifest_path) as manifest:
        with ExitStack() as stack:
            texts = stack.enter_context(_Table(kept, DOCUMENTS))
            rows = stack.enter_context(_Table(manifest, MANIFEST))
            for document in filtered:
                characters, words = len(document.text), len(document.text.split())
                counts.add(document, characters, words)
                named = {"document": document.name, "title": document.title, "characters": characters}
                if document.status == "kept":
                    texts.add({**named, "text": document.text, "split": document.split, "words": words})
                rows.add(named | {key: getattr(document, key) for key in MANIFEST.names[2:5] + MANIFEST.names[6:]})
        if not counts.kept:
            raise FrugalError(f"{folder}: holds no usable document; {counts.skipped_text()}")
    summary = {
        "documents": counts.kept + sum(counts.skipped.values()),
        "kept": counts.kept,
        "skipped": dict(sorted(counts.skipped.items())),
        "characters": counts.characters,
        "words": counts.words,
        "near_duplicates": counts.skipped["near-duplicate"],
        "source": source,
        "notes": counts.notes,
        "outputs": {Path(path).name: sha256_file(path) for path in (documents_path, manifest_path)},
    }
    with disk_errors(summary_path):
        write_json(summary_path, summary)
    return summary


def _filtered(documents: Iterable[Document], min_characters: int, similarity: float | None) -> Iterator[Document]:
    """The documents, those that are too short or near-duplicates turned into skipped ones."""
    seen = NearDuplicates(similarity) if similarity is not None else None
    for document in documents:
        reason = ""
        if document.status == "kept" and len(document.text) < min_characters:
            reason = "too few characters"
        elif document.status == "kept" and seen and (twin := seen.find_or_add(document.name, document.text)):
            reason = f"near-duplicate of {twin}"
        yield replace(document, status="skipped", reason=reason, note="") if reason else document


def _unique(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, names and titles in one line, the second of a name called ``name (2)``."""
    taken: set[str] = set()
    for document in documents:
        plain, number = one_line(document.name), 1
        name = plain
        while name in taken:
            number += 1
            name = f"{plain} ({number})"
        taken.add(name)
        yield replace(document, name=name, title=one_line(document.title))


class _Counts:
    """What the summary counts."""

    def __init__(self) -> None:
        self.kept = self.characters = self.words = 0
        self.skipped: Counter[str] = Counter()
        self.notes: list[str] = []
        self.examples: list[str] = []

    def add(self, document: Document, characters: int, words: int) -> None:
        if document.note and len(self.notes) < NOTES:
            self.notes.append(document.note)
        if document.status == "kept":
            self.kept += 1
            self.characters += characters
            self.words += words
            return
        self.skipped[re.split(r":| of ", document.reason)[0]] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{document.name} ({document.reason})")

    def skipped_text(self) -> str:
        if not self.skipped:
            return "there is none at all"
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
        return f"skipped: {reasons}: {', '.join(self.examples)}{' ...' * (self.skipped.total() > EXAMPLES)}"


class _Table:
    """A Parquet file that is written one row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.writer = pq.ParquetWriter(path, schema, compression="zstd")
        self.schema, self.rows, self.characters = schema, [], 0

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, *error: Any) -> None:
        self._flush()
        self.writer.close()

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.characters += len(row.get("text", ""))
        if self.characters >= GROUP_CHARACTERS or len(self.rows) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, self.schema))
        self.rows, self.characters = [], 0
