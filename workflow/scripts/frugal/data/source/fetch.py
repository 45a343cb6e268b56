"""Fetch one entry of a table: sources in order, checked, unpacked, and a record of what was used."""

import contextlib
import fnmatch
import os
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from frugal.config.originals import project_file
from frugal.config.registry import DatasetEntry, ModelEntry
from frugal.config.sources import (
    INTERACTION_FORMATS,
    READ_PACKED,
    FileSource,
    HubSource,
    PackageSource,
    PathSource,
    RandomSource,
    UrlSource,
    UrlsSource,
    source_kind,
)
from frugal.data import JSON_LINES, RECORD
from frugal.data.source.archives import Limits, disk_errors, names_in, single_member, unpack
from frugal.data.source.download import Check, Patience, SourceUnavailable, download, locked, say
from frugal.data.source.parts import part_role, resolve, unnamed_parts
from frugal.data.source.registries import HUB_FILES, pip_download, snapshot
from frugal.errors import FrugalError
from frugal.files import atomic_path, in_full, sha256_file, write_json

# What is taken of a folder whose source names no members.
PATTERNS = {"safetensors": HUB_FILES, "pdf": ("*.pdf",), "text": ("*.txt", *(f"*{ending}" for ending in JSON_LINES))}


def fetch(
    name: str,
    entry: DatasetEntry | ModelEntry,
    output: Path,
    *,
    downloads: Path,
    local: Path | None = None,
    patience: Patience | None = None,
) -> None:
    """Make the folder ``output``: the entry's members under their base names, and ``source.json``.

    A local copy wins over the network: ``local``, else a file that already lies in ``downloads``. One that lies
    there and is not what it must be is set aside, and fetched. The folder appears as a whole or not at all.

    Args:
        name: the entry's name in its table.
        downloads: the folder where fetched files and their unfinished parts are kept.
        local: the archive (checked against its checksum), or a folder that holds the members.

    Raises:
        FrugalError: a checksum differs, a member is missing, the disk is full, or no source answers;
            then every source is listed with its reason, and how to hand in a local copy.
    """
    output, downloads = Path(output), Path(downloads)
    if all(isinstance(source, RandomSource) for source in entry.sources):
        raise FrugalError(f"{name}: has random weights: it is built when it is prepared, and never fetched")
    sources = [source for source in entry.sources if not isinstance(source, RandomSource)]
    if local is not None:
        source, path = _local_copy(name, sources, Path(local))
        return _finish(name, source, path, output, unchecked=path if path.is_dir() else None)
    refused: list[str] = []
    for source in sources:
        if isinstance(source, (UrlSource, PackageSource)) and (path := downloads / source.file_name).exists():
            if broken := _set_aside(path, source):
                refused.append(broken)
                say(f"{name}: {broken}")
                continue
            say(f"{name}: using {path}")
            return _finish(name, source, path, output)
    for source in sources:
        try:
            path = _obtain(source, entry, downloads, patience or Patience())
        except SourceUnavailable as error:
            refused.append(str(error))
            say(f"{name}: {error}")
        else:
            return _finish(name, source, path, output)
    raise FrugalError(_nothing_answers(name, sources, refused, downloads))


def _nothing_answers(name: str, sources: Sequence[Any], refused: list[str], downloads: Path) -> str:
    lines = [f"{name}: none of its sources can be used:", *(f"  - {reason}" for reason in refused)]
    files = [s.file_name for s in sources if isinstance(s, (UrlSource, PackageSource))]
    files += [f"{s.file_name} (the files {', '.join(s.by_name)})" for s in sources if isinstance(s, UrlsSource)]
    if files:
        lines.append(f"If you have a copy, put it at {' or '.join(str(downloads / file) for file in files)},")
        lines.append(f"or set local_paths.{name} in the study's config to the file or to a folder with its members.")
    else:
        lines.append(f"If you have a copy, set local_paths.{name} in the study's config to its folder.")
    return "\n".join(lines)


def _obtain(source: Any, entry: DatasetEntry | ModelEntry, downloads: Path, patience: Patience) -> Path:
    """The source's file (or folder) on this machine, checked.

    Raises:
        SourceUnavailable: this source cannot give it.
    """
    if isinstance(source, PathSource):
        path = place_of(source)
        if not path.exists():
            raise SourceUnavailable(f"{source.path}: there is no such file or folder")
        if path.is_file():
            _demand(path, source)
        return path
    if isinstance(source, HubSource):
        return snapshot(source, entry, downloads)
    if isinstance(source, UrlsSource):
        folder = downloads / source.file_name
        for name, url in source.by_name.items():
            with locked(folder / name):
                if not (folder / name).exists():
                    download(url, folder / name, Check(), patience)
        return folder
    target = downloads / source.file_name
    with locked(target):
        if target.exists():
            # Another process has made it while this one waited.
            _demand(target, source)
        elif isinstance(source, UrlSource):
            download(source.url, target, _check(source), patience)
        else:
            pip_download(source, target, _check(source))
    return target


