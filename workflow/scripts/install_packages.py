"""Install a lock of envs/ into .venv, which is made where it is missing.

Needs Python and its standard library alone. uv installs where it is on PATH, pip where it is not or has failed. What is
there already is left alone, so that an interrupted installation is continued by the same command. Nothing is resolved,
and every file is checked by its hash. The one exception is torch: its builds for CPUs and for other versions of CUDA
are not on PyPI, so they have no hash in the lock, and what they need beside the lock is resolved by the installer.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (before anything that an older Python cannot read)
    sys.exit(
        f"error: Python 3.11 or newer is needed, and {sys.executable} is {sys.version_info[0]}.{sys.version_info[1]}: "
        "name another one, as in `make report PYTHON=python3.12`"
    )

import argparse
import os
import platform
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from frugal.errors import FrugalError, run_script
from frugal.packages import TORCH_INDEX, Lock, Size, remove_damaged, total, versions_in
from frugal.run.durations import format_seconds

BASE = Path("envs/requirements.txt")
#: torch and what only its builds for CUDA need.
TORCH = re.compile(r"torch|triton|cuda-.*|nvidia-(?!ml-py).*")
TESTED = "3.11"
FULL = "No space left on device"
UNREACHED = re.compile(r"Retrying \(Retry|Failed to establish a new connection|NewConnectionError|Max retries exceeded")
#: Seconds between two lines of progress where they are kept, as in a log file.
INTERVAL = 10


class InstallerFailed(Exception):
    """uv or pip has failed; the message is all that it has printed."""


NOTHING = Size()
#: What a study downloads, and what its data, models and results take on the disk, as measured.
STUDIES = {"laptop": Size(125_000_000, 600_000_000)}


@dataclass
class Environment:
    """A virtual environment: its folder, its packages' folder, and the program that installs into it."""

    folder: Path
    site: Path
    pip_args: list[str]
    uv: str | None = field(default_factory=lambda: shutil.which("uv"))

    @property
    def python(self) -> str:
        return str(self.folder / "bin/python")

    @property
    def temporary(self) -> Path:
        """Where pip keeps what it fetches: on the environment's disk, as `/tmp` is often small."""
        return self.folder / "tmp"

    def versions(self) -> dict[str, str]:
        """Name to version of all packages that are there."""
        return versions_in(self.site)

    def install_lock(self, lock: Lock) -> None:
        """Install what is missing of a lock, each file checked by its hash."""
        file = self.folder / "lock.txt"
        file.write_text(lock.text(), encoding="utf-8")
        self.install(["--no-deps", "--require-hashes", "-r", str(file)], lock.missing(self.versions()))
        file.unlink()

    def install(self, arguments: list[str], missing: dict[str, Size]) -> None:
        """Install what ``arguments`` name by uv, or by pip where there is no uv or it fails.

        Args:
            missing: the packages that will be new.

        Raises:
            InstallerFailed: pip has failed, or the disk is full.
        """
        if self.uv:
            try:
                return self.install_by_uv(arguments, missing)
            except InstallerFailed as error:
                if FULL in str(error):
                    raise
                print(f"uv has failed ({reason(error)[:160]}); pip goes on.", flush=True)
        return self.install_by_pip(arguments, missing)

    def install_by_uv(self, arguments: list[str], missing: dict[str, Size]) -> None:
        self._run([self.uv, "pip", "install", "--python", self.python, *self.pip_args, *arguments], missing)

    def install_by_pip(self, arguments: list[str], missing: dict[str, Size]) -> None:
        command = [self.python, "-m", "pip", "install", "--no-compile", "--no-input", "--progress-bar", "off"]
        self._run([*command, "--disable-pip-version-check", *self.pip_args, *arguments], missing)

    def _run(self, command: list[str], missing: dict[str, Size]) -> None:
        """Run an installer and print how far it is."""
        before = self.versions()
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "TMPDIR": str(self.temporary.absolute())}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
        try:
            process = subprocess.Popen(command, env=environment, **pipes)
        except OSError as error:
            raise InstallerFailed(f"error: {command[0]}: {error.strerror}") from None
        lines: list[str] = []
        reader = threading.Thread(target=lambda: [lines.append(line.rstrip()) for line in process.stdout], daemon=True)
        reader.start()
        try:
            follow(process, lambda: self._progress(before, missing, lines))
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()
            reader.join(5)  # a grandchild may still hold the pipe
            shutil.rmtree(self.temporary, ignore_errors=True)
        if process.returncode:
            raise InstallerFailed("\n".join(lines))

    def _progress(self, before: dict[str, str], missing: dict[str, Size], lines: list[str]) -> str:
        if installed := len(missing.keys() & dict(self.versions().items() - before.items()).keys()):
            return f"{installed} of {len(missing)} packages installed"
        if fetched := bytes_below(self.temporary):
            return f"{fetched / 1e6:.0f} of about {total(missing).download / 1e6:.0f} MB fetched"
        return lines[-1].strip()[:60] if lines else "starting"


