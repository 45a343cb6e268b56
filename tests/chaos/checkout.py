"""A copy of the repository in which the study runs, is hurt, and runs again."""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

from frugal.run import programs

REPOSITORY = Path(__file__).parents[2]
STUDY = "chaos"
#: What the smoke study reads of the web.
DATASET = "movielens-100k"
PATIENCE = 900.0


class Checkout:
    """A copy of the repository, and the smoke study under a name of its own.

    Attributes:
        results: where the study's results are.
    """

    def __init__(self, folder: Path, cores: int):
        self.folder, self.cores = folder, cores
        self.results = folder / "results" / STUDY

    @classmethod
    def fresh(cls, folder: Path, cores: int, url: str) -> "Checkout":
        """As after a clone; what the study downloads, it has from ``url``."""
        names = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\0")
        for name in filter(None, names):
            if (REPOSITORY / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, folder / name)
        write_study(folder)
        write_source(folder, url)
        return cls(folder, cores)

    def copy(self, folder: Path) -> "Checkout":
        """Another one in the same state, but for its logs; file times are kept: Snakemake finds the same to do."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("logs", "runs"))
        return Checkout(folder, self.cores)

    def command(self, *targets: str) -> list[str]:
        """The one command that begins, and continues."""
        command = ["snakemake", "--cores", str(self.cores), "--configfile", f"config/{STUDY}.yaml"]
        return [*command, *(["--", *targets] if targets else [])]

    def start(self, *targets: str, options: tuple[str, ...] = ()) -> "Run":
        command = self.command(*targets)
        command[3:3] = options
        return Run(self, command)

    def run(self, *targets: str, options: tuple[str, ...] = ()) -> "Run":
        """Start, and wait for the end."""
        run = self.start(*targets, options=options)
        run.wait()
        return run

    def summary(self) -> str:
        """Which job writes which output, a row each; see `jobs.jobs_in`."""
        command = [*self.command(), "--summary"]
        return subprocess.run(command, cwd=self.folder, env=environment(), capture_output=True, text=True).stdout

    def remove(self, *names: str) -> None:
        """Remove outputs of the study, so that they are made again."""
        for name in names:
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def logs(self) -> int:
        """How many jobs have begun, so far, in all runs."""
        return sum(1 for _ in (self.folder / "logs").rglob("*.log"))


class Run:
    """One start of Snakemake."""

    def __init__(self, checkout: Checkout, command: list[str]):
        self.checkout, self.command = checkout, command
        logs = checkout.folder / "runs"
        logs.mkdir(exist_ok=True)
        self.log = logs / f"{len(list(logs.iterdir()))}.log"
        self.started = time.monotonic()
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                cwd=checkout.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What Snakemake has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.strike("both", signal.SIGKILL)
            self.process.wait()
            raise TimeoutError(f"Snakemake did not end within {PATIENCE:g} s; see {self.log}") from None

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends in this time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.ended

    def jobs(self) -> dict[psutil.Process, str]:
        """The scripts that run now, and the name of each one's log, which is the job's."""
        found = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            for shell in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    below = [(process, process.cmdline()) for process in shell.children(recursive=True)]
                    logs = [words[1] for _, words in below if words[:1] == ["tee"]]
                    scripts = [process for process, words in below if is_script(words)]
                    name = logs[0].removeprefix("logs/").removesuffix(".log") if logs else "a job that begins"
                    found |= dict.fromkeys(scripts, name.removeprefix(f"{STUDY}/"))
        return found

    def wait_for(self, text: str, log: str) -> bool:
        """Wait until ``text`` stands in a job's log; False if the run ends before."""
        path = self.checkout.folder / "logs" / STUDY / log
        return self.wait_until(lambda: path.exists() and text in path.read_text(errors="replace"))

    def wait_until(self, condition: Callable[[], Any], every: float = 0.02) -> bool:
        """Wait until the condition holds; False if the run ends before."""
        while not self.ended:
            if condition():
                return True
            if self.seconds > PATIENCE:
                raise TimeoutError(f"nothing happened within {PATIENCE:g} s; see {self.log}")
            time.sleep(every)
        return False

    def strike(self, target: str, number: signal.Signals) -> list[psutil.Process]:
        """Send a signal to Snakemake, to the jobs (their scripts) or to both (every process); returns those jobs."""
        jobs = list(self.jobs())
        struck = jobs if target == "job" else []
        with contextlib.suppress(psutil.NoSuchProcess):
            if target != "job":
                snakemake = psutil.Process(self.process.pid)
                struck = [snakemake, *(snakemake.children(recursive=True) if target == "both" else [])]
        for process in struck:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return jobs


def environment() -> dict[str, str]:
    """That of any program, without a token."""
    return programs.environment(COLUMNS="120", HF_TOKEN="", NO_PROXY="127.0.0.1")


def is_script(words: list[str]) -> bool:
    """Whether a command line is that of a rule's script, and not of the shell that has started it."""
    return len(words) > 1 and "python" in Path(words[0]).name and words[1].startswith("workflow/scripts/")


def write_study(folder: Path) -> None:
    """The smoke study with a loss for every step: an average over steps begins anew after an interruption."""
    study = yaml.safe_load((folder / "config/smoke.yaml").read_text(encoding="utf-8"))
    study["study"] = STUDY
    for experiment in study["experiments"].values():
        experiment["training"]["logging_steps"] = 1
    (folder / f"config/{STUDY}.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")


def download() -> Path:
    """The file that the study is made from, in the downloads of this repository."""
    table = yaml.safe_load((REPOSITORY / "config/datasets.yaml").read_text(encoding="utf-8"))
    return REPOSITORY / "data/downloads" / table["datasets"][DATASET]["sources"][0]["file"]


def write_source(folder: Path, url: str) -> None:
    """Let a checkout have its data set from this address alone."""
    path = folder / "config/datasets.yaml"
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    source = table["datasets"][DATASET]["sources"][0]
    del source["package"]
    table["datasets"][DATASET]["sources"] = [{"url": url, **source}]
    path.write_text(yaml.safe_dump(table, sort_keys=False, allow_unicode=True), encoding="utf-8")


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system at ``folder`` for as long as the block runs.

    Raises:
        OSError: this user may mount nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if result.returncode:
        raise OSError(result.stderr.strip() or "mount failed")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def why_no_mount(work: Path) -> str | None:
    """Why no file system can be mounted here; None if one can."""
    try:
        with mounted(work / "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
            return None
    except OSError as error:
        return f"no file system can be mounted here: {error}"