def place_of(source: PathSource) -> Path:
    """Where a file or folder of the user's is, or the project's own, where another folder is the working directory."""
    path = in_full(source.path)
    return path if path.exists() or path.is_absolute() else project_file(path)


def _local_copy(name: str, sources: Sequence[Any], local: Path) -> tuple[Any, Path]:
    """The source that a local file or folder stands for, by checksum or by the members that it holds."""
    local = in_full(local)
    if local.is_dir():
        for source in sources:
            if _holds(local, source):
                say(f"{name}: using the folder {local}, whose files have no checksum to compare with")
                return source, local
        named = (source.by_name if isinstance(source, UrlsSource) else source.member_names for source in sources)
        wanted = "; or ".join(map(", ".join, named))
        raise FrugalError(f"{local}: local_paths.{name} is a folder without the members {wanted}")
    if not local.is_file():
        raise FrugalError(f"{local}: local_paths.{name} names no file or folder")
    candidates = [source for source in sources if isinstance(source, FileSource) and not isinstance(source, UrlsSource)]
    if not candidates:
        raise FrugalError(f"{local}: local_paths.{name} must be a folder with the files of '{name}'")
    problems = []
    for source in candidates:
        problem = _check(source).problem(local)
        if problem is None:
            return source, local
        problems.append(f"{problem} (as {source_kind(source)} source)")
    raise FrugalError(f"{local}: is not {name}: it {'; it '.join(problems)}")


def _holds(folder: Path, source: FileSource | HubSource) -> bool:
    """Whether a folder has all members of a source."""
    with contextlib.suppress(FrugalError):
        return all(_in_folder(folder, member) for member in _named(source, folder).values())
    return False


def _check(source: FileSource) -> Check:
    return Check(source.sha256, source.md5, source.size)


def _demand(path: Path, source: FileSource) -> None:
    with disk_errors(path):
        problem = _check(source).problem(path)
    if problem:
        raise FrugalError(f"{path}: {problem}; put the right file there")


def _set_aside(path: Path, source: FileSource) -> str | None:
    """Rename a file in the downloads that is not what it must be; returns what was wrong with it."""
    with locked(path), disk_errors(path):
        if not path.exists():
            return f"{path}: another process has set it aside"
        if not (problem := _check(source).problem(path)):
            return None
        aside = path.with_name(f"{path.name}.broken")
        path.replace(aside)
        return f"{path}: {problem}; it is {aside.name} now"


def _finish(name: str, source: Any, path: Path, output: Path, unchecked: Path | None = None) -> None:
    """Members into a folder of their own, with the record; then the folder under its name."""
    with disk_errors(output), atomic_path(output) as folder:
        folder.mkdir()
        file: dict[str, Any] | None = None
        if path.is_dir():
            members = _copy_folder(source, path, folder)
        else:
            members = _unpack(source, path, folder)
            file = {"name": source.file_name, "size": path.stat().st_size, "sha256": sha256_file(path)}
        write_json(folder / RECORD, _record(name, source, file, members, folder, unchecked))
    total = sum(part.stat().st_size for part in output.rglob("*") if part.is_file())
    say(f"{name}: {len(members)} file{'s' * (len(members) != 1)}, {total / 1e6:.1f} MB, in {output}")


def _record(
    name: str, source: Any, file: Any, members: dict[str, str], folder: Path, unchecked: Path | None
) -> dict[str, Any]:
    """What was used, without times or machine names, so that the same source gives the same bytes."""
    kind = source_kind(source)
    record: dict[str, Any] = {"name": name, "source": {kind: getattr(source, kind)}, "file": file}
    if isinstance(source, HubSource):
        record["source"]["revision"] = source.revision
    if unchecked is not None:
        # Nothing shows that a folder handed in is what the source would have given.
        record["source"] = {"path": str(unchecked)}
    settings = source.model_dump(mode="json", exclude_none=True)
    for key in ("format", "columns", "item_columns", "separator", "attribute_separator", "encoding"):
        record[key] = settings.get(key)
    if not settings.get("quoting", True):
        record["quoting"] = False
    record["members"] = {
        role: {
            "file": member,
            "size": (folder / member).stat().st_size,
            "sha256": sha256_file(folder / member),
        }
        for role, member in sorted(members.items())
    }
    return record


def _unpack(source: FileSource, path: Path, folder: Path) -> dict[str, str]:
    if source.format in READ_PACKED and single_member(path) is not None:
        # One file, plain or gzip: as it is, since its reader unpacks it as it goes.
        _place(path, folder / source.file_name, link=isinstance(source, UrlSource))
        return {_only_role(source): source.file_name}
    limits = Limits(source.max_unpacked_size, source.max_ratio)
    names, aside = unpack(path, _members(source, path, limits), folder, limits), folder / "packed"
    for role, name in names.items():
        if _is_packed(source, folder / name):
            aside.mkdir(exist_ok=True)
            names[role] = _unpack_one(source, (folder / name).replace(aside / name), folder)
    if aside.is_dir():
        shutil.rmtree(aside)
    return names


