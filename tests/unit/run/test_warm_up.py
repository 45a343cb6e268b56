"""MKL's vector functions know the CPU before two threads can ask for it at once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

LIBRARY = Path(torch.__path__[0]) / "lib/libtorch_cpu.so"
DETECT = "mkl_vml_serv_cpu_detect"
#: Prints the CPU's type as MKL's vector functions keep it (-1: not known yet) before and after a line of code, the
#: type that MKL finds, and the number of threads.
PROGRAM = """
import ctypes, sys, torch
detect = getattr(ctypes.CDLL(sys.argv[1]), sys.argv[2])
kept = ctypes.c_int.from_address(ctypes.cast(detect, ctypes.c_void_p).value + int(sys.argv[3]))
before = kept.value
{}
print(before, kept.value, detect(), torch.get_num_threads())
"""


@pytest.fixture(scope="module")
def kept_after():
    """The type that is kept before and after a line of code, the type found, and how many threads there are."""
    try:
        symbols = subprocess.run(["nm", LIBRARY], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nm, which finds MKL's variable, is not here (Debian: binutils), or the library is not")
    places = dict(re.findall(rf"^(\w+) . ({DETECT}(?:\.vml_cpu_type)?)$", symbols, re.MULTILINE))
    places = {name: int(place, 16) for place, name in places.items()}
    if len(places) != 2:
        pytest.skip("this PyTorch has no MKL, or one that keeps the CPU's type elsewhere")
    offset = places[f"{DETECT}.vml_cpu_type"] - places[DETECT]

    def run(line: str) -> list[int]:
        command = [sys.executable, "-c", PROGRAM.format(line), LIBRARY, DETECT, str(offset)]
        environment = {**os.environ, "PYTHONPATH": "workflow/scripts"}
        output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        return [int(word) for word in output.split()]

    return run


def test_choosing_a_device_settles_what_threads_would_race_for(kept_after):
    before, kept, _, usual = kept_after("")
    assert [before, kept] == [-1, -1]
    before, kept, found, threads = kept_after("from frugal.run.hardware import choose_device; choose_device(0)")
    assert before == -1
    assert kept == found
    assert threads == usual
