"""The memory ladder: memory and speed of each rung, and the largest batch within the budget.

Each measurement runs in a separate process. On the CPU this script watches that process and stops it when its resident
memory exceeds the budget: a limit on address space (ulimit -v) would count memory that is never touched. On a GPU the
process limits itself. A process that runs out of memory is a data point; one that fails otherwise is an error.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from frugal.config.base import plain
from frugal.config.errors import validate
from frugal.config.language_modeling import LadderSettings, LanguageModelingRun
from frugal.errors import FrugalError, run_script
from frugal.files import read_json, sha256_file, sha256_tree, write_json
from frugal.fingerprint import code_hash, fingerprint
from frugal.llm.memory.ladder import Probe, Rung, climb, search_largest_batch, upwards
from frugal.run.device import is_emulated, resolve_compute_dtype
from frugal.run.gpus import resolve_gpus
from frugal.run.hardware import choose_device, describe_hardware
from frugal.run.progress import PROGRESS

CHILD = Path(__file__).with_name("measure_memory.py")
POLL_SECONDS = 0.05
#: Factor that a guess adds to the estimate: memory has gaps, and more of them for larger batches.
MARGIN = 1.05
#: The figures of a rung that ran out of memory.
UNKNOWN = dict.fromkeys(
    (
        "peak_mb",
        "baseline_mb",
        "tokens_per_second",
        "matmul_peak_share",
        "loss",
        "trainable_parameters",
        "parameters",
        "adapter_mb",
    )
)


class Ladder:
    """The measurements of all rungs: their model, blocks, settings, and a folder for their files."""

    def __init__(self, base_model: Path, blocks: Path, ladder: LadderSettings, length: int, device: str, work: Path):
        from transformers import AutoConfig

        self.base_model, self.blocks, self.ladder, self.length = base_model, blocks, ladder, length
        self.device, self.work = device, work
        if not (base_model / "config.json").exists():
            raise FrugalError(f"{base_model}: no config.json; make the model again: snakemake --forcerun prepare_model")
        self.config = AutoConfig.from_pretrained(base_model, local_files_only=True, trust_remote_code=False)
        work.mkdir(parents=True, exist_ok=True)

    def estimate(self, rung: Rung, batch_size: int) -> Any:
        from frugal.llm.memory.estimate import estimate

        return estimate(
            self.config,
            rung.run,
            method=rung.method,
            batch_size=batch_size,
            sequence_length=self.length,
            device=self.device,
        )

    def measure_in_process(self, rung: Rung, sizes: list[int], measure: bool = False) -> list[dict[str, Any]]:
        """Measure ascending batch sizes within the budget in one process, up to the first that does not fit.

        Args:
            measure: begin with the measurement of the rung itself, without the budget. It shares the process because
                starting the process takes most of a small model's measurement.

        Raises:
            FrugalError: the process failed for another reason than memory.
        """
        settings, output, log = (self.work / f"{rung.name}.{end}" for end in ("settings.json", "out.json", "log"))
        write_json(settings, {"run": plain(rung.run), "method": rung.method})
        output.unlink(missing_ok=True)
        command = [sys.executable, CHILD, "--settings", settings, "--base-model", self.base_model]
        command += ["--blocks", self.blocks, "--output", output]
        if measure:
            command += ["--batch-size", self.ladder.batch_size, "--steps", self.ladder.steps]
        if sizes:
            # With full fine-tuning, the optimiser's states exist from the second step on; an adapter's are small.
            command += ["--search", *sizes, "--search-steps", 2 if rung.method == "full" else 1]
            command += ["--memory-budget-mb", self.ladder.memory_budget_mb]

        def budget_mb() -> float | None:
            """The memory that the process may use now; None while it measures and when it is about to end."""
            if self.device != "cpu" or not sizes:
                return None
            done = read_json(output) if output.exists() else []
            if (measure and not done) or (done and not done[-1]["fits"]):
                return None
            return self.ladder.memory_budget_mb

        requested = [*([self.ladder.batch_size] if measure else []), *sizes]
        PROGRESS.begin(f"ladder: {rung.name}: measuring batch size {', '.join(map(str, requested))}")
        code, peak, stopped = watch([str(part) for part in command], log, budget_mb)
        results = read_json(output) if output.exists() else []
        if len(results) == len(requested) or (results and not results[-1]["fits"]):
            return results
        batch_size = requested[len(results)]
        if stopped or code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            reached = peak if self.device == "cpu" else None
            return [*results, {"batch_size": batch_size, "fits": False, "killed": True, "peak_mb": reached}]
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
        raise FrugalError(f"ladder: {rung.name}, batch size {batch_size}: {reason} (log: {log})")

    def measure_rung(self, rung: Rung, shift: float) -> dict[str, Any]:
        """A row of measurements.json.

        Args:
            shift: MB by which the estimate is expected to be too low.
        """
        ladder, limit = self.ladder, self.ladder.largest_batch_limit
        sizes = []
        if ladder.search and ladder.batch_size < limit:
            sizes = upwards(self.guess(rung, shift, ladder.batch_size, limit + 1), limit + 1)
        measured, *found = self.measure_in_process(rung, sizes, measure=True)
        row = {
            "rung": rung.name,
            "changed": rung.changed,
            "emulated": is_emulated(rung.run.model.compute_dtype, self.device),
            **{key: measured.get(key) for key in UNKNOWN},
            "estimate": self.estimate(rung, ladder.batch_size).as_dict(),
            "largest_batch": None,
            "probes": [],
            "note": None,
            "error": None,
        }
        if measured["peak_mb"] is None or measured.get("killed"):
            row |= {"peak_mb": None, "error": "the machine has too little memory for this rung"}
        if ladder.search:
            row["largest_batch"], row["probes"] = self.search(rung, row["peak_mb"], found)
            if row["largest_batch"] == 0:
                row["note"] = f"not even one block fits {ladder.memory_budget_mb} MB (ladder.memory_budget_mb)"
        return row

    def guess(self, rung: Rung, shift: float, low: int, high: int) -> int:
        """The largest batch below ``high`` that should fit by the shifted estimate, at least ``low`` + 1.

        A guess that is too low costs another step, one that is too high another process: so it errs on the low side.
        """
        guess = low
        while (
            guess + 1 < high and MARGIN * self.estimate(rung, guess + 1).total + shift <= self.ladder.memory_budget_mb
        ):
            guess += 1
        return max(guess, low + 1)

    def search(
        self, rung: Rung, peak_mb: float | None, found: list[dict[str, Any]]
    ) -> tuple[int, list[dict[str, Any]]]:
        """The largest batch within the budget, and all probes: the rung's own, those in ``found``, and further ones."""
        budget, limit, known = self.ladder.memory_budget_mb, self.ladder.largest_batch_limit, self.ladder.batch_size
        fits = peak_mb is not None and peak_mb <= budget
        low, high = (min(known, limit), limit + 1) if fits else (0, min(known, limit + 1))
        tried = [Probe(known, fits, peak_mb)]
        for one in found:
            tried.append(as_probe(one))
            low, high = (tried[-1].batch_size, high) if tried[-1].fits else (low, tried[-1].batch_size)
        shift = 0 if peak_mb is None else peak_mb - self.estimate(rung, known).total

        def probe(sizes: list[int]) -> list[Probe]:
            return [as_probe(one) for one in self.measure_in_process(rung, sizes)]

        largest, more = search_largest_batch(probe, self.guess(rung, shift, low, high), low, high)
        return largest, [vars(one) for one in (*tried, *more)]


