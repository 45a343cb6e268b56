"""A stage's record of its jobs: what Snakemake knows of every file that was made, versioned beside the files.

Snakemake decides what to run again by file times and by its own notes on each file (rule, command, parameters, hashes
of settings and code) in `.snakemake`. A checkout by DVC brings neither: files come without notes and with new times,
and everything would be trained again. The record has the notes, and a hash of the file that they are about. Where a
file with just this content appears without them, they are put back, with the file's own time, and Snakemake decides as
it would where the file was made: changed settings or code run again, nothing else.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from frugal.errors import FrugalError, first_line
from frugal.files import read_json, sha256_tree, write_json
from frugal.private.snakemake import NOTES as FOLDER
from frugal.private.snakemake import noted_outputs, timed_file

#: Snakemake's notes on each output.
NOTES = Path(".snakemake") / FOLDER
#: Seconds by which a file's time may differ from the time that Snakemake noted for it.
TOLERANCE = 1e-3


class Job(NamedTuple):
    """What is recorded of one output."""

    sha256: str
    #: The file of Snakemake's that holds the notes, below `NOTES`.
    file: str
    notes: dict[str, Any]


def record_jobs(target: Path, folders: Sequence[Path]) -> None:
    """Write what Snakemake knows of every output in ``folders`` to ``target``, with a hash of each output."""
    jobs = {
        str(output): Job(sha256_tree([output]), str(file), read_json(NOTES / file))._asdict()
        for output, file in sorted(noted_outputs(NOTES))
        if output.exists() and any(output.is_relative_to(folder) for folder in folders)
    }
    write_json(target, jobs)


def restore_jobs(source: Path) -> list[str]:
    """Give Snakemake its notes on files that came from elsewhere; returns the paths of these files.

    A file that was made here, and left alone since, keeps the notes and the time that it has; so does one whose content
    is not that of the record.

    Raises:
        FrugalError: the record cannot be read.
    """
    if not source.exists():
        return []
    try:
        jobs = {path: Job(**job) for path, job in read_json(source).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise FrugalError(f"{source}: not a record of jobs ({first_line(error)}); `dvc checkout {source}`") from None
    return [path for path, job in jobs.items() if _restore(Path(path), job)]


def _restore(output: Path, job: Job) -> bool:
    notes = NOTES / job.file
    if not output.exists() or _made_here(output, notes) or sha256_tree([output]) != job.sha256:
        return False
    write_json(notes, job.notes)
    # A clock that is behind would otherwise make what is written next look older than this.
    moment = int(min(job.notes["endtime"], time.time()) * 1e9)
    os.utime(timed_file(output), ns=(moment, moment))
    return True


def _made_here(output: Path, notes: Path) -> bool:
    """Whether Snakemake's own notes are about the file as it is: nothing has replaced it since its job ended."""
    try:
        ended = read_json(notes)["endtime"]
    except (OSError, ValueError, KeyError):
        return False
    return abs(timed_file(output).stat().st_mtime - ended) < TOLERANCE
