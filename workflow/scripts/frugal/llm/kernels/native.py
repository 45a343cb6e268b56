"""Compile fused.c for this CPU at first use, and load it.

There is one build for each dtype, bfloat16 and float32, and for each instruction set. With AMX the build for bfloat16
is that of tiles.c, which includes fused.c:

* x86-64: the set that PyTorch itself uses (`torch.backends.cpu.get_cpu_capability`), so that ATEN_CPU_CAPABILITY, which
  limits a process to AVX2, also limits it here. With AVX-512: everything the compiler finds on this CPU.
* Arm and others: the baseline of the architecture, which on 64-bit Arm includes NEON.

A build is kept in the user's cache, under a hash of source, command and CPU. If compilation fails (no compiler, no
OpenMP, an error), PyTorch's operations take over after one warning.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from frugal.errors import first_line
from frugal.files import atomic_path, sha256_file
from frugal.run.cache import user_cache
from frugal.run.device import cpu_capabilities

SOURCE = Path(__file__).with_name("fused.c")
TILES = Path(__file__).with_name("tiles.c")
#: All but the first line allow sums in any order, without which loops could not be vectorised. `-ffast-math` would
#: allow it too, but also flush denormal numbers of the whole process to zero.
FLAGS = ["-O3", "-fopenmp", "-shared", "-fPIC"]
FLAGS += ["-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno", "-ffinite-math-only"]
FLAGS += ["-freciprocal-math"]
#: By the beginning of PyTorch's name for the instruction set. AVX2: the features that PyTorch checks for; compilers
#: older than GCC 11 do not know their name -march=x86-64-v3.
INSTRUCTIONS = {
    "AVX512": ["-march=native", "-mprefer-vector-width=512"],
    "AVX2": ["-mavx2", "-mfma", "-mtune=generic"],
}
DTYPES = {torch.bfloat16: ["-DBFLOAT16"], torch.float32: []}
#: Seconds; one or two are usual. A compiler that hangs must not keep a training from starting.
LONGEST_COMPILATION = 120
#: Problems that this process has already warned about.
WARNED: set[str] = set()


@cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """fused.c for arrays of ``dtype``; None, after a warning, where it cannot be compiled."""
    try:
        command = compile_command(dtype)
        folder = build_folder(command)
        return kept_build(folder) or build(command, folder)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        warn_once(
            "compilation",
            f"{SOURCE.name} could not be compiled, so PyTorch's operations take over, which are slower. Install a C "
            f"compiler with OpenMP (Debian: apt-get install gcc), or name one in CC. The error was: {reason(error)}",
        )
        return None


def compile_command(dtype: torch.dtype) -> list[str]:
    """The command that compiles fused.c, without its output file.

    Raises:
        ValueError: CC cannot be read.
    """
    return [
        *shlex.split(os.environ.get("CC") or "cc"),
        *FLAGS,
        *instruction_flags(),
        *DTYPES[dtype],
        str(source(dtype)),
        "-lm",
    ]


def source(dtype: torch.dtype) -> Path:
    return TILES if dtype == torch.bfloat16 and cpu_capabilities().instructions == "AMX" else SOURCE


def instruction_flags() -> list[str]:
    capability = torch.backends.cpu.get_cpu_capability()
    return next((flags for name, flags in INSTRUCTIONS.items() if capability.startswith(name)), [])


def build_folder(command: list[str]) -> Path | None:
    """The folder that keeps the build of ``command``; None for a user without a home folder."""
    fingerprint = SOURCE.read_bytes() + TILES.read_bytes() + " ".join(command).encode() + cpu_features().encode()
    return user_cache(f"fused-{hashlib.sha256(fingerprint).hexdigest()[:16]}")


def cpu_features() -> str:
    """CPU feature fingerprint, so that nodes that share a home do not load a build for another CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
    except OSError:
        lines = []
    return platform.machine() + "".join(
        sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    )


def build(command: list[str], folder: Path | None) -> ctypes.CDLL:
    """Compile, keep the result in ``folder`` if it can be written, and load it.

    Raises:
        OSError: there is no compiler, or its output cannot be loaded.
        SubprocessError: the compiler failed.
    """
    not_kept: Exception | None = None
    with tempfile.TemporaryDirectory(prefix="frugal-") as temporary:
        compiled = Path(temporary, "fused.so")
        subprocess.run(
            [*command, "-o", compiled], check=True, capture_output=True, text=True, timeout=LONGEST_COMPILATION
        )
        try:
            if folder is None:
                raise OSError("this user has no home folder; set XDG_CACHE_HOME")
            keep(compiled, folder)
        except OSError as error:
            not_kept = error
        # Another process may have kept its own build at the same moment, which serves as well.
        if loaded := kept_build(folder):
            return loaded
        loaded = ctypes.CDLL(str(compiled))  # stays loaded when the file is gone
        if not_kept:
            warn_once(
                "cache", f"the compiled {SOURCE.name} cannot be kept, so each process compiles it: {reason(not_kept)}"
            )
        return loaded


def keep(compiled: Path, folder: Path) -> None:
    with atomic_path(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / "fused.so").write_bytes(compiled.read_bytes())
        (unfinished / "sha256").write_text(sha256_file(compiled))


def kept_build(folder: Path | None) -> ctypes.CDLL | None:
    """The build in ``folder``; None if it is missing or damaged: loading half a file could crash the process."""
    try:
        if folder is None or sha256_file(folder / "fused.so").encode() != (folder / "sha256").read_bytes():
            return None
        return ctypes.CDLL(str(folder / "fused.so"))
    except OSError:
        return None


def reason(error: Exception) -> str:
    """The compiler's first error, or the exception's text."""
    output = getattr(error, "stderr", None) or ""
    lines = [line for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else first_line(error))


def warn_once(problem: str, message: str) -> None:
    """Log a warning unless this process has already logged one about the same ``problem``."""
    if problem not in WARNED:
        WARNED.add(problem)
        logging.getLogger(__name__).warning(message)
