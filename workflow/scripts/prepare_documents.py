"""Bring a fetched data set of texts or PDFs into one table of documents, with a manifest of what was left out."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frugal.config.registry import DatasetEntry, load_entry
from frugal.config.sources import DOCUMENT_FORMATS, SPLITS
from frugal.data.documents.pdf import read_pdf
from frugal.data.documents.preparation import Document, write_documents
from frugal.data.documents.texts import read_text, read_wikitext
from frugal.data.documents.wikipedia import read_wikipedia
from frugal.data.source.record import read_record
from frugal.errors import FrugalError, run_script
from frugal.files import sha256_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="config/datasets.yaml, or its content as JSON")
    parser.add_argument("--name", required=True, help="the data set's name in the table")
    parser.add_argument("--raw", type=Path, required=True, help="the folder that fetch_source.py has made")
    parser.add_argument("--documents", type=Path, required=True, help="Parquet file to write: the texts")
    parser.add_argument("--manifest", type=Path, required=True, help="Parquet file to write: every document's fate")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    entry = load_entry(options.table, options.name)
    if not isinstance(entry, DatasetEntry):
        raise FrugalError(f"{options.name}: is a base model; documents come from a table of data sets")
    record = read_record(options.raw, DOCUMENT_FORMATS, "documents")
    # Published perplexities are those of the whole text.
    whole = record["format"] == "wikitext"
    facts = write_documents(
        read_documents(options.raw, record, entry),
        options.documents,
        options.manifest,
        options.summary,
        folder=options.raw,
        source=record["source"],
        min_characters=0 if whole else entry.min_characters,
        similarity=None if whole else entry.near_duplicate_similarity,
    )
    skipped = ", ".join(f"{count} {reason}" for reason, count in facts["skipped"].items())
    print(
        f"{options.name}: {facts['kept']} of {facts['documents']} documents, {facts['words']} words"
        f"{'; skipped: ' * bool(skipped)}{skipped}"
    )


def read_documents(raw: Path, record: dict[str, Any], entry: DatasetEntry) -> Iterator[Document]:
    """Every document of a fetched data set, in the order of its splits and then of its files' names.

    Raises:
        FrugalError: a file has changed since it was fetched, or cannot be read and is no PDF.
    """
    roles = sorted(record["members"], key=lambda role: (SPLITS.index(role) if role in SPLITS else -1, role))
    for role in roles:
        member = record["members"][role]
        path, split = raw / member["file"], role if role in SPLITS else None
        if sha256_file(path) != member["sha256"]:
            raise FrugalError(f"{path}: has changed since it was fetched; fetch the data set again")
        match record["format"]:
            case "wikipedia-dump":
                yield from read_wikipedia(path, member["file"])
            case "wikitext":
                yield from read_wikitext(path, role, member["file"])
            case "text":
                skip = entry.on_bad_rows == "skip"
                yield from read_text(path, member["file"], split, entry.text_field, skip)
            case "pdf":
                yield read_pdf(path, member["file"], split, entry.pdf_reader, entry.page_seconds, entry.max_pages)


if __name__ == "__main__":
    run_script(main)
