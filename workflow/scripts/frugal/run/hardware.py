"""What a run ran on and what it used: the part of a result that explains its speed."""

import ctypes
import os
import platform
import resource
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from frugal.errors import FrugalError
from frugal.run.commit import workflow_commit
from frugal.run.device import cpu_capabilities
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


def describe_hardware() -> dict[str, Any]:
    """Processor, cores and memory (MB) that this process may use, and GPUs."""
    import torch

    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "instructions": cpu_capabilities().instructions,
        "cores": usable_cores(),
        "memory_mb": memory_limit_mb() or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "gpus": [{"name": gpu.name, "memory_mb": gpu.total_memory // 2**20} for gpu in gpus],
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
    return versions


def peak_rss_mb() -> float:
    """Peak resident memory of this process so far, in MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def peak_device_mb() -> float | None:
    """Peak memory allocated on the GPUs, in MB; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())) / 2**20


def choose_device(gpus: int) -> str:
    """ "cuda:0" or "cpu", by what the run asks for; other GPUs are hidden from this process, and the CPU is warmed up.

    Of several GPUs each process of torchrun has its own: "cuda:1" is the second one's.
    Call it before anything else uses CUDA.

    Args:
        gpus: of this machine.

    Raises:
        FrugalError: GPUs are asked for and not there.
    """
    import torch

    warm_up()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible[:gpus])
    if gpus == 0:
        # Accelerate numbers the processors of several processes, "cpu:0", to which torch loads nothing.
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
        return "cpu"
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found < gpus:
        raise FrugalError(
            f"training.gpus is {gpus}, but {found or 'no'} GPU{'s are' if found > 1 else ' is'} visible here; set "
            "training.gpus to 0 (and backend, where there is one, to 'transformers') to train on the CPU"
        )
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"


def memory_in_use() -> dict[str, float]:
    """MB (2^20 bytes) that this process and, with a GPU, its device hold now; and the GPU's utilisation, %."""
    import torch

    values = {}
    if Path("/proc/self/statm").exists():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        values["rss_mb"] = round(pages * resource.getpagesize() / 2**20, 1)
    if torch.cuda.is_available():
        values["device_mb"] = round(torch.cuda.memory_allocated() / 2**20, 1)
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
