"""The jobs of a study, as Snakemake's summary lists them."""

from dataclasses import dataclass, field


@dataclass
class Job:
    """One job: its name, its rule, the shell command that ran ("-" if none has run), and its outputs.

    The name is that of its log, as "evaluate_movie_preference/tuned", or the rule's if it keeps no log.
    """

    name: str
    rule: str
    command: str
    outputs: list[str] = field(default_factory=list)


def jobs_in(summary: str, study: str) -> list[Job]:
    """The jobs in the output of `snakemake --detailed-summary`, or of `--summary`, which has no commands."""
    rows = [line.split("\t") for line in summary.splitlines() if "\t" in line]
    jobs: dict[tuple[str, str], Job] = {}
    for row in rows[1:]:
        values = dict(zip(rows[0], row, strict=True))
        name = values["log-file(s)"].partition(",")[0].removeprefix("logs/").removeprefix(f"{study}/")
        name = values["rule"] if name == "-" else name.removesuffix(".log")
        command = values.get("shellcmd", "-")
        jobs.setdefault((name, command), Job(name, values["rule"], command)).outputs.append(values["output_file"])
    return sorted(jobs.values(), key=lambda job: job.name)
