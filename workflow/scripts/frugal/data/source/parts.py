"""A table of interactions in several files, its parts, as Spark and Hadoop write it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from frugal.config.sources import is_pattern
from frugal.errors import FrugalError

# What a folder without members must hold, and nothing else: the names that Spark and Hadoop give.
PARTS = "part-*"


def resolve(
    members: Mapping[str, str | tuple[str, ...]], names: Callable[[], Iterable[str]], place: Path
) -> dict[str, str]:
    """Role to path, for members that may be patterns or lists: a part of ``ratings`` has the role ``ratings/<name>``.

    Args:
        names: gives the paths that are there; called only where there is a pattern.
        place: the folder or archive, for messages.

    Raises:
        FrugalError: a pattern matches nothing, or two parts have the same name.
    """
    found: dict[str, str] = {}
    single = {member for member in members.values() if isinstance(member, str) and not is_pattern(member)}
    for role, member in members.items():
        if member in single:
            found[role] = member
            continue
        for part in member if isinstance(member, tuple) else matching(member, sorted(set(names()) - single), place):
            name = part_role(role, part)
            if name in found:
                raise FrugalError(f"{place}: {found[name]} and {part} have the same file name; give each part its own")
            found[name] = part
    return found


def part_role(role: str, path: str) -> str:
    """The role of one part: roles in sorted order are parts in the order of their names."""
    return f"{role}/{PurePosixPath(path).name}"


def parts_of(members: Mapping[str, Any], role: str) -> list[Any]:
    """The one member of a role, or its parts in the order of their names; empty without any."""
    return [members[one] for one in sorted(members) if one.partition("/")[0] == role]


def matching(pattern: str, names: list[str], place: Path) -> list[str]:
    """The names that match, markers and hidden files left out; those of a folder may lack the folders of ``pattern``.

    Raises:
        FrugalError: there is none.
    """
    if pattern in names:
        return [pattern]
    parts = [name for name in names if is_part(name)]
    for wanted in (pattern, PurePosixPath(pattern).name):
        if found := [name for name in parts if PurePosixPath("/", name).match(f"/{wanted}")]:
            return found
    raise FrugalError(f"{place}: has no file like {pattern}; it holds {_some(names)}")


def unnamed_parts(names: list[str], place: Path) -> dict[str, str]:
    """Role to path of what a folder or archive of interactions holds whose source names no members.

    Raises:
        FrugalError: it holds anything but parts and their markers.
    """
    parts = [name for name in names if is_part(name)]
    if parts and all(PurePosixPath(name).match(PARTS) for name in parts):
        return resolve({"ratings": tuple(parts)}, tuple, place)
    raise FrugalError(
        f"{place}: which file holds the interactions? It has {_some(names)}: add 'members: {{ratings: <file>}}' to its "
        f"source; several parts of one table are a pattern, such as '{PARTS}'"
    )


def is_part(name: str) -> bool:
    """Whether a file holds rows: Spark's and Hadoop's ``_SUCCESS``, checksums and hidden files do not."""
    path = PurePosixPath(name)
    return not (path.suffix == ".crc" or any(one.startswith((".", "_")) for one in path.parts))


def _some(names: list[str]) -> str:
    return (", ".join(sorted(names)[:8]) or "nothing") + " ..." * (len(names) > 8)
