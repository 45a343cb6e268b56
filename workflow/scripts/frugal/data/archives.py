"""Take chosen members out of an archive without trusting it."""

import bz2
import errno
import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from frugal.errors import FrugalError, first_line

CHUNK = 1 << 20
# Below this size no ratio is suspicious: a file of a million equal bytes is only a small file.
RATIO_FLOOR = 64 << 20
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


@dataclass
class Limits:
    """How much an archive may unpack to.

    Attributes:
        size: bytes that all members together may take.
        ratio: unpacked bytes for one byte of the archive, once ``floor`` bytes are passed.
    """

    size: int = 32 * 10**9
    ratio: int = 100
    floor: int = RATIO_FLOOR


class _Meter:
    """Counts unpacked bytes against the limits, whatever the archive's own headers say."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self.archive, self.limits, self.seen = archive, limits, 0
        self.packed = archive.stat().st_size

    def add(self, count: int) -> None:
        self.seen += count
        if self.seen > self.limits.size:
            raise FrugalError(
                f"{self.archive}: unpacks to more than {self.limits.size} bytes; if that is right, "
                "raise max_unpacked_size in its source"
            )
        if self.seen > self.limits.floor and self.seen > self.limits.ratio * self.packed:
            raise FrugalError(
                f"{self.archive}: unpacks to more than {self.limits.ratio} times its size, like an "
                "archive made to fill the disk; if that is right, raise max_ratio in its source"
            )


def single_member(path: Path) -> str | None:
    """The name of the one file that a plain, .gz or .bz2 file gives; None for an archive of many."""
    kind = _kind(path)
    if kind in ("zip", "tar"):
        return None
    return path.stem if kind in ("gz", "bz2") else path.name


def unpack(archive: Path, members: Mapping[str, str], target: Path, limits: Limits | None = None) -> dict[str, str]:
    """Write the named members of an archive side by side into the folder ``target``.

    Understands zip (and so wheels), tar (plain, gz, bz2, xz) and single gz and bz2 files; anything else
    is itself the one member. Only the named members are ever written, under their base names.

    Args:
        members: role to path inside the archive; for a single file the path is not looked at.

    Returns:
        Role to file name in ``target``.

    Raises:
        FrugalError: a member is missing or a link, a path in the archive leads outside, the limits are
            passed, the archive is damaged, or ``target`` cannot be written.
    """
    meter = _Meter(archive, limits or Limits())
    kind = _kind(archive)
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        try:
            if kind == "zip":
                _unpack_zip(archive, members, target, meter)
            elif kind == "tar":
                _unpack_tar(archive, members, target, meter)
            else:
                _unpack_single(archive, kind, members, target, meter)
        except (*DAMAGED, OSError) as error:
            # The system's errors have a number; what is left are a decoder's about the data.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise FrugalError(
                f"{archive}: damaged archive ({first_line(error)}); delete it and fetch it again"
            ) from None
    return {role: PurePosixPath(member).name for role, member in members.items()}


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turn a full disk, a read-only folder and their kind into a `FrugalError` that names ``target``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"the disk is full ({_free(target)} left); make room and run the same command again"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            reason = f"not allowed ({error.strerror}); check the folder's permissions or choose another one"
        else:
            reason = error.strerror or first_line(error)
        raise FrugalError(f"{error.filename or target}: {reason}") from None


def _copy(source: IO[bytes], target: Path, meter: _Meter) -> None:
    with open(target, "xb") as out:
        while chunk := source.read(CHUNK):
            meter.add(len(chunk))
            out.write(chunk)


def _unpack_zip(archive: Path, members: Mapping[str, str], target: Path, meter: _Meter) -> None:
    with zipfile.ZipFile(archive) as bundle:
        infos = {info.filename: info for info in bundle.infolist()}
        for name in infos:
            _refuse_escape(archive, name)
        for member in _present(archive, members, infos):
            info = infos[member]
            # The upper half of external_attr holds the Unix mode; 0o12 is a symbolic link.
            if info.is_dir() or info.external_attr >> 28 == 0o12:
                raise FrugalError(f"{archive}: {member} is not a plain file")
            if info.flag_bits & 1:
                raise FrugalError(f"{archive}: {member} is encrypted; hand in a copy without a password")
            with bundle.open(info) as stream:
                _copy(stream, target / PurePosixPath(member).name, meter)


def _unpack_tar(archive: Path, members: Mapping[str, str], target: Path, meter: _Meter) -> None:
    wanted, names = set(members.values()), []
    with tarfile.open(archive, "r:*") as bundle:
        for info in bundle:
            _refuse_escape(archive, info.name)
            names.append(info.name)
            name = info.name.removeprefix("./")
            if name not in wanted:
                # Skipping a member of a compressed archive unpacks it all the same.
                meter.add(info.size)
                continue
            stream = bundle.extractfile(info) if info.isreg() else None
            if stream is None:
                raise FrugalError(f"{archive}: {name} is not a plain file")
            _copy(stream, target / PurePosixPath(name).name, meter)
            wanted.discard(name)
            if not wanted:
                return
    _present(archive, members, [name.removeprefix("./") for name in names])


def _unpack_single(archive: Path, kind: str, members: Mapping[str, str], target: Path, meter: _Meter) -> None:
    if len(members) > 1:
        raise FrugalError(f"{archive}: holds one file, but the members name {', '.join(members.values())}")
    opener = {"gz": gzip.open, "bz2": bz2.open}.get(kind, open)
    (member,) = members.values()
    with opener(archive, "rb") as stream:
        _copy(stream, target / PurePosixPath(member).name, meter)


def _present(archive: Path, members: Mapping[str, str], names: Mapping[str, object] | list[str]) -> list[str]:
    missing = [member for member in members.values() if member not in names]
    if missing:
        held = ", ".join(sorted(names)[:8]) or "nothing"
        raise FrugalError(f"{archive}: has no member {', '.join(missing)}; it holds {held}{' ...' * (len(names) > 8)}")
    return list(members.values())


def _refuse_escape(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0]:
        raise FrugalError(f"{archive}: the member '{name}' leads outside the archive; it is not to be trusted")


def _kind(path: Path) -> str:
    with disk_errors(path), open(path, "rb") as stream:
        magic = stream.read(8)
    if magic.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    try:
        if tarfile.is_tarfile(path):
            return "tar"
    except (*DAMAGED, OSError):
        # A cut or damaged compressed file: unpacking it as what it claims to be gives the readable error.
        pass
    if magic.startswith(b"\x1f\x8b"):
        return "tar" if path.name.endswith((".tar.gz", ".tgz")) else "gz"
    if magic.startswith(b"BZh"):
        return "tar" if path.name.endswith((".tar.bz2", ".tbz2")) else "bz2"
    return "plain"


def _free(target: Path) -> str:
    folder = next((parent for parent in (target, *target.parents) if parent.exists()), Path("/"))
    return f"{shutil.disk_usage(folder).free / 1e6:.0f} MB"