def follow(process: subprocess.Popen, state: Callable[[], str]) -> None:
    """Wait for a process; print its state each second on a terminal, and every ten seconds in a file."""
    terminal, start, printed = sys.stdout.isatty(), time.monotonic(), 0.0
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
            break
        passed = time.monotonic() - start
        if terminal:
            print(f"\r\033[K{format_seconds(passed)}  {state()}", end="", flush=True)
        elif passed >= printed + INTERVAL:
            printed = passed
            print(f"{format_seconds(passed)}  {state()}", flush=True)
    if terminal:
        print("\r\033[K", end="", flush=True)


def bytes_below(folder: Path) -> int:
    """Bytes of all files in a folder that another process fills and empties."""
    count = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                count += os.stat(os.path.join(top, name)).st_size
    return count


def reason(error: InstallerFailed) -> str:
    """What an installer has given as its reason, in one line."""
    lines = str(error).splitlines()
    first = next((number for number, line in enumerate(lines) if re.match(r"\s*(error|×)", line, re.IGNORECASE)), -3)
    return " ".join(" ".join(lines[first:]).split())[:600]


def explain(error: InstallerFailed, environment: Environment) -> FrugalError:
    """What to do about a failed installation."""
    text = str(error)
    if FULL in text:
        free = gigabytes(shutil.disk_usage(environment.folder).free)
        return FrugalError(
            f"the disk of {environment.folder.absolute()} is full ({free} are free without what was fetched): "
            "make room, and run the same command again to continue"
        )
    if UNREACHED.search(text):
        return FrugalError(
            f"the package index was not reached: {reason(error)}: run the same command again to continue, or name "
            'a mirror, as in `make report PIP_ARGS="--index-url https://..."`'
        )
    if match := re.search(r"No matching distribution found for (\S+?)==(\S+)", text):
        return FrugalError(
            f"{match[1]} {match[2]}: no file for Python {platform.python_version()} on {platform.system()} "
            f"{platform.machine()} was found: choose another Python, as in `make report PYTHON=python3.12` (tested is "
            f"{TESTED}), or another version in envs/requirements.in, and run `make lock`"
        )
    if match := re.search(r"Failed building wheel for (\S+)|Failed to build '?([\w.-]+)", text):
        return FrugalError(
            f"{match[1] or match[2]} has no wheel for Python {platform.python_version()} and was not compiled "
            f"({reason(error)[:300]}): install a C compiler and Python's headers (on Debian and Ubuntu "
            f"`apt install gcc python3-dev`), or choose another Python, as in `make report PYTHON=python3.12`"
        )
    return FrugalError(f"pip: {reason(error)}")


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


def open_environment(folder: Path, pip_args: list[str]) -> Environment:
    """The environment in ``folder``; one that does not work or is another Python's is made anew."""
    question = "import pip, sys, sysconfig; print(*sys.version_info[:2]); print(sysconfig.get_path('purelib'))"
    for made in (False, True):
        with suppress(OSError):
            command = [str(folder / "bin/python"), "-c", question]
            answer = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
            if len(answer) == 2 and (made or answer[0] == "{} {}".format(*sys.version_info[:2])):
                return Environment(folder, Path(answer[1]), pip_args)
        if not made:
            print(f"Making {folder} for Python {platform.python_version()}.", flush=True)
            if subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder.resolve())]).returncode:
                break
    raise FrugalError(
        f"{folder}: `{sys.executable} -m venv` does not make a working environment: install Python's venv and pip (on "
        "Debian and Ubuntu `apt install python3-venv`), or name another Python, as in `make report PYTHON=python3.12`"
    )


def check_disk(environment: Environment, missing: dict[str, Size], study: Size) -> None:
    """Refuse when the packages and a study do not fit on the disks that they go to.

    Raises:
        FrugalError: with what is needed and what is free.
    """
    size, home = total(missing), Path.home()
    cache = os.environ.get("XDG_CACHE_HOME") or home / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    # uv unpacks into its cache and links; pip keeps what it has fetched twice, in its cache and until it is installed.
    needs = [(environment.folder, size.disk + (0 if environment.uv else size.download)), (Path.cwd(), study.disk)]
    needs.append((Path(cache), 0 if environment.uv else size.download))
    disks: dict[int, tuple[Path, int]] = {}
    for folder, count in needs:
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        device = existing.stat().st_dev
        first, before = disks.get(device, (existing, 0))
        disks[device] = (first, before + count)
    for folder, count in disks.values():
        free = shutil.disk_usage(folder).free
        if free < count:
            raise FrugalError(
                f"{folder}: the installation and the study need {gigabytes(count)} here, and {gigabytes(free)} are "
                "free: make room, or make .venv a link to an empty folder on a larger disk"
            )


