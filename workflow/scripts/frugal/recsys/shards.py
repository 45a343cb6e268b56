"""Interactions on disk as NPZ shards, which both recommender experiments read.

Layout that `write_shards` makes::

    folder/training/part_000.npz ...     what models learn from
    folder/validation/part_000.npz ...   targets that choose when training stops
    folder/evaluation/part_000.npz ...   targets that are measured once
    folder/catalogue.json                the items' ids in the data's own files, and a hash of its users
    folder/summary.json                  users, items, shards, ordered, which items of a part are targets, rows and
                                         targets of each part, repeats, ties in time, and the maker's own facts

Each file has one array, ``arr_0``: int32, (rows, 2), each row a zero-based [user, item]; a user's rows stand in
the order of time. Where the times are kept (``times`` in summary.json is true), ``arr_1``, int64, (rows,), has them, in
seconds. User u is in shard ``u % shards`` of every part, so the first shards of each part are a sample of whole users.
The arrays are stored uncompressed and can be memory-mapped.

The shards of MLPerf's recommendation benchmark, which multiplies MovieLens-20M by a fractal expansion (Belletti
et al. 2019, arXiv:1901.08910), are read as well: ``trainx16x32_0.npz`` to ``_15``, and ``testx16x32_0.npz`` to ``_15``
of which 0 to 7 are validation and 8 to 15 evaluation; all in one folder, or sorted into the three folders above.
They have no summary and carry no order in time.
"""

import lzma
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from frugal.data.source.archives import Limits
from frugal.errors import FrugalError, first_line
from frugal.files import atomic_path, read_json, write_json
from frugal.recsys.catalogue import CATALOGUE, Catalogue, read_catalogue, write_catalogue
from frugal.recsys.histories import Histories, Split

PARTS = ("training", "validation", "evaluation")
# Part to the prefix of its files and the numbers of its shards in MLPerf's layout.
MLPERF = {
    "training": ("trainx16x32", range(16)),
    "validation": ("testx16x32", range(8)),
    "evaluation": ("testx16x32", range(8, 16)),
}
LARGEST_ID = np.iinfo(np.int32).max
# More than any public data set has, and what arrays with a place for each still fit the memory for.
MOST_IDS = 10**8
MOST_SHARDS = 10_000
# What reading a damaged archive or header brings about; numpy parses its headers as Python.
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    EOFError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


def write_shards(
    split: Split, folder: Path, shards: int, about: dict[str, Any], catalogue: Catalogue | None = None
) -> dict[str, Any]:
    """Write ``split`` as shards into ``folder``, which appears as a whole; the same split gives the same bytes.

    Args:
        about: further facts for summary.json.
        catalogue: whose numbers the split has; None: the numbers are the ids.

    Returns:
        What summary.json holds.

    Raises:
        FrugalError: ``shards`` is not positive.
    """
    if shards < 1:
        raise FrugalError(f"{folder}: {shards} shards cannot hold anything; set shards to 1 or more")
    histories = dict(zip(PARTS, (split.train, split.validation, split.test), strict=True))
    summary = {
        **about,
        "users": split.user_count,
        "items": split.item_count,
        "shards": shards,
        "ordered": split.ordered,
        "chosen": split.chosen,
        "rows": {part: len(history.items) for part, history in histories.items()},
        "repeats": split.repeats,
        "ties": split.ties,
        "targets": {"validation": split.target_counts("validation"), "evaluation": split.target_counts("test")},
        **({"times": True} if split.train.times is not None else {}),
    }
    with atomic_path(folder) as temporary:
        for part, history in histories.items():
            (temporary / part).mkdir(parents=True)
            pairs = np.column_stack((history.users, history.items)).astype(np.int32)
            shard = pairs[:, 0] % shards
            for number in range(shards):
                times = [] if history.times is None else [history.times[shard == number]]
                np.savez(temporary / part / f"part_{number:03}.npz", pairs[shard == number], *times)
        write_json(temporary / "summary.json", summary)
        write_catalogue(temporary, catalogue or Catalogue.of_numbers(split.item_count))
    return summary


