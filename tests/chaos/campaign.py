"""What all faults share: checkouts to hurt, the undisturbed run that they are held against, and the verdicts."""

import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checkout import STUDY, Checkout, Run, why_no_mount
from comparison import derived_files, differences
from findings import Finding, by_job
from jobs import jobs_in
from server import FaultyServer

from frugal.errors import FrugalError

#: What the rules make: results, and everything between them and the downloads.
MADE = (f"results/{STUDY}", "data/raw", "data/prepared", "data/models", "data/sequences", "data/pairs", "data/blocks")
DOCUMENTS = ("describe_adapter", "make_tables", "plot_figures", "write_report")


@dataclass
class Fault:
    """One fault, and what became of it.

    Attributes:
        where: the jobs that ran, or the file that was hurt.
        struck_after: seconds since that Snakemake began; None where nothing ran.
        command: what continued.
        said: how a run ended that had to notice the fault.
        problems: what is not as in the undisturbed run.
        outcome: "recovered", "lost", "skipped", or "undecided" where its study was hurt again and ended with a finding.
    """

    kind: str
    where: str
    struck_after: float | None
    began: float
    command: list[str] = field(default_factory=list)
    said: str | None = None
    problems: list[str] = field(default_factory=list)
    outcome: str = "pending"
    seconds: float = 0.0

    def row(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "where": self.where,
            "struck_after_seconds": None if self.struck_after is None else round(self.struck_after, 2),
            "said": self.said,
            "command": " ".join(self.command),
            "outcome": self.outcome,
            "problems": self.problems,
            "seconds": round(self.seconds, 1),
        }


class Campaign:
    """A series of faults.

    Attributes:
        work: the folder of all checkouts.
        reference: a checkout with the undisturbed study.
        jobs: how many jobs the study has.
        findings: what differed at the end of a study that has seen several faults.
        server: where all checkouts have what they download.
    """

    def __init__(self, work: Path, server: FaultyServer, cores: int, kills: int, keep: bool = False):
        self.work, self.server, self.cores, self.kills, self.keep = work, server, cores, kills, keep
        self.faults: list[Fault] = []
        self.findings: list[Finding] = []
        # Once: the repository may be worked on while the campaign runs.
        self.clone = Checkout.fresh(work / "clone", cores, server.url)
        self.no_mount = why_no_mount(work)

    def prepare(self) -> float:
        """Run the study undisturbed; returns how many seconds it took.

        Raises:
            FrugalError: it fails without any fault.
        """
        self.reference = self.fresh("undisturbed")
        run = self.reference.run()
        if run.process.returncode:
            raise FrugalError(f"the study fails without any fault: {self.failure(run)}; see {run.log}")
        self.jobs = self.reference.logs()
        jobs = jobs_in(self.reference.summary(), STUDY)
        self.outputs = {output: job.name for job in jobs for output in job.outputs}
        return run.seconds

    def fresh(self, name: str) -> Checkout:
        return self.clone.copy(self.work / name)

    def finished(self, name: str) -> Checkout:
        """A copy of the undisturbed study."""
        return self.reference.copy(self.work / name)

    def discard(self, checkout: Checkout) -> None:
        """Remove a checkout, unless there is something to be looked at."""
        if not self.keep and not self.findings and all(fault.outcome != "lost" for fault in self.faults):
            shutil.rmtree(checkout.folder)

    def attempt(self, scenario: Callable[["Campaign", random.Random], None], seed: int) -> None:
        """One kind of faults, with random numbers of its own; what breaks off the scenario loses its open faults."""
        known = len(self.faults)
        try:
            scenario(self, random.Random(f"{seed} {scenario.__name__}"))
        except (OSError, RuntimeError, ValueError) as error:
            pending = [fault for fault in self.faults[known:] if fault.outcome == "pending"]
            for fault in pending or [self.fault(scenario.__name__)]:
                fault.problems.append(f"{type(error).__name__}: {error}")
                self.judge(fault)

    def fault(self, kind: str, where: str = "", struck_after: float | None = None) -> Fault:
        """Begin a fault."""
        self.faults.append(Fault(kind, where, struck_after, time.monotonic()))
        return self.faults[-1]

    def judge(self, fault: Fault) -> None:
        """A fault is recovered from if nothing at all is wrong."""
        fault.seconds = time.monotonic() - fault.began
        fault.outcome = "lost" if fault.problems else "recovered"
        self.say(fault, fault.outcome)

    def find(self, checkout: Checkout, problems: list[str], faults: list[Fault]) -> None:
        """One finding of a study, which leaves those of its faults undecided that have no problem of their own."""
        numbers = [self.faults.index(fault) + 1 for fault in faults]
        self.findings.append(Finding(checkout.folder.name, numbers, problems, by_job(problems, self.outputs)))
        for fault in faults:
            fault.outcome = "lost" if fault.problems else "undecided"
        print(f"finding {len(self.findings)}: {self.findings[-1].text()}", file=sys.stderr, flush=True)

    def skip_without_mount(self, fault: Fault) -> bool:
        """Whether the fault cannot be made here; it is recorded as skipped, with the reason."""
        if self.no_mount:
            fault.outcome, fault.said = "skipped", self.no_mount
            self.say(fault, f"skipped: {self.no_mount}")
        return self.no_mount is not None

    def say(self, fault: Fault, text: str) -> None:
        where = f" ({fault.where})" if fault.where else ""
        print(f"{len(self.faults):3}. {fault.kind}{where}: {text}", file=sys.stderr, flush=True)
        for problem in fault.problems:
            print(f"       {problem}", file=sys.stderr, flush=True)

    def problems(self, checkout: Checkout, partial: bool = False) -> list[str]:
        """What is not as in the undisturbed study; with ``partial``, of the files that are there under their names."""
        found = []
        for name in MADE:
            lines = differences(self.reference.folder / name, checkout.folder / name, partial)
            found += [f"{name}/{line}" for line in lines]
        return found

    def problems_of_report(self, checkout: Checkout) -> list[str]:
        """What changes when the documents that hold times are written again from the same results."""
        before = derived_files(checkout.results)
        expected = derived_files(self.reference.results)
        run = checkout.run(options=("--forcerun", *DOCUMENTS))
        if run.process.returncode:
            return [self.failure(run)]
        after = derived_files(checkout.results)
        changed = sorted(name for name in before if before[name] != after.get(name))
        wrong = [f"{name}: is not what is written from these results" for name in changed]
        wrong += [f"{name}: is there in one study only" for name in sorted(before.keys() ^ expected.keys())]
        return [f"results/{STUDY}/{line}" for line in wrong]

    def failure(self, run: Run) -> str:
        """How a run ended, in one line: its last word about an error, or what it was told."""
        words = ("error", "Error", "No space left", "Read-only", "locked", "failed")
        lines = [line.strip() for line in run.text.splitlines() if any(word in line for word in words)]
        code = f"exit code {run.process.returncode}"
        first = next((line for line in lines if line.startswith("error:")), lines[0] if lines else "")
        return f"{code}: {first}" if first else code
