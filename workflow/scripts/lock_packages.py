"""Make the locks in envs/ from the `.in` files, with hashes and for all platforms, and measure the packages' sizes.

`requirements-test.txt` and `trackers.txt` are layers: they hold what `requirements.txt` does not.
`docs.txt` stands alone. `sizes.csv` has, for
each package that this machine (Linux x86-64) would take from PyPI, the bytes of its file and on the disk;
`install_packages.py` announces them and checks the disk by them. Versions stay as they are locked; `--upgrade`, or any
other option of `uv pip compile`, moves them.
"""

import argparse
import csv
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from frugal.errors import FrugalError, run_script
from frugal.files import write_text
from frugal.packages import ENTRY, SIZES, TORCH_INDEX

BASE = "requirements"
LAYERS = ("requirements-test", "trackers")
#: In an environment of its own, so nothing is shared with the base.
ALONE = "docs"
#: Sizes are measured for what the Makefile's environment is made of.
MEASURED = (BASE, "requirements-test")
OLDEST_PYTHON = "3.11"
BLOCK = 4096  # bytes of the smallest piece of disk that a file takes


def compile_lock(uv: str, source: Path, former: Path, options: list[str]) -> dict[str, str]:
    """What ``source`` resolves to: each package's requirement (version and marker) to its whole entry with hashes.

    Args:
        former: the lock as it was, whose versions are kept.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock.txt"
        if former.exists():
            output.write_text(former.read_text(encoding="utf-8"), encoding="utf-8")
        command = [uv, "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate", "--no-header"]
        command += ["--python-version", OLDEST_PYTHON, *options, str(source), "--output-file", str(output)]
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if result.returncode:
            raise FrugalError(f"{source}: {result.stderr.strip()}")
        text = output.read_text(encoding="utf-8")
    return {entry.splitlines()[0].rstrip(" \\"): entry for entry in ENTRY.findall(text)}


def write_lock(path: Path, source: Path, entries: Iterable[str]) -> None:
    options = [line for line in source.read_text(encoding="utf-8").splitlines() if line.startswith("--")]
    head = f"# Made by `make lock` from {source.name}: the exact versions that are tested. Do not edit."
    write_text(path, "\n".join([head, *options, *entries]) + "\n")


class RemoteFile(io.RawIOBase):
    """A file on a web server that answers range requests, read where it is asked for."""

    def __init__(self, url: str, size: int) -> None:
        self.url, self.size, self.position = url, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def read(self, length: int = -1) -> bytes:
        end = self.size if length < 0 else min(self.size, self.position + length)
        if end <= self.position:
            return b""
        data = fetch(self.url, {"Range": f"bytes={self.position}-{end - 1}"})
        self.position += len(data)
        return data


def fetch(url: str, headers: dict[str, str]) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as response:
        return response.read()


def on_disk(sizes: Iterable[int]) -> int:
    """Bytes on a disk, which keeps files in whole blocks."""
    return sum(-(-size // BLOCK) * BLOCK for size in sizes)


def measure(name: str, version: str) -> dict[str, Any]:
    """The row of a package: bytes of the file that this Python would take from PyPI, and of what is in it."""
    page = json.loads(
        fetch(f"https://pypi.org/simple/{name}/", {"Accept": "application/vnd.pypi.simple.v1+json"}).decode()
    )
    ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
    wheels, archives = [], []
    for file in page["files"]:
        if file["filename"].endswith(".whl"):
            _, found, _, tags = parse_wheel_filename(file["filename"])
            if str(found) == version and (fitting := [ranks[tag] for tag in tags if tag in ranks]):
                wheels.append((min(fitting), file))
        elif file["filename"].endswith(f"-{version}.tar.gz"):
            archives.append(file)
    if wheels:
        file = min(wheels, key=lambda wheel: wheel[0])[1]
        with zipfile.ZipFile(RemoteFile(file["url"], file["size"])) as wheel:
            disk = on_disk(member.file_size for member in wheel.infolist())
    elif archives:
        file = archives[0]
        with tarfile.open(fileobj=io.BytesIO(fetch(file["url"], {}))) as archive:
            disk = on_disk(member.size for member in archive)
    else:
        raise FrugalError(f"{name} {version}: PyPI has no file of it for this Python and platform")
    return {"package": name, "version": version, "download": file["size"], "disk": disk}


def measure_cpu_build(version: str, pip_args: list[str]) -> dict[str, Any]:
    """The row of torch's build for CPUs, which is not on PyPI."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, *pip_args]
        command += ["--extra-index-url", f"{TORCH_INDEX}/cpu", f"torch=={version}+cpu"]
        if subprocess.run(command).returncode:
            raise FrugalError(f"torch {version}+cpu was not found: its size in {SIZES} cannot be measured")
        (file,) = Path(folder).iterdir()
        with zipfile.ZipFile(file) as wheel:
            disk = on_disk(member.file_size for member in wheel.infolist())
        return {"package": "torch+cpu", "version": version, "download": file.stat().st_size, "disk": disk}


def write_sizes(requirements: Iterable[str], pip_args: list[str]) -> None:
    """Write `sizes.csv`; what was measured before, of the same version, is not measured again."""
    known = {}
    if SIZES.exists():
        with SIZES.open(encoding="utf-8", newline="") as stream:
            known = {(row["package"], row["version"]): row for row in csv.DictReader(stream)}
    wanted = []
    for requirement in requirements:
        pin, _, marker = requirement.partition(" ; ")
        if not marker or Marker(marker).evaluate():
            wanted.append(tuple(pin.split("==")))
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda pin: known.get(pin) or measure(*pin), sorted(wanted)))
    version = dict(wanted)["torch"]
    rows.append(known.get(("torch+cpu", version)) or measure_cpu_build(version, pip_args))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["package", "version", "download", "disk"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(SIZES, stream.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pip-args", default="", help="further arguments of pip, which fetches torch's CPU build")
    args, options = parser.parse_known_args()
    uv, envs = str(Path(sys.executable).with_name("uv")), Path("envs")
    base = envs / f"{BASE}.txt"
    entries = {BASE: compile_lock(uv, envs / f"{BASE}.in", base, options)}
    write_lock(base, envs / f"{BASE}.in", entries[BASE].values())
    for layer in LAYERS:
        source, lock = envs / f"{layer}.in", envs / f"{layer}.txt"
        found = compile_lock(uv, source, lock, [*options, "--constraints", str(base)])
        held = {
            requirement.partition(" ; ")[0] for requirement in entries[BASE] if requirement.partition(" ; ")[2] == ""
        }
        entries[layer] = {
            requirement: entry
            for requirement, entry in found.items()
            if requirement not in entries[BASE] and requirement.partition(" ; ")[0] not in held
        }
        write_lock(lock, source, entries[layer].values())
    documentation = compile_lock(uv, envs / f"{ALONE}.in", envs / f"{ALONE}.txt", options)
    write_lock(envs / f"{ALONE}.txt", envs / f"{ALONE}.in", documentation.values())
    write_sizes([requirement for lock in MEASURED for requirement in entries[lock]], args.pip_args.split())


if __name__ == "__main__":
    run_script(main)
