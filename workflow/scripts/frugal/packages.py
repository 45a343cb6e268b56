"""The locks in envs/, their packages' sizes, and what an environment has of them, by the standard library alone."""

import csv
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

#: Bytes to download and on the disk of each package, for Linux x86-64; `lock_packages.py` measures them.
SIZES = Path("envs/sizes.csv")
#: Where PyTorch's builds are that PyPI does not have, each in a folder.
TORCH_INDEX = "https://download.pytorch.org/whl"
#: What has no wheel for a Python, and is compiled there in seconds.
COMPILED = {(3, 14): ("immutables", "mwparserfromhell")}
#: A package in a lock, with its hashes.
ENTRY = re.compile(r"^\S+==.*(?:\n .*)*", re.MULTILINE)


@dataclass(frozen=True)
class Size:
    """Bytes to download, and on the disk."""

    download: int = 0
    disk: int = 0


def total(sizes: dict[str, Size]) -> Size:
    return Size(sum(size.download for size in sizes.values()), sum(size.disk for size in sizes.values()))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Lock:
    """A lock's options, its packages (name to version and to entry with hashes), and their sizes where known."""

    options: list[str]
    entries: dict[str, str]
    sizes: dict[str, Size]

    @classmethod
    def read(cls, path: Path) -> "Lock":
        text = path.read_text(encoding="utf-8")
        entries = {normal(entry.partition("==")[0]): entry for entry in ENTRY.findall(text)}
        with SIZES.open(encoding="utf-8", newline="") as stream:
            sizes = {row["package"]: Size(int(row["download"]), int(row["disk"])) for row in csv.DictReader(stream)}
        compiled = [f"--no-binary {name}" for name in COMPILED.get(sys.version_info[:2], ()) if name in entries]
        return cls(re.findall(r"^--.*", text, re.MULTILINE) + compiled, entries, sizes)

    def part(self, wanted: Callable[[str], object]) -> "Lock":
        """The lock of those packages alone whose name is wanted."""
        return replace(self, entries={name: entry for name, entry in self.entries.items() if wanted(name)})

    def text(self) -> str:
        return "\n".join([*self.options, *self.entries.values()]) + "\n"

    def version(self, name: str) -> str:
        return re.match(r"\S+?===?(\S+)", self.entries[name])[1]

    def missing(self, versions: dict[str, str]) -> dict[str, Size]:
        """Sizes of the packages of which ``versions``, those that are there, lack the locked version.

        What this platform has no use for has no size, and is left out.
        """
        there = {name: version.partition("+")[0] for name, version in versions.items()}
        return {
            name: self.sizes[name]
            for name in self.entries
            if name in self.sizes and there.get(name) != self.version(name)
        }


def versions_in(site: Path) -> dict[str, str]:
    """Name to version of all packages in a folder of packages."""
    pairs = (path.name.removesuffix(".dist-info").rpartition("-") for path in site.glob("*.dist-info"))
    return {normal(name): version for name, _, version in pairs}


def remove_damaged(site: Path) -> None:
    """Let packages of which files are missing or cut off be installed again: an interruption leaves such."""
    for record in (path / "RECORD" for path in site.glob("*.dist-info")):
        if not intact(site, record):
            print(f"{record.parent.name.removesuffix('.dist-info')} is not whole and is installed again.")
            shutil.rmtree(record.parent)


def intact(site: Path, record: Path) -> bool:
    try:
        with record.open(encoding="utf-8", newline="") as stream:
            for name, _, size in csv.reader(stream):
                if not name.endswith(".pyc"):
                    found = (site / name).stat().st_size
                    if size and found != int(size):
                        return False
    except (OSError, ValueError):
        return False
    return True
