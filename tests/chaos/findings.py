"""What differs at the end of a study: one finding, however many faults the study has seen, and the jobs to look at."""

from dataclasses import dataclass

#: Where a difference belongs to no job.
NO_JOB = "no job"


@dataclass
class Finding:
    """A difference between a study that was hurt, more than once perhaps, and the undisturbed one.

    Attributes:
        study: the folder of the checkout.
        faults: numbers of the faults that this study has seen; which of them caused it, if any, is not known.
        problems: the differences, one line for each file; or how the study failed.
        jobs: job -> the files among them that it writes.
    """

    study: str
    faults: list[int]
    problems: list[str]
    jobs: dict[str, list[str]]

    def text(self) -> str:
        """The finding in lines for a terminal."""
        seen = f"fault {self.faults[0]}" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        lines = [f"{self.study}, after {seen}, is not the undisturbed study"]
        lines += [f"  {job}: {', '.join(files)}" for job, files in self.jobs.items()]
        return "\n".join([*lines, *(f"    {problem}" for problem in self.problems)])


def by_job(problems: list[str], jobs: dict[str, str]) -> dict[str, list[str]]:
    """The files that the lines of `comparison.differences` begin with, by the job that writes them."""
    found: dict[str, list[str]] = {}
    for problem in problems:
        file, colon, _ = problem.partition(": ")
        outputs = [output for output in jobs if file == output or file.startswith(f"{output}/")]
        if colon and "/" in file:
            found.setdefault(jobs[max(outputs, key=len)] if outputs else NO_JOB, []).append(file)
    return {job: sorted(files) for job, files in sorted(found.items())}
