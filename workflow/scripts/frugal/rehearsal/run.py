"""Run a rehearsal: a server with the stand-ins, Snakemake beside it, and what became of each job."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from frugal.config.study import Study, dump_yaml
from frugal.files import read_json, write_text
from frugal.private.snakemake import NOTES, noted_outputs
from frugal.rehearsal.server import Site, StandInServer
from frugal.rehearsal.standins import PREFIX
from frugal.rehearsal.study import Rehearsal, rehearse
from frugal.run.interruption import Terminated
from frugal.run.programs import environment

#: Rules that ask for several cores, which stand-ins are too small to use: their jobs run side by side instead.
ONE_THREAD = (
    "prepare_interactions",
    "prepare_model",
    "train_preference",
    "evaluate_preference",
    "train_language_model",
    "climb_memory_ladder",
    "measure_efficiency",
)
#: The port that a rehearsal asks for: addresses are part of what Snakemake compares, so that a failed one continues.
PORTS = range(20_000, 40_000)


@dataclass(frozen=True)
class Failure:
    """A job that failed, as Snakemake reports it."""

    rule: str
    output: str
    log: str


@dataclass(frozen=True)
class JobTime:
    """A finished job: its rule, its first output, when it began (seconds since 1970), and how long it took."""

    rule: str
    output: str
    began: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What became of a rehearsal.

    Attributes:
        seconds: from the stand-ins to the report.
        unanswered: requests that no stand-in answers: a job asked the network for something.
    """

    rehearsal: Rehearsal
    code: int
    failures: list[Failure]
    jobs: list[JobTime]
    began: float
    seconds: float
    unanswered: list[str]


def run_rehearsal(study: Study, data: Mapping[str, Any], cores: str, options: list[str]) -> Outcome:
    """Rehearse a study here; one that failed or was interrupted continues, a finished one starts anew.

    Args:
        data: the study's file, as parsed.
        options: further options of Snakemake.

    Raises:
        FrugalError: the study cannot be rehearsed.
    """
    began, site = time.time(), Site()
    with _server(site, f"{PREFIX}{study.name}") as server:
        rehearsal = rehearse(study, data, site, server.url, conda="conda" in options)
        results = Path("results") / rehearsal.name
        if (results / "report" / "report.html").exists():
            remove(rehearsal)
        config = results / "rehearsal.yaml"
        write_text(config, dump_yaml(rehearsal.config))
        threads = ["--set-threads", *(f"{rule}=1" for rule in ONE_THREAD)]
        # Short jobs: to find the best choice among them takes longer than it saves.
        command = [sys.executable, "-m", "snakemake", "--cores", cores, "--keep-going", "--scheduler", "greedy"]
        command += [*threads, *options]
        command += ["--configfile", str(config), "--", "all"]
        code, failures = _watch(command, environment(**server.variables()))
    jobs = sorted(job_times(rehearsal), key=lambda job: job.began)
    return Outcome(rehearsal, code, failures, jobs, began, time.time() - began, site.unanswered)


def _server(site: Site, name: str) -> StandInServer:
    with suppress(OSError):  # the port is taken
        return StandInServer(site, PORTS[crc32(name.encode()) % len(PORTS)])
    return StandInServer(site)


def remove(rehearsal: Rehearsal) -> None:
    """Remove everything that an earlier rehearsal of this study has left behind."""
    name, config = rehearsal.name, rehearsal.config
    folders = [Path(top, name) for top in ("results", "checkpoints", "logs", "data/pairs", "data/blocks")]
    for key, entry in (config["datasets"] | config.get("models", {})).items():
        folders += [Path("data", part, key) for part in ("raw", "prepared", "models", "sequences")]
        source = entry["sources"][0]
        if "hub" in source:
            folders.append(Path("data/downloads", f"{source['hub'].replace('/', '--')}--{source['revision'][:12]}"))
        elif str(source.get("file", "")).replace("_", "-").startswith(PREFIX):
            folders.append(Path("data/downloads", source["file"]))
    for folder in folders:
        if folder.is_dir():
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)


def _watch(command: list[str], variables: dict[str, str]) -> tuple[int, list[Failure]]:
    """Run Snakemake, pass on what it prints, and collect the jobs that fail; returns its exit code and these.

    Raises:
        KeyboardInterrupt: an interrupt or SIGTERM came, and Snakemake has ended its jobs.
    """
    lines: list[str] = []
    interrupted = False
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        while True:
            try:
                for line in child.stdout:
                    sys.stderr.write(line)
                    lines.append(line)
                code = child.wait()
                break
            except KeyboardInterrupt:  # a terminal sends it to Snakemake too
                interrupted = True
            except Terminated:
                interrupted = True
                child.terminate()
    if interrupted:
        raise KeyboardInterrupt
    return code, list(failed_jobs(lines))


def failed_jobs(lines: list[str]) -> Iterator[Failure]:
    """The jobs that failed, from what Snakemake (9.27) printed; one that was tried twice is there once."""
    seen = set()
    for number, line in enumerate(lines):
        if not (found := re.match(r"Error in (?:local)?(?:rule|checkpoint) (\w+)", line)):
            continue
        about = {}
        for detail in lines[number + 1 :]:
            if not detail.startswith("    "):
                break
            key, _, value = detail.strip().partition(": ")
            about.setdefault(key, value)
        failure = Failure(found[1], about.get("output", "").split(", ")[0], about.get("log", "").split(" (check")[0])
        if failure not in seen:
            seen.add(failure)
            yield failure


def job_times(rehearsal: Rehearsal) -> Iterator[JobTime]:
    """The finished jobs of a rehearsal, from Snakemake's notes on each of their outputs; a job is known by its log."""
    own = {rehearsal.name, *rehearsal.config["datasets"], *rehearsal.config.get("models", {})}
    jobs: dict[tuple[str, str], list[tuple[float, float, str]]] = {}
    for output, file in sorted(noted_outputs(Path(".snakemake") / NOTES)):
        if own & set(output.parts) and output.exists():
            with suppress(OSError, ValueError, KeyError, TypeError):
                notes = read_json(Path(".snakemake") / NOTES / file)
                found = (float(notes["starttime"]), float(notes["endtime"]), str(output))
                jobs.setdefault((notes["rule"], json.dumps(notes["log"])), []).append(found)
    for (rule, _), outputs in jobs.items():
        began, ended = min(start for start, _, _ in outputs), max(end for _, end, _ in outputs)
        yield JobTime(rule, outputs[0][2], began, ended - began)
