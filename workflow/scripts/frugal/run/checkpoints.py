"""What every training run has in common: progress, deadline, and checkpoints that can be trusted."""

import csv
import io
import math
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer_utils import get_last_checkpoint

from frugal.errors import FrugalError, first_line
from frugal.files import files_below, read_json, sha256_file, write_json
from frugal.run.durations import format_seconds
from frugal.run.progress import PROGRESS
from frugal.run.walltime import SECONDS_TO_SAVE, seconds_left

#: The file that makes a checkpoint whole.
SEAL = "sha256.json"
#: Exit code of a run that saved its state because its time was up: run it again to go on (EX_TEMPFAIL).
EXIT_DEADLINE = 75


class DeadlineReached(Exception):
    """The run saved a checkpoint and stopped before its end."""

    def __init__(self, reason: str, state: TrainerState):
        super().__init__(f"stopped by {reason}: saved at step {state.global_step} of {state.max_steps}")


class Progress(TrainerCallback):
    """Prints where training is, ends it in time, and keeps the history and the clock across restarts.

    The seconds spent are part of the checkpointed state, so that a run that was killed and
    continued reports its own training time, not that of its last piece.

    Training saves and stops, after one step at least, when ``deadline_minutes`` are over, when its job could end
    before another step like the slowest and a checkpoint are done, or after SIGTERM.

    Attributes:
        stopped_by: why training saved and stopped before its end; None if it did not.
    """

    def __init__(
        self,
        name: str,
        deadline_minutes: float | None = None,
        unit: str = "tokens",
        advice: str = "lower training.learning_rate, or set model.compute_dtype to float32",
    ):
        self.name, self.unit, self.advice = name, unit, advice
        self.deadline = None if deadline_minutes is None else deadline_minutes * 60
        self.seconds_before = 0.0
        self.started = 0.0
        self.stopped_by: str | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier pieces included."""
        return self.seconds_before + time.monotonic() - self.started

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = self.step_ended = time.monotonic()
        self.slowest_step = 0.0
        left = seconds_left()
        self.job_ends = None if left is None else self.started + left
        self.terminated = False
        self.sigterm_before = signal.signal(signal.SIGTERM, self._on_sigterm)
        self.first_step = state.global_step
        entries = [entry for entry in state.log_history if "seconds" in entry and entry["step"] <= state.global_step]
        self.seconds_before = entries[-1]["seconds"] if entries else 0.0
        if state.global_step:
            PROGRESS.say(f"{self.name}: training continues at step {state.global_step}")
        self._begin_step(state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        logs["seconds"] = state.log_history[-1]["seconds"] = round(self.seconds, 3)
        if "loss" not in logs:
            return
        if not math.isfinite(float(logs["loss"])):
            raise FrugalError(
                f"{self.name}: the loss is {logs['loss']} at step {state.global_step}; {self.advice}. "
                "The last checkpoint is kept."
            )
        done = state.global_step - self.first_step
        remaining = (time.monotonic() - self.started) / max(done, 1) * (state.max_steps - state.global_step)
        speed = state.num_input_tokens_seen / self.seconds if self.seconds else 0
        PROGRESS.say(
            f"{self.name}: step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.4f}  "
            f"{speed:.0f} {self.unit}/s  {format_seconds(remaining)} left"
        )

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step < state.max_steps and (reason := self._reason_to_stop(args)):
            self.stopped_by = reason
            control.should_save = control.should_training_stop = True
        if control.should_save or state.global_step % args.save_steps == 0:
            control.should_log = True  # so that the checkpoint knows the seconds up to itself
        if control.should_evaluate:
            PROGRESS.begin(f"{self.name}: validation after step {state.global_step}")
        else:
            self._begin_step(state)
        return control

    def on_evaluate(self, args, state, control, **kwargs):
        self._begin_step(state)

    def _begin_step(self, state) -> None:
        if state.global_step < state.max_steps:
            PROGRESS.begin(f"{self.name}: step {state.global_step + 1} of {state.max_steps}")
        else:
            PROGRESS.begin(f"{self.name}: saving the result")

    def on_train_end(self, args, state, control, **kwargs):
        PROGRESS.begin(f"{self.name}: saving the result")
        # What has been saved needs no second SIGTERM, which would disturb the way out.
        signal.signal(signal.SIGTERM, signal.SIG_IGN if self.stopped_by else self.sigterm_before or signal.SIG_DFL)

    def _on_sigterm(self, *_):
        self.terminated = True

    def _reason_to_stop(self, args) -> str | None:
        """Why to stop now, or None; several processes stop when one of them has to.

        Each has a clock of its own: one that stopped alone would leave the others waiting for it in their next step.
        """
        now = time.monotonic()
        self.slowest_step, self.step_ended = max(self.slowest_step, now - self.step_ended), now
        reason = None
        if self.terminated:
            reason = "SIGTERM"
        elif self.deadline is not None and now - self.started > self.deadline:
            reason = "training.deadline_minutes"
        elif self.job_ends is not None and now + self.slowest_step + SECONDS_TO_SAVE > self.job_ends:
            reason = "the job's time limit"
        if args.world_size > 1:
            stop = torch.tensor(int(reason is not None), device=args.device)
            torch.distributed.all_reduce(stop, torch.distributed.ReduceOp.MAX)
            reason = reason or ("another process" if stop else None)
        return reason


def write_history(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    """Entries of a trainer's log as CSV, of ``columns`` only; what an entry does not have stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class Seal(TrainerCallback):
    """Writes into each checkpoint what its files must be; last of all, so that one without it is not whole."""

    def on_save(self, args, state, control, **kwargs):
        if args.world_size > 1:
            torch.distributed.barrier()  # each process writes the state of its random numbers itself
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(checkpoint / SEAL, _checksums(checkpoint))


