"""When a training has to end: the time limit of its job."""

import os
import subprocess
import sys
import time

from frugal.errors import first_line

#: Seconds kept free before the end of a job, for a checkpoint and the way out.
SECONDS_TO_SAVE = 60


def seconds_left() -> float | None:
    """Seconds until SLURM ends this job; None outside of SLURM, and where the job has no limit.

    SLURM is asked, because the limit that counts may be the partition's own, or have been changed since.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    try:
        answer = subprocess.run(
            ["squeue", "--noheader", "--jobs", job, "--format", "%e"],
            env={**os.environ, "SLURM_TIME_FORMAT": "%s"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        reason = first_line(error)
        print(
            f"the time limit of SLURM job {job} is not known ({reason}): set training.deadline_minutes to save in time",
            file=sys.stderr,
        )
        return None
    return int(answer) - time.time() if answer.isdigit() else None
