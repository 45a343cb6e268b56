"""Snakemake, run for real in a copy of the repository; the smoke study is run once for all tests.

`make test` runs these tests in two processes, each with its own copy of the repository: `pytest -n 2`.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from xdist.scheduler import LoadScopeScheduling

REPOSITORY = Path(__file__).parents[2]
#: What the smoke study finds in its environment, and may not pass on.
SECRETS = {"HF_TOKEN": "hf_PlantedByATest0123456789", "WANDB_API_KEY": "0123456789abcdefdeadbeef0123456789abcdef"}
#: Threads that wait for others sleep: where two processes share two cores, spinning ones take the time of those.
SHARED = {"OMP_WAIT_POLICY": "passive"} if "PYTEST_XDIST_WORKER" in os.environ else {}


#: The modules that do not use the finished smoke study. Any other one runs in the process that has it.
WITHOUT_SMOKE = {"test_elsewhere", "test_environments", "test_errors", "test_readme", "test_studies", "test_tutorial"}


class OneSmokeStudy(LoadScopeScheduling):
    """The modules that use the finished smoke study in one process, in the order of their names; each other one whole.

    With pytest 9.2, `--dist loadgroup` of pytest-xdist 3.8 ignores its marks.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = Path(nodeid.partition("::")[0]).stem
        return module if module in WITHOUT_SMOKE else "smoke"


def pytest_xdist_make_scheduler(config, log):
    return OneSmokeStudy(config, log)


class Checkout:
    """A copy of the repository in which a test may do as it likes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.variables: dict[str, str] = {}

    def run(self, *arguments: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        """Run a command in the checkout, with this Python's programs first on the path."""
        result = subprocess.run(
            arguments, cwd=self.folder, env=self.environment(), capture_output=True, text=True, **options
        )
        if check and result.returncode:
            raise AssertionError(f"{' '.join(arguments)}\n{result.stdout}\n{result.stderr}")
        return result

    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "COLUMNS": "120"} | {"HF_TOKEN": "", **SHARED, **self.variables}

    def snakemake(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        return self.run("snakemake", "--cores", "2", *arguments, **options)

    def plan(self, configfile: str, *arguments: str) -> dict[str, int]:
        """What a dry run would do: rule -> jobs."""
        result = self.snakemake("--dry-run", "--configfile", configfile, *arguments)
        text = result.stdout + result.stderr
        if "Nothing to be done" in text:
            return {}
        assert "Job stats" in text, text
        return self.jobs(text)

    @staticmethod
    def jobs(text: str) -> dict[str, int]:
        """The jobs that Snakemake lists before it starts or plans them: rule -> jobs."""
        return {
            name.strip().replace(" ", "_"): int(count)
            for name, count in re.findall(r"^ ?(\w[\w ]*?) {2,}(\d+) *$", text, re.MULTILINE)
            if name.strip() not in ("total", "all")
        }

    def declared_memory(self, study: str) -> dict[tuple[str, str], int]:
        """(rule, wildcards) -> mem_mb of every job of a study."""
        # With a limit that cuts nothing down.
        options = ("--workflow-profile", "none", "--dry-run", "--forceall", "--resources", "mem_mb=1000000")
        result = self.snakemake(*options, "--configfile", study)
        return {
            (rule, wildcards): int(mb)
            for rule, wildcards, mb in re.findall(
                r"^(?:local)?rule (\w+):\n(?:    (?!wildcards|resources).*\n)*(?:    wildcards: (.*)\n)?"
                r"(?:    (?!resources).*\n)*    resources: .*?mem_mb=(\d+)",
                result.stdout + result.stderr,
                re.MULTILINE,
            )
        }

    def changed_plan(self, change) -> dict[str, int]:
        """What a dry run of the smoke study would do if it were changed so."""
        original = (self.folder / "config/smoke.yaml").read_text()
        try:
            self.study("smoke", change)
            return self.plan("config/smoke.yaml")
        finally:
            (self.folder / "config/smoke.yaml").write_text(original)

    def kill_and_continue(self, study: str, target: str, log: str, text: str) -> None:
        """Make a target; when ``text`` stands in the log, kill Snakemake and all its jobs, then make it again."""
        process = subprocess.Popen(
            ["snakemake", "--cores", "2", "--configfile", study, "--", target],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        path = self.folder / log
        try:
            while not (path.exists() and text in path.read_text()):
                assert process.poll() is None, "the run ended before it could be killed"
                time.sleep(0.01)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert not (self.folder / target).exists()
        self.snakemake("--configfile", study, "--", target)
        assert "training continues at step" in path.read_text()

    def same_weights(self, first: str, second: str) -> bool:
        """Whether two safetensors files hold the same tensors, bit by bit."""
        one, other = load_file(self.folder / first), load_file(self.folder / second)
        return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)

    def study(self, name: str, change=None, base: str = "config/smoke.yaml", **keys) -> str:
        """Write a study derived from another one, with ``change`` of its experiments and other ``keys``; its path."""
        data = yaml.safe_load((self.folder / base).read_text(encoding="utf-8"))
        data |= {"study": name, **keys}
        if change:
            change(data["experiments"])
        (self.folder / f"config/{name}.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        return f"config/{name}.yaml"


def tracked_files() -> list[str]:
    output = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [name for name in output.split("\0") if name and (REPOSITORY / name).exists()]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Checkout:
    """A fresh copy of what git tracks, as a clone would have it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in tracked_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, target)
    return Checkout(folder)


@pytest.fixture(scope="session")
def smoke(checkout) -> Checkout:
    """The checkout with a finished smoke study."""
    checkout.variables = SECRETS
    checkout.snakemake("--configfile", "config/smoke.yaml")
    checkout.variables = {}
    return checkout


@pytest.fixture
def secrets() -> dict[str, str]:
    """Tokens that were in the environment of the smoke study."""
    return SECRETS
