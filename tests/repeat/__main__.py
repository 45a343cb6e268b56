"""The smoke study's trainings and evaluations, each repeated from the same inputs: is every result the same?

Each repetition is a fresh process, by the command that the study ran, with one, two or three threads and beside
processes that keep the CPU busy. Results are compared byte by byte, but for measured times and memory, within each
number of threads: sums in another order may differ in their last bits.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow/scripts"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from comparison import differences
from jobs import Job, jobs_in

from frugal.errors import FrugalError, run_script
from frugal.run.programs import environment

REPOSITORY = Path(__file__).parents[2]
CONFIG = "config/smoke.yaml"
BUSY = "while True: pass"


def repeatable(summary: str, study: str = "smoke") -> list[Job]:
    """The trainings and evaluations that have run, by the output of `snakemake --detailed-summary`."""
    return [
        job for job in jobs_in(summary, study) if job.rule.startswith(("train_", "evaluate_")) and job.command != "-"
    ]


def odd_ones(results: list[Path]) -> dict[int, list[str]]:
    """Run (from 1) -> how it differs from what most runs have; nothing where all agree."""
    groups: list[list[int]] = []
    for number, result in enumerate(results):
        for group in groups:
            if not differences(results[group[0]], result):
                group.append(number)
                break
        else:
            groups.append([number])
    usual = max(groups, key=len)
    odd = sorted(set(range(len(results))) - set(usual))
    return {number + 1: differences(results[usual[0]], results[number]) for number in odd}


@contextlib.contextmanager
def load(processes: int) -> Iterator[None]:
    """Processes that keep a core busy each."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def workplace(folder: Path) -> Path:
    """A folder with the study's inputs and results, in which jobs may write as they like."""
    for name in ("data", "corpora"):
        (folder / name).symlink_to(REPOSITORY / name)
    for name in ("workflow", "config"):  # the repository may be worked on, and committed to, for as long as this runs
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "results/smoke", folder / "results/smoke")
    return folder


def repeat(job: Job, folder: Path, kept: Path, threads: int) -> None:
    """Run a job once; what it wrote is moved to ``kept``.

    Raises:
        FrugalError: it failed.
    """
    for name in (*job.outputs, "checkpoints"):
        remove(folder / name)
    for name in (*job.outputs, *re.findall(r"tee (\S+)", job.command)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    command = re.sub(r"\bOMP_NUM_THREADS=\d+", f"OMP_NUM_THREADS={threads}", job.command)
    run = ["bash", "-euo", "pipefail", "-c", command]
    result = subprocess.run(run, cwd=folder, env=environment(), capture_output=True, text=True)
    if result.returncode:
        raise FrugalError(f"{job.name} failed:\n{command}\n{(result.stdout + result.stderr)[-2000:]}")
    for name in job.outputs:
        copy(folder / name, kept / name)


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, over what is there."""
    remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/repeat", description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="repetitions with each number of threads (%(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--load", type=int, default=os.cpu_count(), help="busy processes beside (%(default)s)")
    parser.add_argument("--only", default="", help="jobs whose names contain this, as evaluate_movie_preference/always")
    parser.add_argument("--keep", type=Path, help="an empty folder for what odd runs wrote")
    options = parser.parse_args()
    command = ["snakemake", "--cores", "1", "--configfile", CONFIG, "--detailed-summary"]
    summary = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    jobs = [job for job in repeatable(summary) if options.only in job.name]
    if not jobs:
        raise FrugalError(f"no job of the smoke study has '{options.only}' in its name; is results/smoke complete?")
    found: Counter[str] = Counter()
    print(f"{'job':44} threads  runs  odd")
    with tempfile.TemporaryDirectory(prefix="frugal-repeat-") as temporary, load(options.load):
        folder = workplace(Path(temporary))
        for job in jobs:
            for threads in options.threads:
                runs = [Path(temporary, "runs", str(number)) for number in range(1, options.n + 1)]
                for run in runs:
                    repeat(job, folder, run, threads)
                odd = odd_ones(runs)
                found[job.name] += len(odd)
                print(f"{job.name:44} {threads:7} {len(runs):5} {len(odd):4}", flush=True)
                for number, lines in odd.items():
                    print("\n".join(f"  run {number}: {line}" for line in lines), flush=True)
                    if options.keep:
                        copy(runs[number - 1], options.keep / job.name / str(threads) / str(number))
                shutil.rmtree(Path(temporary, "runs"))
                # The next job reads what this one wrote in the study, not in its last repetition.
                for name in job.outputs:
                    copy(REPOSITORY / name, folder / name)
    return int(any(found.values()))


if __name__ == "__main__":
    run_script(main)
