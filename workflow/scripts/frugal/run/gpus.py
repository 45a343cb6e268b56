"""Which GPUs a process takes: the number that `gpus: auto` stands for, and devices that no other job has.

CUDA reads CUDA_VISIBLE_DEVICES once, at its first use in a process. So what is found out about GPUs before a device is
chosen is found out in another process, or without CUDA.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from frugal.run.cache import user_cache

#: The setting of `training.gpus` that is settled where a job runs.
AUTO = "auto"
#: Set for jobs by the Snakemake that starts them: the number that `gpus: auto` stands for, "0" or "1".
DECIDED = "FRUGAL_AUTO_GPUS"
VISIBLE = "CUDA_VISIBLE_DEVICES"
#: What a usable GPU does: PyTorch computes on it. Fails for a driver that is too old and for a GPU without code too.
TRIAL = "import torch; torch.ones(1, device='cuda').add(1).item()"
TRIAL_SECONDS = 120
#: Locks of GPUs, which go with the process.
HELD: list[int] = []


def gpu_problem(same_python: bool = True) -> str | None:
    """Why no GPU is usable here; None where one is. Without NVIDIA's driver it takes no time, else some seconds.

    Args:
        same_python: whether jobs run in this Python, whose PyTorch then has to compute on the GPU; False: only the
            driver is looked at.
    """
    if os.environ.get(VISIBLE, "0").strip() in ("", "-1", "NoDevFiles"):
        return f"{VISIBLE} hides all GPUs"
    if not (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists()):
        return "there is no NVIDIA driver"
    return _trial_problem() if same_python else None


@cache
def _trial_problem() -> str | None:
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "PyTorch is not installed"
    if torch.endswith("+cpu"):
        return f"torch {torch} was built for CPUs"
    try:
        done = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, text=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"PyTorch did not compute on the GPU within {TRIAL_SECONDS} s"
    lines = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else (lines[-1] if lines else f"exit code {done.returncode}")


def auto_gpus() -> int:
    """The number of GPUs that `gpus: auto` stands for in this process: 1 where one is usable, else 0."""
    if decided := os.environ.get(DECIDED):
        return int(decided == "1")
    return int(gpu_problem() is None)


def resolve_gpus(run: Any, usable: int | None = None) -> Any:
    """A run's settings with a number in place of `gpus: auto`; frozen weights in 'int8' are for CPUs alone.

    Args:
        usable: the number of GPUs that 'auto' may take; None: see `auto_gpus`.
    """
    if run.training.gpus != AUTO:
        return run
    if getattr(run.model, "quantization", None) == "int8":
        usable = 0
    gpus = min(1, auto_gpus() if usable is None else usable)
    return run.model_copy(update={"training": run.training.model_copy(update={"gpus": gpus})})


def reserve(count: int, visible: Sequence[str]) -> list[str]:
    """``count`` of the ``visible`` GPUs for this process, first those that no other job of this user holds.

    The locks are files in the user's cache, named by machine, job of SLURM (whose jobs may call different GPUs by the
    same number) and GPU. They go with the process, and with one that it becomes by `os.exec*`. Without a cache nothing
    is locked.
    """
    taken = []
    for name in visible:
        if len(taken) < count and _lock(name):
            taken.append(name)
    others = [name for name in visible if name not in taken]
    return [name for name in visible if name in {*taken, *others[: count - len(taken)]}]


def _lock(name: str) -> bool:
    """Whether this process holds a GPU now, alone."""
    job = os.environ.get("SLURM_JOB_ID", "")
    path = user_cache(f"gpus/{platform.node()}-{job}-{name.replace('/', '_')}.lock")
    if path is None:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another process, or a file system without locks
        os.close(file)
        return False
    os.set_inheritable(file, True)
    HELD.append(file)
    return True
