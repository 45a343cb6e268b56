"""The stand-in of each data set and base model: its entry of the table, and what the server gives for it."""

import hashlib
from typing import Any

from frugal.config.registry import DatasetEntry, ModelEntry
from frugal.config.sources import (
    DOCUMENT_FORMATS,
    FileSource,
    HubSource,
    PackageSource,
    PathSource,
    RandomSource,
    UrlsSource,
    source_kind,
)
from frugal.errors import FrugalError
from frugal.rehearsal.documents import document_files, pdf_report
from frugal.rehearsal.interactions import EVENT, interaction_files
from frugal.rehearsal.packing import pack, wheel
from frugal.rehearsal.server import Repository, Site

#: Before the names of data sets, models, packages and files, so that none of the user's own is meant or overwritten.
PREFIX = "rehearsal-"
#: The repository that stands in for models whose own repository is not known to be a Llama.
LLAMA = "meta-llama/Llama-3.2-1B"


def stand_in_dataset(name: str, entry: DatasetEntry, site: Site, url: str) -> tuple[dict[str, Any], str]:
    """The entry of a data set's stand-in, its files added to ``site``; and what it stands in for, in words.

    A data set on this machine (``path``) is its own stand-in.

    Args:
        url: the server's address.

    Raises:
        FrugalError: the first source is of a form that no stand-in is made in.
    """
    source = entry.sources[0]
    if isinstance(source, PathSource):
        return _entry(entry, source, {}), f"{source.path}, as it is"
    try:
        changes = _serve(source, site, url)
    except FrugalError as error:
        raise FrugalError(f"{name}: {error}") from None
    events = {"events": [EVENT]} if entry.events else {}
    return _entry(entry, source, changes) | events, f"{source_kind(source)}, {source.format}"


def stand_in_model(name: str, entry: ModelEntry, site: Site, url: str) -> tuple[dict[str, Any], str]:
    """As `stand_in_dataset`, of a base model: a random Llama, in GGUF or in a repository of the Hub.

    A model with random weights is its own stand-in.
    """
    from frugal.rehearsal.models import commit_hash, gguf_model, llama_snapshot

    source = entry.sources[0]
    if isinstance(source, RandomSource):
        return _entry(entry, source, {}), "random weights, as it is"
    changed = {"title": f"Stand-in for {entry.title}", "parameters": None}
    if isinstance(source, FileSource) and source.format == "gguf" and not isinstance(source, PathSource):
        role, member = next(iter(source.members.items()), ("model", source.file_name))
        changes = _serve(source, site, url, {str(member): gguf_model()})
        return _entry(entry, source, changes) | changed, f"{source_kind(source)}, GGUF ({role})"
    hub = source.hub if isinstance(source, HubSource) else LLAMA
    files = llama_snapshot(hub)
    site.repositories[hub] = Repository(commit_hash(files), files, gated=entry.gated)
    stand_in = {"hub": hub, "revision": commit_hash(files)}
    return {**_entry(entry, source, {}), "sources": [stand_in], **changed}, "hub, Llama in safetensors"


def _serve(source: Any, site: Site, url: str, members: dict[str, bytes] | None = None) -> dict[str, Any]:
    """Put a source's files on the site; returns the keys in which the stand-in's source differs."""
    if isinstance(source, UrlsSource):
        folder = f"{PREFIX}{source.file_name}"
        for number, file in enumerate(source.by_name):
            site.files[f"{folder}/{file}"] = _contents(source, file, number)
        return {"urls": [f"{url}/files/{folder}/{file}" for file in source.by_name], "file": folder}
    made = members or _members(source, source.file_name)
    if isinstance(source, PackageSource):
        file = PREFIX.replace("-", "_") + source.file
        data = site.packages[file] = wheel(file, made)
        return {"package": f"{PREFIX}{source.package}", "file": file} | _check(data)
    file = f"{PREFIX}{source.file_name}"
    if len(made) == 1 and not source.members:
        made = {file: next(iter(made.values()))}
    data = site.files[file] = pack(file, made)
    return {"url": f"{url}/files/{file}", "file": file} | _check(data)


def _members(source: FileSource, file: str) -> dict[str, bytes]:
    return document_files(source, file) if source.format in DOCUMENT_FORMATS else interaction_files(source, file)


def _contents(source: UrlsSource, file: str, number: int) -> bytes:
    """One of several files: each PDF has another text."""
    if source.format == "pdf":
        return pdf_report(number)
    ((_, content),) = _members(source, file).items()
    return content


def _check(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "md5": None}


def _entry(entry: DatasetEntry | ModelEntry, source: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """An entry as the table has it, with one source."""
    plain = entry.model_dump(mode="json", exclude_defaults=True)
    kept = source.model_dump(mode="json", exclude_defaults=True) | changes
    return {**plain, "sources": [{key: value for key, value in kept.items() if value is not None}]}