def prepare(environment: Environment, missing: dict[str, Size], study: Size = NOTHING) -> None:
    """Say what will be downloaded and written, and refuse when there is no room for it."""
    size, program = total(missing), "uv" if environment.uv else "pip"
    what = f"{len(missing)} packages" if len(missing) > 1 else next(iter(missing))
    volume = f"about {gigabytes(size.download)} to download, {gigabytes(size.disk)} on disk"
    print(f"Installing {what} by {program}: {volume}.", flush=True)
    if study.disk:
        free = gigabytes(shutil.disk_usage(Path.cwd()).free)
        volume = f"{gigabytes(study.download)} to download, {gigabytes(study.disk)} on disk"
        print(f"The study after it: {volume}; {free} are free.", flush=True)
    check_disk(environment, missing, study)


def wanted_build(choice: str) -> str:
    """The build of torch that ``choice`` means on this machine: `pypi`, or one of download.pytorch.org's folders."""
    if choice != "auto":
        return choice
    has_nvidia = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists()
    return "cpu" if sys.platform == "linux" and not has_nvidia else "pypi"


def install_torch(environment: Environment, choice: str, lock: Lock) -> None:
    """Install torch's build for this machine, after all else, so that only what that build needs comes with it.

    Args:
        choice: `auto`, `pypi` (on Linux a build for CUDA), `cpu`, or another of uv's torch back ends.
        lock: torch, and what PyPI's build needs.
    """
    version, build = lock.version("torch"), wanted_build(choice)
    there, _, local = environment.versions().get("torch", "").partition("+")
    missing = missing_torch(environment, build, lock)
    if there == version:  # what is there is completed
        if choice not in ("auto", local or "pypi"):
            raise FrugalError(
                f"{environment.folder} has torch {there} from {local or 'PyPI'}: remove it to install another build"
            )
        choice = build = local or "pypi"
    attempts = []
    if environment.uv and choice != "pypi":
        attempts.append(lambda: environment.install_by_uv(["--torch-backend", choice, f"torch=={version}"], missing))
    if build != "pypi":
        arguments = ["--extra-index-url", f"{TORCH_INDEX}/{build}", f"torch=={version}+{build}"]
        attempts.append(lambda: environment.install_by_pip(arguments, missing))
    if choice in ("auto", "pypi"):
        attempts.append(lambda: install_from_pypi(environment, lock, missing))
    for attempt in attempts:
        try:
            attempt()
            break
        except InstallerFailed as error:
            if attempt is attempts[-1] or FULL in str(error):
                raise
            print(f"No torch from there ({reason(error)[:160]}); the next source is tried.", flush=True)


def install_from_pypi(environment: Environment, lock: Lock, announced: dict[str, Size]) -> None:
    """Install PyPI's build of torch, and the libraries of CUDA that it needs on Linux."""
    missing = lock.missing(environment.versions())
    if missing and missing != announced:
        prepare(environment, missing)
    exactly = lock.entries["torch"].replace("==", "===", 1)  # == takes another build of the version, too
    environment.install_lock(replace(lock, entries=lock.entries | {"torch": exactly}))


def missing_torch(environment: Environment, build: str, lock: Lock) -> dict[str, Size]:
    """What a build of torch will install; the sizes of two builds are known, PyPI's and the one for CPUs."""
    there = environment.versions()
    missing = lock.missing(there)
    if "+" in there.get("torch", "") and "torch" not in missing:
        return {}
    return {"torch": lock.sizes["torch+cpu"]} if build == "cpu" and "torch" in missing else missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lock", nargs="?", type=Path, default=BASE)
    parser.add_argument("--folder", type=Path, default=Path(".venv"), help="of the environment")
    parser.add_argument("--torch", default="auto", help="build: auto, pypi, cpu, or another of uv's torch back ends")
    parser.add_argument("--study", default="", help="for whose files there must be room, too")
    parser.add_argument("--pip-args", default="", help="further arguments of pip and uv")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = time.monotonic()
    environment, lock = open_environment(args.folder, args.pip_args.split()), Lock.read(args.lock)
    remove_damaged(environment.site)
    torch = lock.part(TORCH.fullmatch if sys.platform == "linux" else "torch".__eq__)  # CUDA is for Linux alone
    others = lock.part(lambda name: not TORCH.fullmatch(name))
    missing = others.missing(environment.versions())
    if torch.entries:
        missing |= missing_torch(environment, wanted_build(args.torch), torch)
    if missing:
        prepare(environment, missing, STUDIES.get(args.study, NOTHING))
    try:
        environment.install_lock(others)
        if torch.entries:
            install_torch(environment, args.torch, torch)
    except InstallerFailed as error:
        raise explain(error, environment) from None
    print(f"{args.folder} has all of {args.lock} ({format_seconds(time.monotonic() - start)}).")


if __name__ == "__main__":
    run_script(main)
