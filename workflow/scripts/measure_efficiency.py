"""Speed and memory of a recommender's sizes and modes, each measured in a process of its own."""

import argparse
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from frugal.config.base import plain
from frugal.config.errors import validate
from frugal.config.recommendation import EPOCH_SAMPLES, EfficiencySettings, RecommendationRun
from frugal.errors import FrugalError, first_line, run_script
from frugal.files import write_json
from frugal.run.gpus import resolve_gpus
from frugal.run.hardware import choose_device, describe_hardware, keep_freed_memory, package_versions
from frugal.run.libraries import hide_unused, imports
from frugal.run.progress import PROGRESS

#: What a row has where the measurement failed.
UNKNOWN = dict.fromkeys(
    (
        "emulated",
        "parameters",
        "trainable_parameters",
        "trainable_share",
        "batch_size",
        "sequence_length",
        "step_seconds",
        "samples_per_second",
        "epoch_seconds",
        "peak_rss_mb",
        "peak_device_mb",
        "matmul_peak_share",
        "loss",
    )
)


def measure_here(settings: dict[str, Any], size: str, mode: str) -> dict[str, Any]:
    """The row of one measurement, made in this process; of one that failed, with the reason."""
    hide_unused(mode.rpartition("+")[2])
    keep_freed_memory()
    run = validate(RecommendationRun, settings["run"], file="--settings")
    efficiency = validate(EfficiencySettings, settings["efficiency"], file="--settings")
    try:
        with imports():
            # The device first: libraries use CUDA as they are imported.
            device = choose_device(min(1, run.training.gpus))
            from frugal.recsys.efficiency import measure

        return measure(run, efficiency, size, mode, device)
    except FrugalError as error:
        return failed(size, mode, str(error))
    except Exception as error:  # out of memory, no compiler, ...: one mode of many
        traceback.print_exc()
        return failed(size, mode, f"{type(error).__name__}: {first_line(error)}")


def measure_apart(settings: str, size: str, mode: str, timeout_minutes: float) -> dict[str, Any]:
    """The same in a process of its own, which may run out of time or be killed for its memory."""
    command = [sys.executable, __file__, "--settings", settings, "--measure", size, mode]
    # Compilation starts processes of its own: in one session, all are stopped together.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        printed, _ = process.communicate(timeout=timeout_minutes * 60)
    except subprocess.TimeoutExpired:
        return failed(size, mode, f"not finished after {timeout_minutes:g} minutes (timeout_minutes)")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode == -signal.SIGKILL:
        return failed(size, mode, "killed, probably for want of memory")
    if process.returncode:
        return failed(size, mode, f"ended with exit code {process.returncode}; its log says why")
    return json.loads(printed.splitlines()[-1])


def failed(size: str, mode: str, error: str) -> dict[str, Any]:
    return {"size": size, "mode": mode, **UNKNOWN, "error": error}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON: `run`, a resolved run, and `efficiency`")
    parser.add_argument("--output", type=Path, help="output: measurements.json")
    parser.add_argument("--measure", nargs=2, metavar=("SIZE", "MODE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        settings = json.loads(args.settings)
    except json.JSONDecodeError as error:
        raise FrugalError(f"--settings: not JSON: {error}") from None
    if args.measure:
        print(json.dumps(measure_here(settings, *args.measure)))
        return
    if args.output is None:
        parser.error("--output is required")
    run = resolve_gpus(validate(RecommendationRun, settings.get("run"), file="--settings"))
    efficiency = validate(EfficiencySettings, settings.get("efficiency"), file="--settings")
    choose_device(min(1, run.training.gpus))  # for all measurements, which inherit it
    resolved = json.dumps({"run": plain(run), "efficiency": plain(efficiency)})
    rows = []
    for size in efficiency.sizes:
        for mode in efficiency.modes:
            PROGRESS.begin(f"{size} {mode}: measuring")
            rows.append(measure_apart(resolved, size, mode, efficiency.timeout_minutes))
            row = rows[-1]
            outcome = row["error"] or f"{row['samples_per_second']:.1f} samples/s, {row['peak_rss_mb']:.0f} MB"
            PROGRESS.say(f"{size} {mode}: {outcome}")
    about = {"hardware": describe_hardware(), "versions": package_versions(), "epoch_samples": EPOCH_SAMPLES}
    write_json(args.output, {**about, "rows": rows})


if __name__ == "__main__":
    run_script(main)
