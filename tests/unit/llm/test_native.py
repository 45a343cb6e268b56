"""fused.c compiled at first use: what is kept, what is compiled again, and what happens where it cannot be."""

import os
import shutil
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from frugal.llm.kernels import fused, native

SLOWER = "PyTorch's operations take over"


@pytest.fixture
def builds(tmp_path, monkeypatch):
    """The folder of a user who has compiled nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache" / "frugal"
    forget()


@pytest.fixture
def compiler(builds):
    if native.library(torch.float32) is None:
        pytest.skip("fused.c could not be compiled: apt-get install gcc")


def forget():
    """As a new process."""
    native.library.cache_clear()
    native.WARNED.clear()


def a_norm() -> list:
    return fused.rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([2.0, 8.0]), 3.5).tolist()


def test_it_is_compiled_once_for_each_dtype(builds, compiler):
    (folder,) = builds.iterdir()
    before = (folder / "fused.so").stat().st_mtime_ns
    forget()
    assert native.library(torch.float32) is not None
    assert [each.stat().st_mtime_ns for each in builds.glob("*/fused.so")] == [before]
    native.library(torch.bfloat16)
    assert len(list(builds.iterdir())) == 2


@pytest.mark.parametrize("other", ["cpu_features", "instruction_flags", "SOURCE"])
def test_another_cpu_command_or_source_has_a_build_of_its_own(builds, compiler, monkeypatch, tmp_path, other):
    """The nodes of a cluster share the folder."""
    copy = tmp_path / "fused.c"
    copy.write_text(native.SOURCE.read_text() + "\n")
    changed = {"cpu_features": lambda: "another", "instruction_flags": list, "SOURCE": copy}
    monkeypatch.setattr(native, other, changed[other])
    forget()
    assert native.library(torch.float32) is not None
    assert len(list(builds.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"\x7fELF", b"not a library"])
@pytest.mark.parametrize("file", ["fused.so", "sha256"])
def test_a_damaged_build_is_made_again(builds, compiler, caplog, file, damage):
    (folder,) = builds.iterdir()
    whole = (folder / file).read_bytes()
    (folder / file).unlink()  # not in place: this process has it loaded
    (folder / file).write_bytes(damage)
    forget()
    assert native.library(torch.float32) is not None
    assert (folder / file).read_bytes() == whole
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/no/such/compiler", "No such file"),
        ("false", "returned non-zero exit status 1"),
        ("sh -c 'echo fused.c: warning >&2; echo error: no OpenMP here >&2; exit 1'", "error: no OpenMP here"),
        ("sh -c 'for file; do :; done; echo garbage > $file' -", "file too short"),
        ("true", "cannot open shared object file"),  # writes nothing
        ("cc -fno-such-flag", "no-such-flag"),
        ("'", "No closing quotation"),
    ],
)
def test_without_a_compiler_that_works_pytorch_takes_over(builds, monkeypatch, caplog, compiler, reason):
    monkeypatch.setenv("CC", compiler)
    for dtype in native.DTYPES:
        assert native.library(dtype) is None
    assert a_norm() == [[1.5, 8]]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert SLOWER in caplog.text
    assert reason in caplog.text


def test_a_compiler_that_hangs_is_given_up(builds, monkeypatch, caplog):
    monkeypatch.setattr(native, "compile_command", lambda dtype: ["sh", "-c", "exec sleep 60"])
    monkeypatch.setattr(native, "LONGEST_COMPILATION", 0.1)
    assert native.library(torch.float32) is None
    assert "timed out after 0.1 seconds" in caplog.text


def test_a_cache_that_cannot_be_written(builds, compiler, monkeypatch, caplog):
    for folder in builds.iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    builds.rmdir()
    builds.write_text("a file where the folder should be")
    forget()
    for dtype in native.DTYPES:
        assert native.library(dtype) is not None
    assert a_norm() == [[1.5, 8]]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "cannot be kept, so each process compiles it" in caplog.text
    assert str(builds) in caplog.text


def test_a_user_without_a_home(builds, compiler, monkeypatch, caplog):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    forget()
    assert native.library(torch.float32) is not None
    assert "this user has no home folder; set XDG_CACHE_HOME" in caplog.text


def compile_and_norm(started) -> list:
    started.wait()
    return [a_norm(), native.library(torch.float32) is not None]


def test_processes_that_compile_at_once(builds, compiler):
    """They agree on one build, and each has one."""
    for folder in builds.iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    context = get_context("spawn")
    with context.Manager() as manager, context.Pool(3) as pool:
        barrier = manager.Barrier(3)
        found = pool.map(compile_and_norm, [barrier] * 3, chunksize=1)
    assert found == [[[[1.5, 8]], True]] * 3
    assert len([path for path in builds.iterdir() if not path.name.startswith(".")]) == 1


@pytest.mark.parametrize(
    ("capability", "flags"),
    [
        ("AVX512", ["-march=native", "-mprefer-vector-width=512"]),
        ("AVX2", ["-mavx2", "-mfma", "-mtune=generic"]),
        ("DEFAULT", []),
        ("NO AVX", []),
        ("SVE256", []),
    ],
)
def test_instructions_are_those_that_pytorch_uses(monkeypatch, capability, flags):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert native.instruction_flags() == flags


def test_a_process_that_is_held_to_avx2_uses_nothing_newer(builds):
    """As ATEN_CPU_CAPABILITY holds it: no register of AVX-512 is in what it compiled."""
    program = "import torch; from frugal.llm.kernels import native; print(torch.backends.cpu.get_cpu_capability()); "
    program += "exit(native.library(torch.float32) is None)"
    environment = os.environ | {
        "ATEN_CPU_CAPABILITY": "avx2",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    if not shutil.which("cc") or run.stdout.strip() not in ("", "AVX2"):
        pytest.skip("no compiler, or no AVX2 in this CPU")
    assert run.returncode == 0, run.stderr
    (built,) = builds.glob("*/fused.so")
    try:
        code = subprocess.run(["objdump", "-d", built], capture_output=True, text=True, check=True).stdout
    except OSError:
        pytest.skip("no objdump: apt-get install binutils")
    assert "%ymm" in code
    assert "%zmm" not in code
    assert "%k1" not in code