def _members(source: FileSource, path: Path, limits: Limits) -> dict[str, str]:
    """The members to take out of a file; one that is not an archive is itself the only member."""
    single = single_member(path)
    if single is not None and len(source.member_names) <= 1:
        return {_only_role(source): single}
    if source.members:
        return resolve(source.members, lambda: names_in(path, limits), path)
    if source.format in INTERACTION_FORMATS:
        return unnamed_parts(names_in(path, limits), path)
    raise FrugalError(f"{path}: is an archive: name its files under 'members' of its source")


def _only_role(source: FileSource) -> str:
    """The role of the one file that a source gives."""
    return next(iter(source.members), "ratings" if source.format in INTERACTION_FORMATS else "data")


def _named(source: FileSource | HubSource, folder: Path) -> dict[str, str]:
    """The members that a source names; role to path in the folder. Several addresses name their files."""
    if isinstance(source, HubSource):
        return {}
    if isinstance(source, UrlsSource):
        parts = source.format in INTERACTION_FORMATS
        return {part_role("ratings", name) if parts else name: name for name in source.by_name}
    return resolve(source.members, lambda: _visible_files(folder, ("*",)), folder)


def members_of(source: Any, folder: Path) -> dict[str, tuple[Path, str]]:
    """Role -> file and name, of the named members of a folder, or of its files where none are named.

    Raises:
        FrugalError: a member is missing, or there is no file of the source's format.
    """
    named = _named(source, folder)
    if not named and source.format in INTERACTION_FORMATS:
        named = unnamed_parts(_visible_files(folder, ("*",)), folder)
    if named:
        found = {role: _in_folder(folder, member) for role, member in named.items()}
        missing = [named[role] for role, path in found.items() if path is None]
        if missing:
            raise FrugalError(f"{folder}: has no file {', '.join(missing)}")
        return {role: (path, path.name) for role, path in found.items() if path}
    patterns = PATTERNS.get(source.format, ("*",))
    members = {name: (folder / name, name) for name in _visible_files(folder, patterns)}
    if not members:
        raise FrugalError(f"{folder}: holds no file like {', '.join(patterns)}")
    return members


def _copy_folder(source: Any, folder: Path, target: Path) -> dict[str, str]:
    """The members of a folder, copied, interactions that are packed by gzip or bzip2 unpacked. Returns role to name."""
    names = {}
    for role, (path, name) in members_of(source, folder).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if _is_packed(source, path):
            names[role] = _unpack_one(source, path, target)
        else:
            _place(path, target / name, link=isinstance(source, (HubSource, UrlsSource)))
            names[role] = name
    return names


def _is_packed(source: Any, path: Path) -> bool:
    """Whether a file of interactions is to be unpacked before it is read."""
    unpacked = source.format in INTERACTION_FORMATS and source.format not in READ_PACKED
    return unpacked and single_member(path) not in (None, path.name)


def _unpack_one(source: FileSource, path: Path, target: Path) -> str:
    """Unpack a file of gzip or bzip2 into a folder, under its name without the ending; returns that."""
    name = path.name.removesuffix(".gz").removesuffix(".bz2")
    if (target / name).exists():
        raise FrugalError(f"{path}: there is a {name} too; name only one of them under 'members' of the source")
    unpack(path, {"data": name}, target, Limits(source.max_unpacked_size, source.max_ratio))
    return name


def _visible_files(folder: Path, patterns: Sequence[str]) -> list[str]:
    """Relative names of the files below ``folder`` that match and are not hidden, sorted."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [
        name
        for name in sorted(paths)
        if not any(part.startswith(".") for part in name.split("/"))
        and any(fnmatch.fnmatch(name.rsplit("/", 1)[-1].lower(), pattern.lower()) for pattern in patterns)
    ]
    for name in names:
        # A line end, or bytes that are no UTF-8: neither tables nor JSON can hold it.
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
            raise FrugalError(f"{folder}: {name!r} is no name of printable text; rename the file")
    return names


def _place(path: Path, target: Path, link: bool) -> None:
    """Copy a file; link it where it is the project's own download, because base models are large."""
    if link:
        # Fails where the two folders lie on different file systems, or this one knows no links.
        with contextlib.suppress(OSError):
            os.link(path.resolve(), target)
    if not target.exists():
        shutil.copyfile(path, target)


def _in_folder(folder: Path, member: str) -> Path | None:
    for candidate in (folder / member, folder / PurePosixPath(member).name):
        if candidate.is_file():
            return candidate
    return None
