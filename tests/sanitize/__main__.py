"""fused.c under the sanitizers: wrong addresses, undefined behaviour, races between threads, and wrong values.

`driver.c` calls every function with odd sizes and compares with plain sums in double. Addresses and undefined
behaviour are checked by the C compiler (CC); races by clang with LLVM's OpenMP and Archer, which knows of OpenMP's
barriers: ThreadSanitizer alone, or with GCC's libgomp, takes each parallel loop for a race.
"""

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow/scripts"))

from frugal.errors import FrugalError, run_script
from frugal.llm.kernels.native import FLAGS, SOURCE

DRIVER = Path(__file__).with_name("driver.c")
CLANG = "clang: apt-get install clang libomp-dev libclang-rt-14-dev"
DTYPES = {"bfloat16": ["-DBFLOAT16"], "float32": []}
INSTRUCTIONS = {"native": ["-march=native"]}
if platform.machine() == "x86_64":
    INSTRUCTIONS["AVX2"] = ["-mavx2", "-mfma"]
SANITIZERS = {
    "none": [],
    "address, undefined": ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}


def compiler(sanitizer: str) -> list[str]:
    return ["clang"] if sanitizer == "thread" else shlex.split(os.environ.get("CC") or "cc")


def archer() -> Path:
    """LLVM's tool that tells ThreadSanitizer of OpenMP's barriers.

    Raises:
        FrugalError: it is not installed.
    """
    try:
        command = ["clang", "-print-resource-dir"]  # LLVM's lib/clang/<version>
        resources = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        raise FrugalError(f"races are looked for with {CLANG}") from None
    path = resources.parents[1] / "libarcher.so"
    if not path.exists():
        raise FrugalError(f"{path} is missing; {CLANG}")
    return path


def check(sanitizer: str, instructions: str, dtype: str, source: Path) -> str:
    """Build and run; returns what was found, "" where nothing was.

    Raises:
        FrugalError: it cannot be built.
    """
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC")]
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "UBSAN_OPTIONS": "print_stacktrace=1"}
    if sanitizer == "thread":
        environment |= {"OMP_TOOL_LIBRARIES": str(archer()), "TSAN_OPTIONS": "ignore_noninstrumented_modules=1"}
    with tempfile.TemporaryDirectory(prefix="frugal-sanitize-") as folder:
        program = f"{folder}/driver"
        build = [*compiler(sanitizer), "-g", "-w", *flags, *INSTRUCTIONS[instructions], *SANITIZERS[sanitizer]]
        build += [*DTYPES[dtype], f"-I{source.parent}", str(DRIVER), "-lm", "-o", program]
        built = subprocess.run(build, capture_output=True, text=True)
        if built.returncode:
            raise FrugalError(f"{shlex.join(build)} failed:\n{built.stderr[-2000:]}")
        result = subprocess.run([program], env=environment, capture_output=True, text=True)
    return "" if result.returncode == 0 else result.stdout + result.stderr or f"exit code {result.returncode}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/sanitize", description=__doc__)
    parser.add_argument("--only", choices=SANITIZERS, action="append", help="may be repeated")
    parser.add_argument("--instructions", choices=INSTRUCTIONS, action="append", help="may be repeated")
    parser.add_argument("--source", type=Path, default=SOURCE, help="another fused.c")
    options = parser.parse_args()
    found = {}
    for sanitizer in options.only or SANITIZERS:
        for instructions in options.instructions or INSTRUCTIONS:
            for dtype in DTYPES:
                began = time.monotonic()
                name = f"{sanitizer:20} {instructions:8} {dtype:9}"
                found[name] = check(sanitizer, instructions, dtype, options.source)
                print(f"{name} {'FOUND' if found[name] else 'ok':6} {time.monotonic() - began:5.1f} s", flush=True)
    for name, text in found.items():
        if text:
            print(f"\n{name}\n{text[:4000]}")
    return int(any(found.values()))


if __name__ == "__main__":
    run_script(main)
