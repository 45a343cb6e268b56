"""Trainings that stop before they are stopped: a SLURM job's time limit, SIGTERM, and both among several processes."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from frugal.run import checkpoints as training
from frugal.run import walltime
from frugal.run.checkpoints import Progress

ALONE = SimpleNamespace(world_size=1, device=torch.device("cpu"), save_steps=10)
TWO = SimpleNamespace(world_size=2, device=torch.device("cpu"), save_steps=10)


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A `squeue` that answers as told, for job 7."""

    def answer(text, code=0):
        program = tmp_path / "squeue"
        program.write_text(
            f'#!/bin/sh\n[ "$*" = "--noheader --jobs 7 --format %e" ] && [ "$SLURM_TIME_FORMAT" = %s ] || exit 9\n'
            f"echo '{text}'\nexit {code}\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "7")

    return answer


def test_slurm_knows_when_its_job_ends(squeue):
    end = int(time.time()) + 500
    squeue(end)
    before = time.time()
    left = walltime.seconds_left()
    assert end - time.time() <= left <= end - before


@pytest.mark.parametrize("text", ["NONE", "N/A", ""])
def test_a_job_without_a_limit(squeue, text, capsys):
    squeue(text)
    assert walltime.seconds_left() is None
    assert capsys.readouterr().err == ""


def test_slurm_that_does_not_answer_is_no_reason_to_stop(squeue, capsys):
    squeue("slurm_load_jobs error", code=1)
    assert walltime.seconds_left() is None
    assert "the time limit of SLURM job 7 is not known" in capsys.readouterr().err


def test_outside_of_slurm_nobody_is_asked(squeue, monkeypatch):
    squeue("1")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert walltime.seconds_left() is None


@pytest.fixture
def begin(monkeypatch):
    """A training that has just begun, in a job that ends after so many seconds."""
    started = []

    def start(left=None, **options):
        monkeypatch.setattr(training, "seconds_left", lambda: left)
        progress = Progress("test", **options)
        progress.on_train_begin(ALONE, TrainerState(), TrainerControl())
        started.append(progress)
        return progress

    yield start
    for progress in reversed(started):
        progress.on_train_end(ALONE, None, None)


def after_step(progress, args=ALONE, step=1):
    return progress.on_step_end(args, TrainerState(global_step=step, max_steps=5), TrainerControl())


@pytest.mark.parametrize(("left", "stops"), [(None, False), (500, False), (59, True), (-5, True)])
def test_a_job_is_left_before_it_ends(begin, left, stops):
    progress = begin(left)
    control = after_step(progress)
    assert control.should_save == control.should_training_stop == stops
    assert progress.stopped_by == ("the job's time limit" if stops else None)


def test_another_step_must_fit(begin):
    """The slowest step took 100 s: with 150 s left there is no time for one more and for saving."""
    progress = begin(150)
    progress.step_ended -= 100
    assert after_step(progress).should_training_stop
    quick = begin(150)
    assert not after_step(quick).should_training_stop


def test_the_last_step_needs_no_checkpoint(begin):
    progress = begin(0)
    assert not after_step(progress, step=5).should_training_stop
    assert progress.stopped_by is None


def test_sigterm_saves(begin):
    progress = begin()
    assert not after_step(progress).should_training_stop
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)  # SLURM and torchrun send it both
    control = after_step(progress)
    assert control.should_save
    assert control.should_training_stop
    assert progress.stopped_by == "SIGTERM"


def test_a_finished_training_leaves_sigterm_as_it_was(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    progress = Progress("test")
    progress.on_train_begin(ALONE, TrainerState(), TrainerControl())
    assert signal.getsignal(signal.SIGTERM) != before
    progress.on_train_end(ALONE, None, None)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("mine", "others", "reason"),
    [(0, 1, "another process"), (1, 1, "training.deadline_minutes"), (1, 0, "training.deadline_minutes"), (0, 0, None)],
)
def test_one_that_must_stop_stops_all(begin, monkeypatch, mine, others, reason):
    def all_reduce(stop, operation):
        assert operation == torch.distributed.ReduceOp.MAX
        assert int(stop) == mine
        stop.fill_(max(mine, others))

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    progress = begin(deadline_minutes=0 if mine else 1e9)
    control = after_step(progress, TWO)
    assert progress.stopped_by == reason
    assert control.should_save == control.should_training_stop == (reason is not None)
