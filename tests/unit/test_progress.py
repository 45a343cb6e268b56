"""A line of progress at least every 20 seconds, by a clock that a test turns."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from frugal.errors import run_script
from frugal.run import checkpoints as training
from frugal.run import heartbeat
from frugal.run.checkpoints import Progress
from frugal.run.heartbeat import Heartbeat
from frugal.run.progress import PROGRESS, ProgressPrinter

ALONE = SimpleNamespace(world_size=1, device=torch.device("cpu"), save_steps=10)


class Clock:
    """Time that passes when a test says so, and looks at the printer every second of it."""

    def __init__(self):
        self.now = 100.0
        self.printer = ProgressPrinter(lambda: self.now)

    def pass_seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.printer.look()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(training, "PROGRESS", clock.printer)
    monkeypatch.setattr(heartbeat, "PROGRESS", clock.printer)
    return clock


def test_no_twenty_seconds_without_a_line(clock, capsys):
    clock.printer.begin("climate/tuned: loading the model")
    printed = []
    for second in range(100):
        clock.pass_seconds(1)
        printed += [second] * bool(capsys.readouterr().err)
    assert max(after - before for before, after in zip([0, *printed], printed, strict=False)) < 20
    assert len(printed) < 10


def test_a_line_says_what_takes_how_long(clock, capsys):
    clock.printer.begin("climate/tuned: loading the model")
    clock.pass_seconds(15)
    assert capsys.readouterr().err == "climate/tuned: loading the model, 0:15 so far\n"
    clock.printer.say("climate/tuned: computes in float32")
    clock.printer.begin("climate/tuned: step 1 of 8")
    clock.pass_seconds(75)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "climate/tuned: computes in float32"
    assert lines[-1] == "climate/tuned: step 1 of 8, 1:15 so far"


def test_nothing_is_printed_while_other_lines_come_or_nothing_is_under_way(clock, capsys):
    clock.pass_seconds(100)
    clock.printer.begin("climate/tuned: step 1 of 8")
    for _ in range(10):
        clock.printer.say("climate/tuned: a line")
        clock.pass_seconds(14)
    assert set(capsys.readouterr().err.splitlines()) == {"climate/tuned: a line"}


def test_a_terminal_that_is_gone_ends_nothing(clock, monkeypatch):
    def broken(_):
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=broken))
    clock.printer.begin("climate/tuned: step 1 of 8")
    clock.pass_seconds(100)
    assert clock.printer.activity is not None


def test_each_part_of_a_training_has_its_line(clock, capsys):
    def silence():
        clock.pass_seconds(20)
        return capsys.readouterr().err.splitlines()[-1]

    state, control = TrainerState(global_step=0, max_steps=3), TrainerControl()
    progress = Progress("wikitext/tuned")
    progress.on_train_begin(ALONE, state, control)
    assert silence() == "wikitext/tuned: step 1 of 3, 0:15 so far"
    state.global_step = 1
    progress.on_step_end(ALONE, state, control)
    assert silence().startswith("wikitext/tuned: step 2 of 3, ")
    state.global_step, control.should_evaluate = 2, True
    progress.on_step_end(ALONE, state, control)
    assert silence().startswith("wikitext/tuned: validation after step 2, ")
    progress.on_evaluate(ALONE, state, control)
    assert silence().startswith("wikitext/tuned: step 3 of 3, ")
    progress.on_train_end(ALONE, state, control)
    assert silence().startswith("wikitext/tuned: saving the result, ")


def test_a_long_step_keeps_the_file_of_make_status_fresh(clock, tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now))
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    state = TrainerState(global_step=4, max_steps=8, is_world_process_zero=True)
    beat, file = Heartbeat(), tmp_path / "progress.json"
    beat.on_train_begin(arguments, state, TrainerControl())
    clock.printer.begin("wikitext/tuned: step 5 of 8")
    clock.pass_seconds(3600)
    news = json.loads(file.read_text())
    assert clock.now - news["at"] < 10
    assert news["step"] == 4
    beat.on_train_end(arguments, state, TrainerControl())
    file.unlink()
    clock.pass_seconds(60)
    assert not file.exists()


def test_scripts_look_at_the_clock():
    code = "import sys, time; from frugal.errors import run_script; from frugal.run.progress import PROGRESS\n"
    code += "PROGRESS.SILENCE = PROGRESS.LOOK = 0.05; PROGRESS.begin('a long step')\n"
    code += "run_script(lambda: time.sleep(1))"
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path}\n{code}"]
    assert "a long step, 0:00 so far\n" in subprocess.run(command, capture_output=True, text=True, check=True).stderr


def test_the_clock_stops_with_the_script():
    with pytest.raises(SystemExit):
        run_script(lambda: PROGRESS.begin("a step"))
    assert PROGRESS.activity is None
    assert PROGRESS.ended.is_set()