def read_split(folder: Path, fraction: float = 1.0) -> Split:
    """The split that the shards in ``folder`` hold, read one shard at a time.

    Args:
        fraction: share of the shards to read, rounded up: the first ones of each part. In the layout of
            `write_shards` users of the other shards stay, without items. In MLPerf's layout the number of users
            and items is the largest id that was read plus one.

    Raises:
        FrugalError: ``fraction`` is not in (0, 1], a shard is missing or damaged, or an id is out of range.
    """
    folder = Path(folder)
    if not 0 < fraction <= 1:
        raise FrugalError(f"{folder}: the fraction of the shards must be above 0 and at most 1, not {fraction}")
    more, timed = {}, False
    if (folder / "summary.json").is_file():
        users, items, shards, ordered, timed, more = _read_summary(folder / "summary.json")
        names = [f"part_{number:03}.npz" for number in range(shards)]
        files = {part: [folder / part / name for name in _first(names, fraction)] for part in PARTS}
    else:
        files, ordered = _mlperf_files(folder, fraction), False
        users, items = _count_ids([path for paths in files.values() for path in paths])
        print(f"{folder}: MLPerf's shards carry no order in time: positions mean nothing", file=sys.stderr)
    train, validation, test = (_read_histories(files[part], users, items, timed) for part in PARTS)
    return Split(train, validation, test, items, ordered, **more)


def shards_catalogue(folder: Path, item_count: int) -> Catalogue:
    """Whose numbers the shards in ``folder`` have; MLPerf's have no other ids.

    Raises:
        FrugalError: the shards were made without ids, or have another number of items.
    """
    found = read_catalogue(folder)
    if found is None and not (Path(folder) / "summary.json").is_file():
        return Catalogue.of_numbers(item_count)
    if found is None or len(found.items) != item_count:
        raise FrugalError(f"{folder}: has no {CATALOGUE} with its {item_count} items; make the shards again")
    return found


def open_shard(path: Path) -> np.ndarray:
    """The array ``arr_0`` of an npz file: integer, (rows, 2), [user, item]; memory-mapped unless it is compressed.

    Raises:
        FrugalError: the file is missing or damaged, or its array is none of ids from 0.
    """
    pairs = _open(Path(path), "arr_0", "pairs")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise FrugalError(
            f"{path}: arr_0 is {pairs.dtype} {pairs.shape}; a shard has integers (rows, 2), each row [user, item]"
        )
    _check_ids(path, pairs, (LARGEST_ID + 1, LARGEST_ID + 1))
    return pairs


def open_times(path: Path, rows: int) -> np.ndarray:
    """The array ``arr_1`` of a shard with ``rows`` rows: integer, (rows,), their times.

    Raises:
        FrugalError: the file is missing or damaged, or has no such array.
    """
    times = _open(Path(path), "arr_1", "pairs, times")
    if times.shape != (rows,) or times.dtype.kind != "i":
        raise FrugalError(
            f"{path}: arr_1 is {times.dtype} {times.shape}; it has the time of each of the {rows} rows, an integer"
        )
    return times


def _open(path: Path, name: str, saved: str) -> np.ndarray:
    """An array of a shard; ``saved`` is what `np.savez` has to be given to have it."""
    try:
        return _open_array(path, name)
    except FileNotFoundError:
        raise FrugalError(f"{path}: the shard is missing; run the rule that makes it again") from None
    except KeyError:
        raise FrugalError(f"{path}: has no array {name!r}; save the pairs with np.savez(path, {saved})") from None
    except DAMAGED as error:
        raise FrugalError(
            f"{path}: damaged, or no npz file ({first_line(error)}); delete it and run the rule that makes it again"
        ) from None


