"""Hold our LoRA training of a language model against TRL's SFTTrainer: the same model, texts, rank and processor.

Ours runs through pack_blocks.py and train_wikitext.py, as the workflow runs them; TRL's by a script as its users
write it. Each run is a process of its own, and who goes first changes from round to round. Speed is in tokens of
text a second, padding not counted, after the first step. Ours computes in the type that 'auto' takes on this machine;
TRL's defaults compute in bfloat16 everywhere, also where the processor emulates it.
"""

import argparse
import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from bench import PEERS, SCRIPTS
from bench.environments import run_logged
from frugal.config.base import plain
from frugal.config.language_modeling import LanguageModelingRun
from frugal.config.study import dump_yaml
from frugal.errors import FrugalError, run_script
from frugal.files import atomic_path, read_json, write_json, write_text
from frugal.kinds import LANGUAGE_MODELING
from frugal.llm.kernels.int8 import integer_matmuls
from frugal.run.device import cpu_capabilities
from frugal.run.hardware import describe_hardware, package_versions

THREADS = 2
#: TRL takes minutes for a step where bfloat16 is emulated.
TIMEOUT_MINUTES = 40
BATCH_SIZE, LENGTH, STEPS, LEARNING_RATE = 4, 512, 5, 2e-4
LORA = {"r": 8, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
#: Paragraphs of so many characters are the texts.
SHORTEST, LONGEST, TEXTS = 800, 2300, 200
#: TRL with its defaults, and with what a careful user sets by hand.
THEIRS = {"trl_default": {}, "trl_tuned": {"bf16": True, "packing": True}}
#: Half a batch at a time leaves more of it in the processor's cache than a whole one. With AMX a whole one is faster:
#: PyTorch's library computes matmuls of fewer rows with half of the threads.
PARTS = 1 if cpu_capabilities().instructions == "AMX" else 2
AT_ONCE = {
    "per_device_train_batch_size": BATCH_SIZE // PARTS,
    "gradient_accumulation_steps": PARTS,
    "loss_chunk_tokens": 1024 // PARTS,
}
#: The least memory at a good speed, the best speed, and the same with frozen weights unquantised and in 4 bits.
#: 8-bit integers are the fastest where the processor multiplies them and has no matrix units for bfloat16.
FASTEST = {"model": {"quantization": "int8"}} if integer_matmuls() else {}
OURS = {
    "lean": {
        "model": {"quantization": "int8"},
        "training": {
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": BATCH_SIZE,
            "loss_chunk_tokens": 256,
        },
    },
    "fast": {**FASTEST, "training": AT_ONCE},
    "unquantised": {"training": AT_ONCE},
    "nf4": {"model": {"quantization": "nf4"}, "training": AT_ONCE},
}
ONCE = ("unquantised", "nf4")


def paragraphs(documents: Path) -> list[str]:
    """The first paragraphs of the articles that are neither very short nor very long."""
    if not documents.is_file():
        raise FrugalError(f"{documents}: missing; `make bench-llm` prepares it")
    texts = pq.read_table(documents, columns=["text"])["text"].to_pylist()
    found = [line.strip() for text in texts for line in text.split("\n") if SHORTEST <= len(line.strip()) <= LONGEST]
    if len(found) < TEXTS:
        raise FrugalError(f"{documents}: {len(found)} paragraphs of {SHORTEST} to {LONGEST} characters, not {TEXTS}")
    # Every n-th, so that many articles are among them.
    return found[:: len(found) // TEXTS][:TEXTS]


def write_texts(folder: Path, texts: list[str]) -> None:
    """The texts for TRL (JSON lines) and for us (documents.parquet; two stand aside as the other parts)."""
    write_text(folder / "texts.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
    split = ["train"] * (len(texts) - 2) + ["validation", "test"]
    table = pd.DataFrame({"document": [f"text {n}" for n in range(len(texts))], "text": texts, "split": split})
    with atomic_path(folder / "documents.parquet") as temporary:
        table.to_parquet(temporary, index=False)


def our_run(changes: dict[str, Any], seed: int, steps: int = STEPS) -> LanguageModelingRun:
    sections = {
        "model": {"quantization": "none", "compute_dtype": "auto", "max_length": LENGTH},
        "training": {
            "max_steps": steps,
            "per_device_train_batch_size": BATCH_SIZE,
            "gradient_accumulation_steps": 1,
            "learning_rate": LEARNING_RATE,
            "warmup_steps": 0,
            "optim": "adamw_torch",
            "logging_steps": 1,
            "eval_steps": 1000,  # speed is that of training alone
        },
    }
    for section, values in changes.items():
        sections[section] |= values
    return LanguageModelingRun.model_validate(
        {"dataset": "bench", "base_model": "bench", "seed": seed, "lora": LORA, **sections}
    )


def train_ours(system: str, seed: int, steps: int, model: Path, folder: Path, log: Path) -> dict[str, Any]:
    """One of our runs: seconds and tokens after each step, memory, share of the matrix-multiply peak."""
    run, work = our_run(OURS[system], seed, steps), folder / f"{system}-{seed}"
    work.mkdir()
    for stage in ("blocks", "training"):
        write_text(work / f"{stage}.yaml", dump_yaml(plain(run, LANGUAGE_MODELING.stages[stage])))
    pack = ["--config", work / "blocks.yaml", "--documents", folder / "documents.parquet"]
    pack += ["--tokenizer", model, "--output", work / "blocks"]
    train = ["--config", work / "training.yaml", "--base-model", model, "--train", work / "blocks/train.parquet"]
    train += ["--validation", work / "blocks/validation.parquet", "--checkpoints", work / "checkpoints"]
    train += ["--adapter", work / "adapter", "--history", work / "history.csv", "--training", work / "training.json"]
    for script, options in (("pack_blocks.py", pack), ("train_wikitext.py", train)):
        command = [sys.executable, str(SCRIPTS / script), *map(str, options)]
        run_logged(command, log.with_name(f"{log.stem}-{script}.log"), THREADS, TIMEOUT_MINUTES)
    with (work / "history.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["loss"]]
    seconds = [float(row["seconds"]) for row in rows]
    seen = [int(row["num_input_tokens_seen"]) for row in rows]
    record = read_json(work / "training.json")
    share = (
        record["matmul_peak_share"] * (seen[-1] - seen[0]) / (seconds[-1] - seconds[0]) / record["tokens_per_second"]
    )
    return {
        "tokens_per_second": round((seen[-1] - seen[0]) / (seconds[-1] - seconds[0]), 2),
        "peak_rss_mb": record["peak_rss_mb"],
        "matmul_peak_share": round(share, 4),
        "compute_dtype": record["compute_dtype"],
        "quantization": run.model.quantization,
        "loss": record["final_loss"],
    }


def train_theirs(system: str, seed: int, steps: int, model: Path, folder: Path, log: Path) -> dict[str, Any]:
    """One of TRL's runs: tokens a second after the first step, and memory."""
    settings = {
        "model": str(model.resolve()),
        "texts": str(folder / "texts.jsonl"),
        "cache": str(folder / f"{system}-{seed}"),
        "output": str(folder / f"{system}-{seed}.json"),
        "lora": LORA,
        "batch_size": BATCH_SIZE,
        "max_length": LENGTH,
        "steps": steps,
        "learning_rate": LEARNING_RATE,
        "seed": seed,
        "options": THEIRS[system],
    }
    write_json(folder / f"{system}-{seed}.settings.json", settings)
    command = [sys.executable, str(PEERS / "trl_sft.py"), str(folder / f"{system}-{seed}.settings.json")]
    run_logged(command, log, THREADS, TIMEOUT_MINUTES)
    result = read_json(settings["output"])
    speed = sum(result["tokens"][1:]) / result["seconds"][-1]
    return {
        "tokens_per_second": round(speed, 2),
        "peak_rss_mb": round(result["peak_rss_mb"], 1),
        "compute_dtype": result["compute_dtype"],
    }


def summarise(runs: list[dict[str, Any]]) -> dict[str, float | None]:
    """Medians over rounds of the ratios within a round, ours to theirs; None where a system did not run."""
    of = {(run["round"], run["system"]): run for run in runs}
    rounds = sorted({run["round"] for run in runs})

    def ratio(ours: str, theirs: str, key: str) -> float | None:
        both = [number for number in rounds if (number, ours) in of and (number, theirs) in of]
        ratios = [of[number, ours][key] / of[number, theirs][key] for number in both]
        return round(statistics.median(ratios), 4) if ratios else None

    shares = [run["matmul_peak_share"] for run in runs if run["system"] == "fast"]
    return {
        "lean_speed_vs_trl_default": ratio("lean", "trl_default", "tokens_per_second"),
        "lean_memory_vs_trl_default": ratio("lean", "trl_default", "peak_rss_mb"),
        "fast_speed_vs_trl_default": ratio("fast", "trl_default", "tokens_per_second"),
        "fast_speed_vs_trl_tuned": ratio("fast", "trl_tuned", "tokens_per_second"),
        "unquantised_speed_vs_trl_default": ratio("unquantised", "trl_default", "tokens_per_second"),
        "nf4_speed_vs_unquantised": ratio("nf4", "unquantised", "tokens_per_second"),
        "matmul_peak_share": round(statistics.median(shares), 4) if shares else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.llm", description=__doc__)
    parser.add_argument("--documents", type=Path, default=Path("data/prepared/wikipedia-sample/documents.parquet"))
    parser.add_argument("--model", type=Path, default=Path("data/models/smollm2-135m-instruct"))
    parser.add_argument("--rounds", type=int, default=3, help="paired runs of each system; one of unquantised and nf4")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run, 2 or more; the first does not count")
    systems = [*THEIRS, *OURS]
    parser.add_argument("--systems", nargs="+", choices=systems, default=systems)
    parser.add_argument("--perplexity", action=argparse.BooleanOptionalAction, default=True, help="beside lm-eval too")
    parser.add_argument("--pip-args", default="", help="for the installation of lm-eval")
    parser.add_argument("--output", type=Path, default=Path("results/bench/llm.json"))
    options = parser.parse_args()
    if options.steps < 2 or options.rounds < 1:
        parser.error("--steps must be 2 or more, --rounds 1 or more")
    logs, runs = options.output.parent / "logs", []
    about = {
        "hardware": describe_hardware(),
        "threads": THREADS,
        "versions": package_versions(),
        "settings": {
            "batch_size": BATCH_SIZE,
            "max_length": LENGTH,
            "steps": options.steps,
            "lora": LORA,
            "trl": THEIRS,
            "ours": OURS,
        },
    }
    with tempfile.TemporaryDirectory(prefix="frugal-bench-") as name:
        folder = Path(name)
        write_texts(folder, paragraphs(options.documents))
        for number in range(options.rounds):
            chosen = [system for system in options.systems if number == 0 or system not in ONCE]
            for system in chosen if number % 2 == 0 else reversed(chosen):
                carry_out = train_theirs if system in THEIRS else train_ours
                log = logs / f"{system}-{number}.log"
                run = {"round": number, "system": system}
                runs.append(run | carry_out(system, number + 1, options.steps, options.model, folder, log))
                print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
        result = summarise(runs)
        # Written before the perplexity is compared: if that fails, what was measured is not lost.
        write_json(options.output, {**result, **about, "runs": runs})
        if options.perplexity:
            output = options.output.parent / "perplexity.json"
            command = [sys.executable, "-m", "bench.perplexity", "--documents", str(options.documents)]
            command += [f"--pip-args={options.pip_args}", "--output", str(output)]
            run_logged(command, logs / "perplexity.log", THREADS, TIMEOUT_MINUTES)
            perplexity = read_json(output)
            result["word_perplexity_vs_lm_eval"] = perplexity["word_perplexity_vs_lm_eval"]
            runs += [{"system": "lm_eval", **run} for run in perplexity["runs"]]
            write_json(options.output, {**result, **about, "runs": runs})
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    run_script(main)
