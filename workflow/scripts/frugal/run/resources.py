"""CPU cores and memory that this process may use: affinity, free memory, and the limits of its cgroups.

A container limits its processes by cgroups (Linux kernel documentation, admin-guide/cgroup-v1 and
admin-guide/cgroup-v2). They are nested, and each level has its own limit, so the tightest on the way from the
process's cgroup up to the mount point holds. A limit that cannot be read or makes no sense is ignored with one
warning that names its file.

All functions read below ``root``, the machine's / except in tests.
"""

import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MB = 2**20
ROOT = Path("/")
#: MB of host memory of a process that trains on a GPU, beside the weights: libraries of the CUDA build, its context,
#: pinned buffers. Not measured by this project: a round number from experience.
CUDA_HOST_MB = 6000


def usable_cores(root: Path = ROOT, cores: int | None = None) -> int:
    """CPU cores that this process may keep busy: its affinity or, if smaller, its cgroups' CPU quota, at least 1.

    Args:
        cores: the affinity; None asks the system.
    """
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for version, folder in _cgroups(root, "cpu"):
        quota = _cpu_quota_v1(folder) if version == 1 else _cpu_quota_v2(folder)
        if quota is not None:
            cores = min(cores, int(quota))  # of 2.5 CPUs, 2: a third thread would be stopped half of the time
    return max(1, cores)


def memory_limit_mb(root: Path = ROOT) -> int | None:
    """MB (2^20 bytes) of the machine's memory or, if smaller, of its cgroups' limit; None where neither is known."""
    limits = [limit for limit, _ in _memory_limits(root)]
    total = _meminfo(root).get("MemTotal")
    return min([*limits, *([total] if total else [])], default=None)


def free_memory_mb(root: Path = ROOT) -> int | None:
    """MB (2^20 bytes) that this process can still get without swapping; None where it is not known.

    The machine's MemAvailable or, if smaller, a cgroup's limit less what its processes hold. File caches that the
    kernel gives up on demand count as free, as they do in MemAvailable.
    """
    free = [max(0, limit - _memory_in_use(folder)) for limit, folder in _memory_limits(root)]
    available = _meminfo(root).get("MemAvailable")
    return min([*free, *([available] if available is not None else [])], default=None)


def _cgroups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Version, 1 or 2, and folder of each cgroup that limits this process, from its own up to the mount point."""
    mounts = _mounts(root, controller)
    for line in _lines(root / "proc/self/cgroup"):
        # <number>:<controllers>:<path>; cgroup v2 has the number 0 and names no controllers.
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        version = 2 if (number, names) == ("0", "") else 1
        if version not in mounts or (version == 1 and controller not in names.split(",")):
            continue
        mounted, mount_point = mounts[version]
        top = root / mount_point.lstrip("/")
        try:
            folder = top / PurePosixPath(path).relative_to(mounted)
        except ValueError:  # a container sees the mount of its own cgroup, and the path of the host
            folder = top
        if ".." in folder.parts:  # a process outside the cgroup namespace's root
            folder = top
        while True:
            if folder.is_dir():
                yield version, folder
            if folder == top:
                break
            folder = folder.parent


def _mounts(root: Path, controller: str) -> dict[int, tuple[str, str]]:
    """cgroup version -> the cgroup that is mounted (a path within the hierarchy) and where."""
    found = {}
    for line in _lines(root / "proc/self/mountinfo"):
        # See proc_pid_mountinfo(5): id, parent, device, root, mount point, ..., -, type, source, super options.
        fields, _, about = line.partition(" - ")
        place, kind = fields.split(), about.split()
        if len(place) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            found.setdefault(2, (place[3], place[4]))
        elif kind[0] == "cgroup" and controller in kind[2].split(","):
            found.setdefault(1, (place[3], place[4]))
    return found


def _cpu_quota_v2(folder: Path) -> float | None:
    """CPUs, from `cpu.max`: microseconds in each period, or 'max', and the period."""
    text = _text(folder / "cpu.max")
    if text is None:
        return None
    quota, _, period = text.partition(" ")
    if quota == "max":
        return None
    return _ratio(folder / "cpu.max", text, quota, period)


def _cpu_quota_v1(folder: Path) -> float | None:
    """CPUs, from `cpu.cfs_quota_us`, -1 without a limit, and `cpu.cfs_period_us`."""
    file = folder / "cpu.cfs_quota_us"
    quota, period = _text(file), _text(folder / "cpu.cfs_period_us")
    if quota is None or quota == "-1":
        return None
    return _ratio(file, quota, quota, period or "")


def _ratio(file: Path, text: str, quota: str, period: str) -> float | None:
    allowed, every = _number(quota), _number(period)
    return allowed / every if allowed and every else _ignored(file, text)


def _memory_limits(root: Path) -> Iterator[tuple[int, Path]]:
    """Limit, MB, and folder of each cgroup that has a limit below the machine's memory."""
    total = _meminfo(root).get("MemTotal", 2**63 // MB)
    for version, folder in _cgroups(root, "memory"):
        # Above memory.high processes are slowed down until they hold less: of as little use as a limit.
        for name in ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",):
            limit = _bytes(folder / name, unlimited="max" if version == 2 else "-1")
            if limit is not None and limit // MB < total:  # v1 writes 2^63 less a page where there is none
                yield limit // MB, folder


def _memory_in_use(folder: Path) -> int:
    """MB that the cgroup's processes hold, file caches that are not in active use left out."""
    v2 = (folder / "memory.current").exists()
    used = _bytes(folder / ("memory.current" if v2 else "memory.usage_in_bytes"), zero=True) or 0
    cached = "inactive_file" if v2 else "total_inactive_file"  # v1's inactive_file leaves out nested cgroups
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == cached:
            used -= _number(value) or 0
    return max(0, used) // MB


def _meminfo(root: Path) -> dict[str, int]:
    """/proc/meminfo in MB; empty where there is none."""
    values = {}
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        number = _number(value.removesuffix("kB").strip())
        if number is not None:
            values[name] = number // 1024
    if not values and root == ROOT and "SC_PHYS_PAGES" in os.sysconf_names:  # macOS
        values["MemTotal"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MB
    return values


def _bytes(file: Path, unlimited: str = "", zero: bool = False) -> int | None:
    """A number of bytes; None where the file is not there, sets no limit, or is ignored."""
    text = _text(file)
    if text is None or text == unlimited:
        return None
    number = _number(text)
    return _ignored(file, text) if number is None or (number == 0 and not zero) else number


def _number(text: str) -> int | None:
    """A whole number of at most 64 bits; None for any other text."""
    return int(text) if re.fullmatch("[0-9]{1,20}", text) else None


def _text(file: Path) -> str | None:
    """A small file's text without white space around it; None where it is not there or cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        warnings.warn(f"{file}: cannot be read ({error.strerror}); this limit is ignored", stacklevel=2)
        return None


def _lines(file: Path) -> list[str]:
    return (_text(file) or "").splitlines()


def _ignored(file: Path, text: str) -> None:
    warnings.warn(f"{file}: '{text[:40]}' is no limit that can be kept; it is ignored", stacklevel=2)