def as_probe(found: dict[str, Any]) -> Probe:
    return Probe(found["batch_size"], found["fits"], found["peak_mb"])


def watch(command: list[str], log: Path, budget_mb: Callable[[], float | None]) -> tuple[int, float | None, bool]:
    """Run ``command``, and kill it when its resident memory exceeds the current ``budget_mb()``.

    Returns:
        Exit code; the highest resident memory seen, MB (None where the system does not report it); whether it was
        killed.
    """
    peak, stopped = None, False
    with open(log, "w", encoding="utf-8") as stream:
        # Compilation starts child processes: in one session, all are stopped together.
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        try:
            while process.poll() is None:
                peak = max(filter(None, (peak, resident_peak_mb(process.pid))), default=None)
                budget = budget_mb()
                if budget is not None and peak is not None and peak > budget:
                    stopped = True
                    break
                time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
    return code, peak, stopped


def resident_peak_mb(pid: int) -> float | None:
    """Peak resident memory of another process so far, MB; None if it has ended, or on a system without /proc."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    return None


def conclusion(rows: list[dict[str, Any]], ladder: LadderSettings) -> str | None:
    """What to do if no rung fits the budget; None if one does."""
    if not ladder.search or any(row["largest_batch"] for row in rows):
        return None
    problem = f"no rung fits ladder.memory_budget_mb ({ladder.memory_budget_mb} MB)"
    finished = [row for row in rows if row["peak_mb"] is not None]
    if not finished:
        return f"{problem}, nor this machine's memory: lower ladder.batch_size or choose a smaller model"
    least = min(finished, key=lambda row: row["peak_mb"])
    blocks = "1 block" if ladder.batch_size == 1 else f"{ladder.batch_size} blocks"
    measured = f"{least['peak_mb']:.0f} MB ({least['rung']}, {blocks} a step)"
    return f"{problem}; the least that was measured is {measured}: raise it"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON: `run`, a resolved run, and `ladder`")
    parser.add_argument("--base-model", required=True, type=Path, help="folder of the base model")
    parser.add_argument("--blocks", required=True, type=Path, help="train.parquet of packed blocks")
    parser.add_argument("--work", required=True, type=Path, help="folder that keeps finished rungs of a killed run")
    parser.add_argument("--output", required=True, type=Path, help="output: measurements.json")
    args = parser.parse_args()
    try:
        settings = json.loads(args.settings)
    except json.JSONDecodeError as error:
        raise FrugalError(f"--settings: not JSON: {error}") from None
    run = resolve_gpus(validate(LanguageModelingRun, settings.get("run"), file="--settings", prefix=("run",)))
    ladder = validate(LadderSettings, settings.get("ladder"), file="--settings", prefix=("ladder",))

    device = choose_device(min(1, run.training.gpus)).partition(":")[0]  # for all measurements, which inherit it
    climber = Ladder(args.base_model, args.blocks, ladder, run.corpus.block_length, device, args.work)
    run, _ = resolve_compute_dtype(run, device)
    hardware, rungs = describe_hardware(), climb(run)
    inputs = [
        plain(ladder, set(type(ladder).model_fields) - {"rungs"}),
        sha256_tree([args.base_model], kept=True),
        sha256_file(args.blocks),
        code_hash(__file__),
        hardware,
    ]
    rows, shift = [], 0.0
    for name in ladder.rungs:
        rung = rungs[name]
        kept = args.work / f"{name}-{fingerprint(CHILD, [plain(rung.run), rung.method, inputs])}.json"
        if not kept.exists():
            write_json(kept, climber.measure_rung(rung, shift))
        rows.append(read_json(kept))
        if rows[-1]["peak_mb"] is not None:
            shift = rows[-1]["peak_mb"] - rows[-1]["estimate"]["total"]
        PROGRESS.say(f"ladder: {name}: {summary(rows[-1], ladder)}")
    note = conclusion(rows, ladder)
    if note:
        print(f"ladder: {note}", file=sys.stderr)
    about = {"hardware": hardware, "block_length": run.corpus.block_length, "note": note}
    limits = plain(ladder, ("batch_size", "steps", "memory_budget_mb", "largest_batch_limit"))
    write_json(args.output, {**about, **limits, "rungs": rows})


def summary(row: dict[str, Any], ladder: LadderSettings) -> str:
    """A line of the log about a rung."""
    if row["error"]:
        return row["error"]
    line = (
        f"{row['peak_mb']:.0f} MB (estimated {row['estimate']['total']:.0f}), {row['tokens_per_second']:.0f} tokens/s"
    )
    if ladder.search:
        line += f", largest batch {row['largest_batch']}"
    return line


if __name__ == "__main__":
    run_script(main)
