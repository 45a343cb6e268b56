"""What every training run has in common: progress, deadline, and checkpoints that can be trusted."""

import csv
import io
import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from frugal.errors import FrugalError

#: Exit code of a run that saved its state because its deadline came: run it again to go on (EX_TEMPFAIL).
EXIT_DEADLINE = 75


class DeadlineReached(Exception):
    """The run saved a checkpoint and stopped before its end."""


class Progress(TrainerCallback):
    """Prints where training is, and keeps the history and the clock across restarts.

    The seconds spent are part of the checkpointed state, so that a run that was killed and
    continued reports its own training time, not that of its last piece.
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
        self.stopped_early = False

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier pieces included."""
        return self.seconds_before + time.monotonic() - self.started

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.monotonic()
        self.first_step = state.global_step
        entries = [entry for entry in state.log_history if "seconds" in entry and entry["step"] <= state.global_step]
        self.seconds_before = entries[-1]["seconds"] if entries else 0.0
        if state.global_step:
            print(f"{self.name}: training continues at step {state.global_step}", file=sys.stderr, flush=True)

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
        print(
            f"{self.name}: step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.4f}  "
            f"{speed:.0f} {self.unit}/s  {format_seconds(remaining)} left",
            file=sys.stderr,
            flush=True,
        )

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step < state.max_steps and self._deadline_came(args):
            self.stopped_early = control.should_save = control.should_training_stop = True
        if control.should_save or state.global_step % args.save_steps == 0:
            control.should_log = True  # so that the checkpoint knows the seconds up to itself
        return control

    def _deadline_came(self, args) -> bool:
        """Whether to stop now; of several processes the first one's clock decides.

        Each has a clock of its own: one that stopped alone would leave the others waiting for it in their next step.
        """
        if self.deadline is None:
            return False
        late = time.monotonic() - self.started > self.deadline
        if args.world_size > 1:
            decision = torch.tensor(int(late), device=args.device)
            torch.distributed.broadcast(decision, src=0)
            late = bool(decision)
        return late


def format_seconds(seconds: float) -> str:
    """``75`` as ``1:15``, ``3700`` as ``1:01:40``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def write_history(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    """Entries of a trainer's log as CSV, of ``columns`` only; what an entry does not have stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def last_good_checkpoint(folder: Path, processes: int = 1) -> Path | None:
    """The newest checkpoint whose files are all there and readable; broken ones are set aside.

    Args:
        processes: how many train together; each keeps the state of its random numbers in a file of its own.
    """
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    while folder.exists() and (found := get_last_checkpoint(str(folder))):
        checkpoint = Path(found)
        try:
            for name in ("trainer_state.json", "optimizer.pt", "scheduler.pt", *states):
                if (checkpoint / name).stat().st_size == 0:
                    raise OSError(f"{name} is empty")
            torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
            return checkpoint
        except Exception as error:
            print(f"checkpoint {checkpoint} is unusable ({error}); set aside", file=sys.stderr, flush=True)
            os.rename(checkpoint, checkpoint.with_name(f"broken-{checkpoint.name}-{time.time_ns()}"))
    return None
