"""The memory ladder: memory and speed of each rung, and the largest batch under the budget.

Each measurement runs in a process of its own. On the CPU this script watches that process and stops it when
its resident memory passes the budget: a limit on address space (ulimit -v) would count what is never touched.
On a GPU the process limits itself. A process that memory ends is a data point; one that fails otherwise, an error.
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

from frugal.config.errors import validate
from frugal.config.language_modeling import LadderSettings, LanguageModelingRun
from frugal.config.study import plain
from frugal.errors import FrugalError, run_script
from frugal.files import read_json, sha256_file, sha256_tree, write_json
from frugal.fingerprint import code_hash, fingerprint
from frugal.hardware import describe_hardware
from frugal.llm.ladder import Probe, Rung, climb, search_largest_batch, upwards

CHILD = Path(__file__).with_name("measure_memory.py")
POLL_SECONDS = 0.05
#: Memory has gaps, and more of them, the larger the batch: what a guess adds to the estimate.
MARGIN = 1.05
#: What a rung has where memory ended its measurement.
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
    """What the measurements of all rungs share: the model, the blocks, the settings, and a folder for their files."""

    def __init__(self, base_model: Path, blocks: Path, ladder: LadderSettings, length: int, device: str, work: Path):
        from transformers import AutoConfig

        self.base_model, self.blocks, self.ladder, self.length = base_model, blocks, ladder, length
        self.device, self.work = device, work
        if not (base_model / "config.json").exists():
            raise FrugalError(f"{base_model}: no config.json; make the model again: snakemake --forcerun prepare_model")
        self.config = AutoConfig.from_pretrained(base_model, local_files_only=True, trust_remote_code=False)
        work.mkdir(parents=True, exist_ok=True)

    def estimate(self, rung: Rung, batch_size: int) -> Any:
        from frugal.llm.memory import estimate

        return estimate(
            self.config,
            rung.run,
            method=rung.method,
            batch_size=batch_size,
            sequence_length=self.length,
            device=self.device,
        )

    def measure_apart(self, rung: Rung, sizes: list[int], measure: bool = False) -> list[dict[str, Any]]:
        """Tries of ascending batch sizes under the budget in one process, up to the first that does not fit.

        Args:
            measure: begin with the measurement of the rung itself, to which the budget does not apply. It shares
                the process because most of a small model's measurement is the start of its process.

        Raises:
            FrugalError: the process ended for another reason than memory.
        """
        settings, output, log = (self.work / f"{rung.name}.{end}" for end in ("settings.json", "out.json", "log"))
        write_json(settings, {"run": plain(rung.run), "method": rung.method})
        output.unlink(missing_ok=True)
        command = [sys.executable, CHILD, "--settings", settings, "--base-model", self.base_model]
        command += ["--blocks", self.blocks, "--output", output]
        if measure:
            command += ["--batch-size", self.ladder.batch_size, "--steps", self.ladder.steps]
        if sizes:
            # A fully trained model has its optimiser's states from its second step on; an adapter's are small.
            command += ["--search", *sizes, "--search-steps", 2 if rung.method == "full" else 1]
            command += ["--memory-budget-mb", self.ladder.memory_budget_mb]

        def budget_mb() -> float | None:
            """What the process may take now; nothing stops a measurement, nor what is about to end by itself."""
            if self.device != "cpu" or not sizes:
                return None
            done = read_json(output) if output.exists() else []
            if (measure and not done) or (done and not done[-1]["fits"]):
                return None
            return self.ladder.memory_budget_mb

        code, peak, stopped = watch([str(part) for part in command], log, budget_mb)
        asked = [*([self.ladder.batch_size] if measure else []), *sizes]
        results = read_json(output) if output.exists() else []
        if len(results) == len(asked) or (results and not results[-1]["fits"]):
            return results
        batch_size = asked[len(results)]
        if stopped or code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            reached = peak if self.device == "cpu" else None
            return [*results, {"batch_size": batch_size, "fits": False, "killed": True, "peak_mb": reached}]
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
        raise FrugalError(f"ladder: {rung.name}, batch size {batch_size}: {reason} (log: {log})")

    def measure_rung(self, rung: Rung, shift: float) -> dict[str, Any]:
        """A row of measurements.json.

        Args:
            shift: MB by which the estimate is expected to fall short.
        """
        ladder, limit = self.ladder, self.ladder.largest_batch_limit
        sizes = []
        if ladder.search and ladder.batch_size < limit:
            sizes = upwards(self.guess(rung, shift, ladder.batch_size, limit + 1), limit + 1)
        measured, *found = self.measure_apart(rung, sizes, measure=True)
        row = {
            "rung": rung.name,
            "changed": rung.changed,
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
        """The largest batch below ``high`` that should fit by the shifted estimate, at least the one after ``low``.

        A guess that is too low costs a step more, one that is too high a process more: so it is on the low side.
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
        """The largest batch under the budget, and all tries: the rung's own measurement, ``found``, and more."""
        budget, limit, known = self.ladder.memory_budget_mb, self.ladder.largest_batch_limit, self.ladder.batch_size
        fits = peak_mb is not None and peak_mb <= budget
        low, high = (min(known, limit), limit + 1) if fits else (0, min(known, limit + 1))
        tried = [Probe(known, fits, peak_mb)]
        for one in found:
            tried.append(as_probe(one))
            low, high = (tried[-1].batch_size, high) if tried[-1].fits else (low, tried[-1].batch_size)
        shift = 0 if peak_mb is None else peak_mb - self.estimate(rung, known).total

        def probe(sizes: list[int]) -> list[Probe]:
            return [as_probe(one) for one in self.measure_apart(rung, sizes)]

        largest, more = search_largest_batch(probe, self.guess(rung, shift, low, high), low, high)
        return largest, [vars(one) for one in (*tried, *more)]


