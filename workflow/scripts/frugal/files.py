"""Files that are either whole or absent, and what they contain in one hash."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from frugal.errors import FrugalError
from frugal.run.cache import user_cache

#: What a file system without locks answers.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
#: Names of what file managers and editors leave beside other files.
LITTER = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|.*~|#.*#|\.#.*|\..*\.sw[a-z]")
#: Bytes from which a file's hash is kept, the most hashes that are, and the seconds without a change before one is.
KEPT_FROM, MOST_KEPT, SETTLED = 64 * 2**20, 1000, 2.0
#: Ends the name of a temporary folder, beside what it becomes.
UNFINISHED = ".unfinished"


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; rename it to ``target`` when the block succeeds.

    The block may create a file or a folder at the path that it is given. After an exception
    nothing is left behind and an earlier ``target`` is untouched, so a reader never meets half a
    file, also when a killed run's child is still writing. What a killed process has left behind
    is removed by the next one that makes the same target.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    workspace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=UNFINISHED, dir=target.parent))
    held = os.open(workspace, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot lock a folder
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary = workspace / target.name
        yield temporary
        _flush(temporary)
        if target.is_dir() and not target.is_symlink():
            # A folder cannot be renamed over another one that is not empty.
            os.rename(target, workspace / f"old.{target.name}")
        os.replace(temporary, target)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
        os.close(held)


def _remove_abandoned(target: Path) -> None:
    """Remove the temporary folders of ``target`` that no living process holds."""
    for name in glob.glob(f".{glob.escape(target.name)}.*{UNFINISHED}", root_dir=target.parent):
        with suppress(OSError):  # held, or removed by another process
            held = os.open(target.parent / name, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(target.parent / name)
            finally:
                os.close(held)


def _flush(path: Path) -> None:
    """Bring contents to the disk before their name: after a power failure no name stands without them."""
    for file in [path] if path.is_file() else filter(Path.is_file, path.rglob("*")):
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())


def lock(stream: IO, operation: int) -> None:
    """`fcntl.flock`; where the file system has no locks, a warning, once in a process.

    Raises:
        BlockingIOError: another process holds the lock, and ``operation`` does not wait.
    """
    try:
        fcntl.flock(stream, operation)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _warn_of_no_locks()


@cache
def _warn_of_no_locks() -> None:
    message = "this file system has no locks: two processes that do the same at a time would disturb each other"
    print(f"warning: {message}", file=sys.stderr, flush=True)


@contextmanager
def exclusive(folder: Path | str, purpose: str) -> Iterator[None]:
    """Hold ``folder`` for this process; the lock goes with the process, however it ends.

    Raises:
        FrugalError: another process holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a", encoding="utf-8") as stream:
        try:
            lock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FrugalError(f"{folder}: another process is {purpose} here; wait for it, or stop it first") from None
        yield


def in_full(path: Path | str) -> Path:
    """``path`` with a leading `~` replaced by the home folder.

    Raises:
        FrugalError: the user has none.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise FrugalError(f"{path}: this user has no home folder; give the path in full") from None


def write_text(target: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8 with ``\\n`` line ends, atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(target: Path | str, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN is refused: JSON has none."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file written by `write_json`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def kept_sha256(path: Path) -> str:
    """`sha256_file`, of a large file from the user's cache if the file has not changed since.

    A file has not changed if its place on the disk, its size and its times are the same, that of its last change
    included, which no program can set. A file that changed a moment ago is not kept: within a tick of the clock it
    could change once more.
    """
    cache = user_cache("hashes.json")
    if cache is None or path.stat().st_size < KEPT_FROM:
        return sha256_file(path)
    key = _identity(path)
    if found := _kept_hashes(cache).get(key):
        return found
    found = sha256_file(path)
    if _identity(path) == key and time.time() - path.stat().st_ctime >= SETTLED:
        entries = [*_kept_hashes(cache).items(), (key, found)][-MOST_KEPT:]
        with suppress(OSError):  # a cache that cannot be written
            write_json(cache, dict(entries))
    return found


def _identity(path: Path) -> str:
    state = path.stat()
    numbers = state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
    return " ".join(map(str, (path.resolve(), *numbers)))


def _kept_hashes(cache: Path) -> dict[str, str]:
    try:
        kept = read_json(cache)
    except (OSError, ValueError):
        return {}
    valid = isinstance(kept, dict) and all(re.fullmatch("[0-9a-f]{64}", str(value)) for value in kept.values())
    return kept if valid else {}


def sha256_tree(paths: list[Path], kept: bool = False) -> str:
    """Hex SHA-256 over the names and contents of files and folders, in sorted order, without `LITTER` in folders.

    Args:
        kept: take the hashes of large files from the user's cache, see `kept_sha256`.
    """
    digest = hashlib.sha256()
    for root in sorted(Path(path) for path in paths):
        members = [root] if root.is_file() else sorted(files_below(root))
        for member in members:
            name = member.relative_to(root.parent).as_posix()
            digest.update(f"{name}\0{kept_sha256(member) if kept else sha256_file(member)}\n".encode())
    return digest.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """All files of a folder, however deep, without `LITTER`."""
    return [path for path in folder.rglob("*") if path.is_file() and not LITTER.fullmatch(path.name)]