def _open_array(path: Path, name: str) -> np.ndarray:
    with zipfile.ZipFile(path) as bundle, bundle.open(f"{name}.npy") as member:
        info, limits = bundle.getinfo(f"{name}.npy"), Limits()
        if info.file_size > max(limits.floor, limits.ratio * path.stat().st_size):
            raise ValueError(f"{name} unpacks to more than {limits.ratio} times its size")
        version = np.lib.format.read_magic(member)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"npy version {version} is not for arrays of integers")
        shape, fortran, dtype = read_header(member)
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which are never loaded")
        start = member.tell()
        if start + prod(shape) * dtype.itemsize != info.file_size:
            raise ValueError(f"{name} has not the size that its header states")
        if info.compress_type == zipfile.ZIP_STORED:
            offset = _data_offset(path, info) + start
            return np.memmap(path, dtype, "r", offset, shape, order="F" if fortran else "C")
        return np.frombuffer(member.read(), dtype).reshape(shape, order="F" if fortran else "C")


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: after its local header, whose name and extra field may be of any length.

    The header has 30 bytes, the last four of which are the two lengths (APPNOTE.TXT of PKWARE, section 4.3.7).
    """
    with open(path, "rb") as stream:
        stream.seek(info.header_offset + 26)
        name, extra = np.frombuffer(stream.read(4), "<u2")
    return info.header_offset + 30 + int(name) + int(extra)


def _check_ids(path: Path, pairs: np.ndarray, counts: tuple[int, int]) -> None:
    """Ids are from 0 and below ``counts``: of users, of items.

    Raises:
        FrugalError: it names the first row with another one, counted from 0.
    """
    for column, (role, count) in enumerate(zip(("user", "item"), counts, strict=True)):
        ids = pairs[:, column]
        if ids.size and not (ids.min() >= 0 and ids.max() < count):
            row = int(np.argmax((ids < 0) | (ids >= count)))
            raise FrugalError(
                f"{path}, row {row}: {role} {ids[row]} is not in 0 to {count - 1}; run the rule that makes it again"
            )


def _read_summary(path: Path) -> tuple[int, int, int, bool, bool, dict[str, Any]]:
    try:
        summary = read_json(path)
        users, items, shards, ordered = (summary[key] for key in ("users", "items", "shards", "ordered"))
        if not all(type(value) is int and 0 <= value <= MOST_IDS for value in (users, items, shards)):
            raise ValueError
        if not 1 <= shards <= MOST_SHARDS:
            raise ValueError
        chosen, repeats, ties = summary.get("chosen", "all"), summary.get("repeats"), summary.get("ties")
        if chosen not in ("all", "first", "last") or not (repeats is None or type(repeats) is int):
            raise ValueError
        if not (ties is None or isinstance(ties, dict)):
            raise ValueError
        more = {"chosen": chosen, "known_repeats": repeats, "ties": ties}
        return users, items, shards, bool(ordered), bool(summary.get("times")), more
    except (ValueError, KeyError, TypeError):
        raise FrugalError(f"{path}: is damaged; run the rule that makes the shards again") from None


def _first(shards: Sequence[Any], fraction: float) -> Sequence[Any]:
    """The first of the shards, at least one; the rounding forgives 0.07 * 100 for being 7.000000000000001."""
    return shards[: ceil(round(fraction * len(shards), 9))]


def _mlperf_files(folder: Path, fraction: float) -> dict[str, list[Path]]:
    sorted_into_parts = all((folder / part).is_dir() for part in PARTS)
    used = {part: _first(numbers, fraction) for part, (_, numbers) in MLPERF.items()}
    # Training shard i and test shard i hold the same users: of a fraction, those that are evaluated are trained on.
    used["training"] = [*used["validation"], *used["evaluation"]]
    files = {
        part: [
            (folder / part if sorted_into_parts else folder) / f"{MLPERF[part][0]}_{number}.npz" for number in numbers
        ]
        for part, numbers in used.items()
    }
    if not files["training"][0].is_file():
        raise FrugalError(
            f"{folder}: holds neither summary.json nor {files['training'][0].relative_to(folder)}; "
            "run the rule that makes the shards, or put MLPerf's 32 files there"
        )
    return files


def _count_ids(paths: list[Path]) -> tuple[int, int]:
    largest = [shard.max(axis=0) for shard in map(open_shard, paths) if len(shard)]
    users, items = (int(count) for count in (np.max(largest, axis=0).astype(np.int64) + 1 if largest else (0, 0)))
    if max(users, items) > MOST_IDS:
        raise FrugalError(
            f"{paths[0].parent}: the largest ids are user {users - 1} and item {items - 1}; number them from 0 without "
            "large gaps"
        )
    return users, items


def _read_histories(paths: list[Path], user_count: int, item_count: int, timed: bool) -> Histories:
    """Each user's items in the order of the files; two passes, so that memory is the result and one shard."""
    lengths = np.zeros(user_count, np.int64)
    for path in paths:
        pairs = open_shard(path)
        _check_ids(path, pairs, (user_count, item_count))
        lengths += np.bincount(pairs[:, 0].astype(np.int64), minlength=user_count)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    items, times = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.int64) if timed else None
    free = offsets[:-1].copy()
    for path in paths:
        pairs = np.asarray(open_shard(path), np.int32)
        shard = Histories.from_pairs(*pairs.T, user_count, open_times(path, len(pairs)) if timed else None)
        # An item's place among the user's in this shard, moved to where the user's free places begin.
        shift = np.repeat(free - shard.offsets[:-1], shard.lengths)
        places = np.arange(len(shard.items)) + shift
        items[places] = shard.items
        if timed:
            times[places] = shard.times
        free += shard.lengths
    return Histories(items, offsets, times)
