"""What a training says of itself while it runs, for `make status` to read."""

import os
import platform
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from frugal.files import write_json
from frugal.run.hardware import memory_in_use
from frugal.run.outputs import PROGRESS_FILE
from frugal.run.progress import PROGRESS


class Heartbeat(TrainerCallback):
    """Writes step, loss, time left and memory into the folder of checkpoints, at most every few seconds.

    The first of several processes speaks for all. A file that cannot be written ends no training. In a long step
    `frugal.run.progress` has it written, from its thread.
    """

    EVERY = 5.0

    def __init__(self):
        self.loss: float | None = None
        self.lock = threading.RLock()

    def on_train_begin(self, args, state, control, **kwargs):
        self.started, self.first_step = time.monotonic(), state.global_step
        self._write(args, state)
        PROGRESS.watcher = lambda: self._write_if_due(args, state)

    def on_train_end(self, args, state, control, **kwargs):
        PROGRESS.watcher = None

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.loss = float(logs["loss"])
            self._write(args, state)

    def on_step_end(self, args, state, control, **kwargs):
        self._write_if_due(args, state)

    on_prediction_step = on_step_end

    def _write_if_due(self, args, state) -> None:
        with self.lock:
            if time.monotonic() - self.written > self.EVERY:
                self._write(args, state)

    def _write(self, args, state) -> None:
        with self.lock:
            self.written = time.monotonic()
            self._write_now(args, state)

    def _write_now(self, args, state) -> None:
        if not state.is_world_process_zero:
            return
        done = state.global_step - self.first_step
        seconds = self.written - self.started
        news: dict[str, Any] = {
            "host": platform.node(),
            "pid": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID"),
            "at": time.time(),
            "step": state.global_step,
            "steps": state.max_steps,
            "loss": self.loss,
            "seconds_left": seconds / done * (state.max_steps - state.global_step) if done else None,
            **memory_in_use(),
        }
        with suppress(OSError, ValueError):  # ValueError: a loss that is no number
            write_json(Path(args.output_dir) / PROGRESS_FILE, news)
