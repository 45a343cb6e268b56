"""Take chosen members out of an archive without trusting it."""

import bz2
import errno
import gzip
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
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
    struct.error,
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
# What compressed files begin with, and what reads them.
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


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


def names_in(archive: Path, limits: Limits | None = None) -> list[str]:
    """The paths of the files in an archive of many.

    Raises:
        FrugalError: the limits are passed, or the archive is damaged.
    """
    with _damage_named(archive):
        if _kind(archive) == "zip":
            with zipfile.ZipFile(archive) as bundle:
                return [info.filename for info in bundle.infolist() if not info.is_dir()]
        with _tar_stream(archive, limits or Limits()) as bundle:
            return [info.name.removeprefix("./") for info in bundle if info.isreg()]


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
        with _damage_named(archive):
            if kind == "zip":
                _unpack_zip(archive, members, target, meter)
            elif kind == "tar":
                _unpack_tar(archive, members, target, meter)
            else:
                _unpack_single(archive, kind, members, target, meter)
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


@contextmanager
def _damage_named(archive: Path) -> Iterator[None]:
    try:
        yield
    except (*DAMAGED, OSError) as error:
        # The system's errors have a number; what is left are a decoder's about the data.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FrugalError(f"{archive}: damaged archive ({first_line(error)}); delete it and fetch it again") from None


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
            if member.endswith("/") or info.external_attr >> 28 == 0o12:
                raise FrugalError(f"{archive}: {member} is not a plain file")
            if info.flag_bits & 1:
                raise FrugalError(f"{archive}: {member} is encrypted; hand in a copy without a password")
            with bundle.open(info) as stream:
                _copy(stream, target / PurePosixPath(member).name, meter)


class Metered:
    """The bytes behind the compression of ``archive``, counted: nobody who reads them is led to fill the memory."""

    def __init__(self, stream: IO[bytes], archive: Path, limits: Limits) -> None:
        self.stream, self.meter = stream, _Meter(archive, limits)

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.meter.add(len(data))
        return data


@contextmanager
def _tar_stream(archive: Path, limits: Limits) -> Iterator[tarfile.TarFile]:
    """Read as a stream, a megabyte at a time: headers may claim any length, and skipping a member unpacks it all the
    same.
    """
    with (
        _opener(archive)(archive, "rb") as unpacked,
        tarfile.open(fileobj=Metered(unpacked, archive, limits), mode="r|", bufsize=CHUNK) as bundle,
    ):
        yield bundle


def _unpack_tar(archive: Path, members: Mapping[str, str], target: Path, meter: _Meter) -> None:
    wanted, names = set(members.values()), []
    # What is written is counted apart, since a sparse member has more bytes than the archive.
    with _tar_stream(archive, meter.limits) as bundle:
        for info in bundle:
            _refuse_escape(archive, info.name)
            names.append(info.name)
            name = info.name.removeprefix("./")
            if name not in wanted:
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
    if _is_tar(path):
        return "tar"
    if magic.startswith(b"\x1f\x8b"):
        return "tar" if path.name.endswith((".tar.gz", ".tgz")) else "gz"
    if magic.startswith(b"BZh"):
        return "tar" if path.name.endswith((".tar.bz2", ".tbz2")) else "bz2"
    return "plain"


def _opener(path: Path) -> Callable[..., IO[bytes]]:
    """What opens a file to give the bytes behind its compression."""
    with open(path, "rb") as stream:
        magic = stream.read(8)
    return next((opener for start, opener in COMPRESSED.items() if magic.startswith(start)), open)


def _is_tar(path: Path) -> bool:
    """Whether the first block is a tar header, or the zeros that end an archive without members."""
    try:
        with _opener(path)(path, "rb") as stream:
            block = stream.read(tarfile.BLOCKSIZE)
        if block != bytes(tarfile.BLOCKSIZE):
            tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except (*DAMAGED, OSError):
        # A cut or damaged compressed file: unpacking it as what it claims to be gives the readable error.
        return False
    return True


def _free(target: Path) -> str:
    folder = next((parent for parent in (target, *target.parents) if parent.exists()), Path("/"))
    return f"{shutil.disk_usage(folder).free / 1e6:.0f} MB"
