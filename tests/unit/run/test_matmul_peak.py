"""The matmul peak: measured in little time on any machine, and kept."""

import json
from types import SimpleNamespace

import pytest
import torch

from frugal.run import matmul_peak
from frugal.run.matmul_peak import BUDGET, GPU_SIZES, REPEATS, SIZES, matmul_peak_flops


class Machine:
    """A machine of constant speed; sums up the seconds that it is asked to work."""

    def __init__(self, flops, start=0.0):
        self.flops, self.start, self.seconds, self.sizes = flops, start, 0.0, []

    def __call__(self, size):
        took = 2 * size**3 / self.flops + (self.start if not self.sizes else 0)
        self.seconds += took
        self.sizes.append(size)
        return took


@pytest.mark.parametrize("flops", [1e8, 1e9, 12e9, 150e9, 2e12])
def test_a_measurement_takes_about_its_budget_at_most(flops):
    machine = Machine(flops)
    assert matmul_peak._measure(machine, SIZES) == pytest.approx(flops)
    # Beside it one uncounted matmul a size; the smallest size is always measured.
    assert machine.seconds <= 1.3 * BUDGET + 2 * SIZES[0] ** 3 / flops


def test_the_first_matmul_of_a_size_does_not_count():
    machine = Machine(150e9, start=0.3)
    assert matmul_peak._measure(machine, SIZES[:5]) == pytest.approx(150e9)
    assert machine.sizes.count(2048) == 1 + REPEATS  # .11 s each: more than SECONDS_A_SIZE together


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = []
    monkeypatch.setattr(matmul_peak, "_measure", lambda *_: measured.append(1) or 7e10)
    monkeypatch.setattr(matmul_peak, "LEAST_CPU_SHARE", 0)
    matmul_peak._kept_peak.cache_clear()
    yield tmp_path / "frugal" / "matmul_peaks.json", measured
    matmul_peak._kept_peak.cache_clear()


def test_a_peak_is_measured_once_for_each_type_and_number_of_threads(cache, monkeypatch):
    file, measured = cache
    for dtype, threads in [("float32", 1), ("bfloat16", 1), ("float32", 2)] * 2:
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        matmul_peak._kept_peak.cache_clear()  # as in the next process
        assert matmul_peak_flops(dtype) == 7e10
    assert len(measured) == 3
    assert len(json.loads(file.read_text())) == 3
    assert all(torch.__version__ in key for key in json.loads(file.read_text()))


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": "fast"}', "[" * 100_000, '{"a": -1.0, "b": 0}'])
def test_a_damaged_record_is_measured_again(cache, content):
    file, measured = cache
    file.parent.mkdir()
    file.write_text(content)
    assert matmul_peak_flops("float32") == 7e10
    assert len(measured) == 1
    assert 7e10 in json.loads(file.read_text()).values()


def test_a_peak_that_was_measured_beside_other_work_is_not_kept(cache, monkeypatch):
    file, _ = cache
    wall, cpu = iter([0.0, 1.0]), iter([0.0, 0.7 * torch.get_num_threads()])
    clocks = SimpleNamespace(perf_counter=lambda: next(wall), process_time=lambda: next(cpu))
    monkeypatch.setattr(matmul_peak, "time", clocks)
    monkeypatch.setattr(matmul_peak, "LEAST_CPU_SHARE", 0.8)
    assert matmul_peak_flops("float32") == 7e10
    assert not file.exists()


def test_a_cache_that_cannot_be_written_is_done_without(cache, monkeypatch):
    file, measured = cache
    file.parent.write_text("a file where a folder should be")
    assert matmul_peak_flops("float32") == matmul_peak_flops("float32") == 7e10
    assert len(measured) == 1


def test_a_user_without_a_home_has_no_cache(cache, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert matmul_peak_flops("float32") == 7e10


def test_the_real_peak_is_plausible(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    matmul_peak._kept_peak.cache_clear()
    assert 1e7 < matmul_peak_flops("float32") < 1e14
    matmul_peak._kept_peak.cache_clear()


def test_a_gpu_is_timed_by_its_own_events(monkeypatch):
    """Four matmuls of 8 ms between two events are 2 ms each; no clock of the CPU is read."""
    events = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            events.append("record")

        def elapsed_time(self, end):
            assert events == ["record", "record", "synchronize"]
            return 8.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: events.append("synchronize"))
    monkeypatch.setattr(matmul_peak, "time", None)
    assert matmul_peak._timer("bfloat16", "meta")(8192) == 0.002


@pytest.mark.parametrize("flops", [20e12, 65e12, 990e12])
def test_gpus_are_measured_on_wide_matrices(flops):
    """Half a millisecond to start a matmul hides the speed of small ones."""
    machine = Machine(flops)
    slow = lambda size: machine(size) + (5e-4 if size < 8192 else 0)  # noqa: E731
    assert matmul_peak._measure(slow, GPU_SIZES) > 0.5 * flops
    assert max(machine.sizes) == 8192