def as_probe(found: dict[str, Any]) -> Probe:
    return Probe(found["batch_size"], found["fits"], found["peak_mb"])


def watch(command: list[str], log: Path, budget_mb: Callable[[], float | None]) -> tuple[int, float | None, bool]:
    """Run ``command``, and kill it when its resident memory has passed what ``budget_mb`` says at that moment.

    Returns:
        Exit code; the highest resident memory seen, MB, None where the system does not tell; whether it was killed.
    """
    peak, stopped = None, False
    with open(log, "w", encoding="utf-8") as stream:
        # Compilation starts processes of its own: in one session, all are stopped together.
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
    """Peak resident memory of another process so far, MB; None when it has ended, or on a system without /proc."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    return None


def conclusion(rows: list[dict[str, Any]], ladder: LadderSettings) -> str | None:
    """What to do where no rung fits the budget; None where one does."""
    if not ladder.search or any(row["largest_batch"] for row in rows):
        return None
    told = f"no rung fits ladder.memory_budget_mb ({ladder.memory_budget_mb} MB)"
    measured = [row for row in rows if row["peak_mb"] is not None]
    if not measured:
        return f"{told}, nor this machine's memory: lower ladder.batch_size or choose a smaller model"
    least = min(measured, key=lambda row: row["peak_mb"])
    blocks = "1 block" if ladder.batch_size == 1 else f"{ladder.batch_size} blocks"
    return (
        f"{told}; the least that was measured is {least['peak_mb']:.0f} MB ({least['rung']}, {blocks} a step): raise it"
    )


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
    run = validate(LanguageModelingRun, settings.get("run"), file="--settings", prefix=("run",))
    ladder = validate(LadderSettings, settings.get("ladder"), file="--settings", prefix=("ladder",))
    # A measurement would outlive this process: leave by way of the cleaning up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

    device = "cuda" if run.training.gpus else "cpu"
    climber = Ladder(args.base_model, args.blocks, ladder, run.corpus.block_length, device, args.work)
    hardware, rungs = describe_hardware(), climb(run)
    inputs = [
        plain(ladder, set(type(ladder).model_fields) - {"rungs"}),
        sha256_tree([args.base_model]),
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
        print(f"ladder: {name}: {tell(rows[-1], ladder)}", file=sys.stderr, flush=True)
    note = conclusion(rows, ladder)
    if note:
        print(f"ladder: {note}", file=sys.stderr)
    about = {"hardware": hardware, "block_length": run.corpus.block_length, "note": note}
    limits = plain(ladder, ("batch_size", "steps", "memory_budget_mb", "largest_batch_limit"))
    write_json(args.output, {**about, **limits, "rungs": rows})


def tell(row: dict[str, Any], ladder: LadderSettings) -> str:
    """A rung in a line of the log."""
    if row["error"]:
        return row["error"]
    words = (
        f"{row['peak_mb']:.0f} MB (estimated {row['estimate']['total']:.0f}), {row['tokens_per_second']:.0f} tokens/s"
    )
    if ladder.search:
        words += f", largest batch {row['largest_batch']}"
    return words


if __name__ == "__main__":
    run_script(main)
