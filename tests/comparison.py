"""Whether two runs of a study have the same results: all of them, but for what was measured of time and memory."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from frugal.errors import first_line
from frugal.files import UNFINISHED

#: Keys of JSON files and columns of CSV files that hold seconds, speeds or memory. They have to be there, and
#: their values may differ. `overhead` and `total` are of a memory ladder's estimate, which begins with the memory
#: that the process was measured to need for nothing.
MEASURED = frozenset(
    {
        "seconds",
        "step_seconds",
        "epoch_seconds",
        "seconds_per_recommendation",
        "seconds_per_scored_pair",
        "tokens_per_second",
        "samples_per_second",
        "target_positions_per_second",
        "matmul_peak_share",
        "peak_rss_mb",
        "peak_device_mb",
        "rss_mb",
        "device_mb",
        "device_utilization",
        "peak_mb",
        "baseline_mb",
        "overhead",
        "total",
    }
)
#: What is written from the other results, measured ones too: it is compared by making it again from the same ones.
DERIVED = ("report", "README.md")
#: Snakemake's mark in a folder that is an output.
MARK = ".snakemake_timestamp"


def differences(expected: Path, found: Path, partial: bool = False) -> list[str]:
    """How the results in ``found`` differ from those in ``expected``, one line for each file; nothing if they agree.

    JSON files, JSON lines and CSV files may differ in the values of `MEASURED`; all others, weights among them,
    agree byte by byte. `DERIVED` files are left out.

    Args:
        partial: files may be missing in ``found``, and temporary ones be left there, as after an interruption.
    """
    wanted, present = set(result_files(expected)), set(result_files(found))
    lines = [f"{name}: is missing" for name in wanted - present if not partial]
    lines += [
        f"{name}: is there, and should not be"
        for name in present - wanted
        if not (partial and any(part.endswith(UNFINISHED) for part in Path(name).parts))
    ]
    for name in wanted & present:
        if problem := _difference(expected / name, found / name):
            lines.append(f"{name}: {problem}")
    return sorted(lines)


def result_files(folder: Path) -> Iterator[str]:
    """Relative names of the files below ``folder`` that are compared."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and path.name != MARK and not set(DERIVED) & set(name.parts):
            yield name.as_posix()


def derived_files(folder: Path) -> dict[str, bytes]:
    """Relative name -> content of the files below ``folder`` that are written from the others."""
    files = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder): path for path in files}
    return {name.as_posix(): path.read_bytes() for name, path in names.items() if set(DERIVED) & set(name.parts)}


def _difference(expected: Path, found: Path) -> str | None:
    """How one file differs from another; None if it does not."""
    if expected.read_bytes() == found.read_bytes():
        return None
    read = {".json": _read_json, ".jsonl": _read_lines, ".csv": _read_csv, ".safetensors": _read_weights}
    if found.suffix not in read:
        return "differs"
    try:
        values = dict(_flat(read[found.suffix](found)))
    except (ValueError, SafetensorError) as error:
        return f"cannot be read: {first_line(error)}"
    reference = dict(_flat(read[expected.suffix](expected)))
    changed = [key for key in reference.keys() | values.keys() if reference.get(key) != values.get(key)]
    if changed:
        return f"differs in {min(changed)}" + (f" and {len(changed) - 1} more" if len(changed) > 1 else "")
    return "differs" if found.suffix == ".safetensors" else None


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


def _read_weights(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (str(tensor.dtype), tensor.shape, tensor.tobytes()) for name, tensor in load_file(path).items()}


def _flat(value: Any, key: str = "", measured: bool = False) -> Iterator[tuple[str, Any]]:
    """Path -> value for each value of a nested structure; of a measured one, whether it is there."""
    if isinstance(value, dict):
        yield key, sorted(map(str, value))
        for name, part in value.items():
            yield from _flat(part, f"{key}.{name}".lstrip("."), name in MEASURED)
    elif isinstance(value, list):
        yield key, len(value)
        for index, part in enumerate(value):
            yield from _flat(part, f"{key}[{index}]")
    else:
        yield key, value not in (None, "") if measured else (type(value).__name__, value)
