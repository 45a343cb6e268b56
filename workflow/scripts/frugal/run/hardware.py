"""What a run ran on and what it used: the part of a result that explains its speed."""

import ctypes
import os
import platform
import resource
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from frugal.errors import FrugalError
from frugal.run.commit import workflow_commit
from frugal.run.device import cpu_capabilities
from frugal.run.gpus import VISIBLE, gpu_problem, reserve
from frugal.run.resources import memory_limit_mb, usable_cores
from frugal.run.warm_up import warm_up

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "numpy",
    "pandas",
)
#: Of GPUs: recorded where they are installed.
GPU_PACKAGES = ("triton", "unsloth", "unsloth_zoo", "xformers", "nvidia-cublas", "nvidia-cudnn-cu13")


def describe_hardware() -> dict[str, Any]:
    """Processor, cores and memory (MB) that this process may use, and GPUs."""
    import torch

    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "instructions": cpu_capabilities().instructions,
        "cores": usable_cores(),
        "memory_mb": memory_limit_mb() or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "gpus": [
            {
                "name": gpu.name,
                "memory_mb": gpu.total_memory // 2**20,
                "compute_capability": f"{gpu.major}.{gpu.minor}",
            }
            for gpu in gpus
        ],
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    for package in GPU_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def peak_rss_mb() -> float:
    """Peak resident memory of this process so far, in MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def peak_device_mb() -> float | None:
    """Peak memory that PyTorch reserved on the GPUs, in MB; None without a GPU.

    Tensors, and the gaps that the allocator keeps between them. CUDA itself takes some 500 MB more.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    return sum(torch.cuda.max_memory_reserved(i) for i in range(torch.cuda.device_count())) / 2**20


def synchronize() -> None:
    """Wait for the GPU, so that a clock counts what was asked of it; nothing without one.

    PyTorch asks and does not wait: a clock that is read at once measures how fast Python is.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; CUDA is not started."""
    if VISIBLE in os.environ:
        # As CUDA reads it: what follows a -1 does not count.
        names = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return [name for name in names[: names.index("-1") if "-1" in names else None] if name]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def choose_device(gpus: int) -> str:
    """ "cuda:0" or "cpu", by what the run asks for; other GPUs are hidden from this process, and the CPU is warmed up.

    The GPUs are those that no other job holds (`frugal.run.gpus.reserve`). Of several, each process of torchrun has its
    own: "cuda:1" is the second one's; `reserve_gpus.py` has reserved them for all.

    Call it before anything uses CUDA, and so before bitsandbytes, TRL or unsloth are imported: CUDA reads which GPUs
    are visible once. With more than it should have, the trainer would run one process on all of them (DataParallel).

    Args:
        gpus: of this machine.

    Raises:
        FrugalError: GPUs are asked for and not there.
    """
    import torch

    warm_up()
    if gpus == 0:
        os.environ[VISIBLE] = ""
        # Accelerate numbers the processors of several processes, "cpu:0", to which torch loads nothing.
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
        return "cpu"
    visible = visible_gpus()
    os.environ[VISIBLE] = ",".join(visible[:gpus] if "LOCAL_RANK" in os.environ else reserve(gpus, visible))
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found < gpus:
        raise FrugalError(
            f"training.gpus is {gpus}, but {found or 'no'} GPU{'s are' if found > 1 else ' is'} visible here; set "
            "training.gpus to 0 (and backend, where there is one, to 'transformers') to train on the CPU"
        )
    if found > gpus:
        raise FrugalError(
            f"CUDA was in use before this process chose {gpus} of {found} GPUs; set {VISIBLE} to the GPUs that it may "
            f"use, such as {VISIBLE}={os.environ[VISIBLE]}, and run it again"
        )
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"


def choose_any_device(gpus: int) -> str:
    """As `choose_device`, to ask a finished model: on the CPU where no GPU is usable, whatever it was trained on."""
    if gpus and (problem := gpu_problem()):
        print(f"trained on a GPU; {problem}: the CPU computes the answers", file=sys.stderr)
        gpus = 0
    return choose_device(gpus)


def memory_in_use() -> dict[str, float]:
    """MB (2^20 bytes) that this process and, with a GPU, its device hold now; and the GPU's utilisation, %."""
    import torch

    values = {}
    if Path("/proc/self/statm").exists():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        values["rss_mb"] = round(pages * resource.getpagesize() / 2**20, 1)
    if torch.cuda.is_available():
        values["device_mb"] = round(torch.cuda.memory_reserved() / 2**20, 1)
        # NVIDIA's management library is not installed (nvidia-ml-py), or has an error of its own: a part of a GPU (MIG)
        # has no utilisation. No training ends for that.
        with suppress(Exception):
            values["device_utilization"] = torch.cuda.utilization()
    return values


def keep_freed_memory(keep: bool = True) -> None:
    """Let the C library keep freed memory for the next step, or give large blocks back to the system at once.

    Training frees and asks for large blocks at every step. Kept, they need not be mapped afresh; given back, they
    leave no gaps behind that only smaller blocks fit into. Measured on two cores, SmolLM2-135M, 2,048 tokens a step:
    kept 3.3 and 1.5 GB (without and with gradient checkpointing), given back 2.7 and 1.2 GB, and a third slower.
    Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    m_trim_threshold, m_top_pad, m_mmap_threshold, m_mmap_max = -1, -2, -3, -4  # malloc.h
    if keep:
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 64 * 2**20)
    else:
        libc.mallopt(m_mmap_threshold, 2**20)  # left alone, it grows with what is freed


def provenance(seed: int, inputs: dict[str, str]) -> dict[str, Any]:
    """The record that every result carries: hardware, versions, commit, seed, and input hashes."""
    return {
        "hardware": describe_hardware(),
        "versions": package_versions(),
        "commit": workflow_commit(),
        "seed": seed,
        "inputs": inputs,
    }
