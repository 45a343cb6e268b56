"""The machine's matmul peak: the speed that a training's is held against.

Measured once for each device, type and number of threads, in at most a second, and kept in the user's cache.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from frugal.files import read_json, write_json
from frugal.run.cache import user_cache
from frugal.run.device import cpu_capabilities, is_emulated

#: Seconds that the matmuls of one measurement may take together.
BUDGET = 0.7
#: Widths of the matrices. CPUs reach their peak at 2,048; a large GPU is half idle there.
SIZES = (128, 256, 512, 1024, 2048)
GPU_SIZES = (1024, 2048, 4096, 8192)
#: Matmuls between two events of a GPU: to start one takes as long as a small one.
AT_ONCE = 4
#: Matmuls of each size, at least, and seconds of them. The best counts: other processes can only make one slower.
REPEATS = 3
SECONDS_A_SIZE = BUDGET / 20
#: Of the CPU time of all threads. A process that gets less shares its cores, and keeps nothing for others.
LEAST_CPU_SHARE = 0.8


def matmul_peak_flops(dtype: str, device: str = "cpu") -> float:
    """Floating-point operations per second of a large square matmul, 2 size^3 each.

    Args:
        dtype: of the matrices and of their product, as PyTorch names it.
        device: "cpu" or "cuda:0".
    """
    return _kept_peak(dtype, device, torch.get_num_threads())


def native_peak_flops(dtype: str, device: str) -> float:
    """The matmul peak that a training in ``dtype`` is held against: float32's where a CPU emulates the type."""
    return matmul_peak_flops("float32" if device == "cpu" and is_emulated(dtype, device) else dtype, device)


@cache
def _kept_peak(dtype: str, device: str, threads: int) -> float:
    by = f"{threads} threads" if device == "cpu" else "events"
    key = f"{_device_name(device)}, {dtype}, {by}, torch {torch.__version__}"
    path = user_cache("matmul_peaks.json")
    kept = _read(path)
    if key not in kept:
        sizes = SIZES if device == "cpu" else GPU_SIZES
        clocks = time.perf_counter(), time.process_time()
        kept[key] = _measure(_timer(dtype, device), sizes)
        seconds, cpu_seconds = time.perf_counter() - clocks[0], time.process_time() - clocks[1]
        disturbed = device == "cpu" and cpu_seconds < LEAST_CPU_SHARE * threads * seconds
        with suppress(OSError):  # a cache that cannot be written: each process measures for itself
            if path is not None and not disturbed:
                write_json(path, _read(path) | kept)
    return kept[key]


def _device_name(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    features = torch.cpu.get_capabilities()
    return f"{features.get('cpu_name', features.get('architecture'))} ({cpu_capabilities().instructions})"


def _timer(dtype: str, device: str) -> Callable[[int], float]:
    """A function of a size: seconds of one matmul of matrices of that width."""

    @cache
    def matrix(size: int) -> torch.Tensor:
        return torch.randn(size, size, device=device).to(getattr(torch, dtype))

    def seconds(size: int) -> float:
        factor = matrix(size)
        start = time.perf_counter()
        factor @ factor
        return time.perf_counter() - start

    def seconds_on_gpu(size: int) -> float:
        factor = matrix(size)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(AT_ONCE):
            factor @ factor
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) / 1000 / AT_ONCE  # of milliseconds

    return seconds if device == "cpu" else seconds_on_gpu


def _measure(seconds: Callable[[int], float], sizes: Sequence[int], budget: float = BUDGET) -> float:
    """The highest speed seen, over ascending sizes for as long as the next one should fit into the budget.

    The first matmul of each size is not counted: it pays for the start of threads and the choice of a kernel.
    """
    best = spent = 0.0
    for size in sizes:
        operations = 2 * size**3
        if best and spent + (1 + REPEATS) * operations / best > budget:
            break
        seconds(size)
        took = []
        while len(took) < REPEATS or sum(took) < SECONDS_A_SIZE:
            took.append(seconds(size))
        spent += sum(took)
        best = max(best, operations / min(took))
    return best


def _read(path: Path | None) -> dict[str, float]:
    """Kept peaks by key; those of a file that is damaged are measured again."""
    try:
        kept: Any = read_json(path) if path else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(kept, dict):
        return {}
    return {key: value for key, value in kept.items() if isinstance(value, float) and 0 < value < float("inf")}
