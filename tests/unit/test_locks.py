"""The locks hold what is asked for, with hashes, for every Python; the sizes are theirs."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from frugal.packages import COMPILED

LOCKS = ("requirements", "requirements-test", "trackers")


def entries(name):
    """A lock's packages: name to the rest of its entry."""
    found = re.findall(r"^([a-z0-9.-]+)==(.*(?:\n .*)*)", Path(f"envs/{name}.txt").read_text(), re.MULTILINE)
    assert len(dict(found)) == len(found), "a package is locked twice"
    return dict(found)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_locks_have_files_for_every_python(python, machine, tmp_path):
    """For Linux with glibc 2.28; skips where the registry does not answer."""
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    command = [uv, "pip", "install", "--dry-run", "--no-deps", "--require-hashes", "--target", str(tmp_path)]
    command += ["--python-version", python, "--python-platform", f"{machine}-manylinux_2_28"]
    compiled = COMPILED.get(tuple(map(int, python.split("."))), ())
    command += [option for name in compiled for option in ("--no-binary", name)]
    locks = [option for name in LOCKS for option in ("-r", f"envs/{name}.txt")]
    environment = os.environ | {"UV_HTTP_RETRIES": "1"}
    result = subprocess.run([*command, *locks], capture_output=True, text=True, env=environment)
    if result.returncode and re.search(r"Failed to fetch|error sending request|network was disabled", result.stderr):
        pytest.skip("the package registry does not answer")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", [*LOCKS, "docs"])
def test_every_package_of_a_lock_has_hashes(name):
    text = Path(f"envs/{name}.txt").read_text()
    lines = [line for line in text.splitlines() if line[0] not in "# -"]
    assert len(lines) == len(entries(name)) > 20
    for package, entry in entries(name).items():
        assert re.fullmatch(r"[^\s;]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), package


@pytest.mark.parametrize("name", [*LOCKS, "docs"])
def test_locks_hold_all_that_is_asked_for(name):
    lines = Path(f"envs/{name}.in").read_text().splitlines()
    asked = {re.split(r"==|\[", line)[0].lower().replace("_", "-") for line in lines if line[0] not in "#-"}
    assert asked
    assert asked <= entries(name).keys() | entries("requirements").keys()


@pytest.mark.parametrize("name", LOCKS[1:])
def test_layers_hold_what_the_lock_does_not(name):
    base = entries("requirements")
    for package, entry in entries(name).items():
        if package in base:  # for some platforms alone
            version, _, marker = base[package].splitlines()[0].rstrip(" \\").partition(" ; ")
            assert marker
            assert entry.startswith(f"{version} ")


def test_sizes_are_those_of_the_locks():
    with Path("envs/sizes.csv").open(newline="") as stream:
        rows = {row["package"]: row for row in csv.DictReader(stream)}
    locked = entries("requirements-test") | entries("requirements")
    for package, entry in locked.items():
        version, _, marker = entry.splitlines()[0].rstrip(" \\").partition(" ; ")
        if not marker or package in rows:
            assert rows[package]["version"] == version, package
            assert int(rows[package]["disk"]) > int(rows[package]["download"]) / 4 > 0, package
    assert rows.keys() <= locked.keys() | {"torch+cpu"}
    assert rows["torch+cpu"]["version"] == rows["torch"]["version"]
    assert sum(package.startswith("nvidia-") for package in rows) > 10