def _checksums(checkpoint: Path) -> dict[str, str]:
    """Name -> SHA-256 of every file of a checkpoint but the seal."""
    files = sorted(path for path in files_below(checkpoint) if path.name != SEAL)
    return {path.relative_to(checkpoint).as_posix(): sha256_file(path) for path in files}


def train_to_the_end(trainer: Trainer, progress: Progress, checkpoints: Path, mode: AbstractContextManager) -> None:
    """Train from the last good checkpoint, if there is one, within ``mode``.

    Under torchrun every process runs this.

    Raises:
        DeadlineReached: the run's time was up first; a checkpoint holds the state.
        FrugalError: the loss is not a number.
    """
    with trainer.args.main_process_first(local=False):  # one process sets a broken checkpoint aside
        resume = last_good_checkpoint(checkpoints, trainer.args.world_size)
    with mode:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if progress.stopped_by:
        trainer.accelerator.wait_for_everyone()  # torchrun kills the others, who may still save, when one leaves
        raise DeadlineReached(progress.stopped_by, trainer.state)


def last_good_checkpoint(folder: Path, processes: int = 1) -> Path | None:
    """The newest checkpoint that is as it was saved, and its best model too; broken ones are set aside.

    Args:
        processes: how many train together; each keeps the state of its random numbers in a file of its own.
    """
    while folder.exists() and (found := get_last_checkpoint(str(folder))):
        checkpoint = Path(found)
        problem = _problem(checkpoint, processes)
        if problem is None:
            return checkpoint
        print(f"checkpoint {checkpoint} is unusable ({problem}); set aside", file=sys.stderr, flush=True)
        os.rename(checkpoint, checkpoint.with_name(f"broken-{checkpoint.name}-{time.time_ns()}"))
    return None


def _problem(checkpoint: Path, processes: int) -> str | None:
    """Why training cannot go on from a checkpoint; None if it can."""
    try:
        sealed = read_json(checkpoint / SEAL)
        found = _checksums(checkpoint)
        states = {"rng_state.pth"} if processes == 1 else {f"rng_state_{rank}.pth" for rank in range(processes)}
        if missing := (states | {"trainer_state.json"} | set(sealed)) - set(found):
            return f"{min(missing)} is missing"
        if changed := [name for name in sealed if found[name] != sealed[name]]:
            return f"{changed[0]} is damaged"
        best = read_json(checkpoint / "trainer_state.json")["best_model_checkpoint"]
        if best and Path(best).name != checkpoint.name:
            problem = _problem(checkpoint.with_name(Path(best).name), processes)
            return f"of its best model, {Path(best).name}, {problem}" if problem else None
    except (OSError, ValueError) as error:
        return "it was not saved to its end" if isinstance(error, FileNotFoundError) else first_line(error)
    return None
