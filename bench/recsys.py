"""Time the training of SASRec against RecTools', on MovieLens-100K and on a synthetic catalogue of 60,000 items.

Both read the same interactions and have the same threads. Each run has a process of its own; the two take
turns, so that a busy machine is busy for both. RecTools lives in an environment of its own.
"""

import argparse
import json
import math
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import PEERS, REQUIREMENTS, SCRIPTS
from bench.environments import peer_python, run_logged
from frugal.config.errors import validate
from frugal.config.recommendation import RecommendationRun
from frugal.config.study import read_study
from frugal.errors import FrugalError, run_script
from frugal.files import read_json, write_json
from frugal.recsys.histories import Histories, Split, in_time_order
from frugal.run.device import is_emulated
from frugal.run.hardware import describe_hardware, keep_freed_memory, package_versions, peak_rss_mb
from frugal.run.libraries import hide_unused

#: What RecTools' SASRec reaches on MovieLens-100K, and the epochs that it takes.
TARGET_NDCG, TARGET_EPOCHS = 0.0736, 40
ITEMS, LONGEST, ZIPF_EXPONENT = 60_000, 51, 0.8
THREADS, TIMEOUT_MINUTES = 2, 15
#: RecTools' SASRec, in our terms: for the comparison of speed both train the same model in the same way.
SAME_MODEL = {
    "dataset": "bench",
    "model": {
        "architecture": "sasrec",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "intermediate_size": 64,
        "max_length": LONGEST - 1,
        "hidden_dropout_prob": 0.2,
    },
    "training": {
        "per_device_train_batch_size": 128,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0.0,
        "eval_epochs": 1000,
        "threads": THREADS,
    },
}
SAMPLED = {"name": "sampled_softmax", "negatives": 1024}
#: Comparisons of speed: epochs (MovieLens) or steps (synthetic data, one epoch is long), the first of which warm up.
#: RecTools pads every batch to the same length; ours differ where the histories do, so it takes more to average them.
SPEED = {
    "100k": {"epochs": 4, "max_steps": -1, "warm_up": 0.25},
    "60k": {"epochs": 1, "max_steps": 12, "our_steps": 48, "warm_up": 0.25},
    "60k_full_length": {"epochs": 1, "max_steps": 12, "warm_up": 0.25},
}
#: The largest of the originals' models that two cores can train a step of.
LARGE = {
    "run": {
        "dataset": "bench",
        "model": {
            "architecture": "bert4rec",
            "hidden_size": 768,
            "num_hidden_layers": 5,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "max_length": 50,
        },
    },
    "efficiency": {
        "sizes": {"85m": {}},
        "modes": ["float32"] if is_emulated("bfloat16", "cpu") else ["float32", "bfloat16"],
        "item_count": 63_001,
        "batch_size": 32,
        "steps": 5,
    },
}


def synthetic_histories(lengths: np.ndarray, item_count: int, rng: np.random.Generator) -> Histories:
    """Histories of these lengths, (users,); the n-th item is drawn in proportion to n^-ZIPF_EXPONENT.

    Each item stands there at least once: RecTools' catalogue is what somebody had.
    """
    weights = np.arange(1, item_count + 1) ** -ZIPF_EXPONENT
    items = rng.choice(item_count, lengths.sum() - item_count, p=weights / weights.sum())
    items = rng.permutation(np.concatenate((items, np.arange(item_count)))).astype(np.int32)
    return Histories(items, np.concatenate(([0], np.cumsum(lengths))))


def shop_lengths(users: int, rng: np.random.Generator) -> np.ndarray:
    """int64, (users,): from 5, geometric with mean 9, at most LONGEST; Amazon's have 5 and more, 8.8 on average."""
    return np.minimum(4 + rng.geometric(0.2, users), LONGEST)


def write_data(folder: Path, interactions: Path) -> None:
    """The data of all tasks, as NPZ: users and items in the order of time, test_users and test_items, item_count."""
    import pyarrow.parquet as pq

    table = pq.read_table(interactions)
    users, items, times = (table[name].to_numpy() for name in ("user", "item", "timestamp"))
    movielens = in_time_order(users, items, times, users.max() + 1)
    last = np.zeros(len(items), dtype=bool)
    last[movielens.offsets[1:] - 1] = True
    save(folder / "100k.npz", movielens.select(~last), movielens.select(last), items.max() + 1)
    rng = np.random.default_rng(0)
    for name, lengths in (("60k", shop_lengths(22_000, rng)), ("60k_full_length", np.full(4_000, LONGEST))):
        histories = synthetic_histories(lengths, ITEMS, rng)
        # The trainer wants somebody to validate with, though it never comes to that.
        test = Histories.from_pairs(np.zeros(1, dtype=int), np.zeros(1), len(histories))
        save(folder / f"{name}.npz", histories, test, ITEMS)


def save(path: Path, train: Histories, test: Histories, item_count: int) -> None:
    np.savez(
        path,
        users=train.users,
        items=train.items.astype(np.int64),
        test_users=test.users,
        test_items=test.items.astype(np.int64),
        item_count=item_count,
    )


def train_here(settings: dict[str, Any]) -> None:
    """Our side, in this process: the settings and the output are those of peers/rectools_sasrec.py, and `run`."""
    run = validate(RecommendationRun, settings["run"], file="settings")
    hide_unused(run.adapter.method)  # as every training does
    keep_freed_memory()
    with np.load(settings["data"], allow_pickle=False) as archive:
        data = dict(archive)
    count = data["users"].max() + 1
    train = Histories.from_pairs(data["users"], data["items"], count)
    # The trainer measures what stands at `validation`.
    targets = Histories.from_pairs(data["test_users"], data["test_items"], count)
    split = Split(train, targets, train.select(np.zeros(len(train.items), dtype=bool)), int(data["item_count"]))

    from transformers import TrainerCallback

    from frugal.recsys.trainer import CRITERION
    from frugal.recsys.training import build_model, resolve_precision, train_recommender

    run, _ = resolve_precision(run, "cpu")

    class Clock(TrainerCallback):
        """Seconds and target positions after each step; NDCG@10 and HR@10 after each validation."""

        def __init__(self):
            self.paused, self.steps, self.epochs = 0.0, [], []

        @property
        def seconds(self):
            return time.perf_counter() - self.started - self.paused

        def on_train_begin(self, args, state, control, **kwargs):
            self.started = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            self.steps.append([self.seconds, state.num_input_tokens_seen])

        def on_log(self, args, state, control, logs, **kwargs):
            self.paused += logs.get("eval_seconds", 0.0)

        def on_evaluate(self, args, state, control, metrics, **kwargs):
            ndcg = metrics[f"eval_{CRITERION}"]
            self.epochs.append([self.seconds, ndcg, metrics["eval_HR@10"]])
            if settings["target"] is not None and ndcg >= settings["target"]:
                control.should_training_stop = True

    clock = Clock()
    model = build_model(run.model, split.item_count, split.user_count, settings["seed"])
    with tempfile.TemporaryDirectory(prefix="frugal-bench-") as checkpoints:
        train_recommender(model, split, run, settings["seed"], Path(checkpoints), "bench", callbacks=[clock])
    result = {"steps": clock.steps, "epochs": clock.epochs, "items": split.item_count}
    result |= {"compute_dtype": run.training.precision, "loss_precision": run.loss.precision}
    write_json(settings["output"], result | {"peak_rss_mb": peak_rss_mb(), "versions": package_versions()})


def summarise_run(result: dict[str, Any], warm_up: float, target: float | None) -> dict[str, Any]:
    """One run's figures, of its steps (seconds, positions) and epochs (seconds, NDCG@10, HR@10).

    Returns:
        positions_per_second, after the first ``warm_up`` of the steps; peak_rss_mb; with a target also
        reached, seconds (to the first epoch at the target, or to the last one), epochs, NDCG@10 and HR@10.
    """
    steps = result["steps"]
    first, last = steps[math.ceil(len(steps) * warm_up) - 1], steps[-1]
    figures = {
        "positions_per_second": round((last[1] - first[1]) / (last[0] - first[0]), 1),
        "peak_rss_mb": round(result["peak_rss_mb"], 1),
        **{name: result[name] for name in ("compute_dtype", "loss_precision") if name in result},
    }
    if target is None:
        return figures
    at = next((n for n, epoch in enumerate(result["epochs"]) if epoch[1] >= target), None)
    seconds, ndcg, hits = result["epochs"][-1 if at is None else at]
    count = len(result["epochs"]) if at is None else at + 1
    reached = {"reached": at is not None, "seconds": round(seconds, 2), "epochs": count}
    return {**figures, **reached, "NDCG@10": ndcg, "HR@10": hits}


def summarise(runs: list[dict[str, Any]]) -> dict[str, float | None]:
    """Medians over rounds of the ratios within a round: time and memory ours / theirs, throughput too.

    A ratio that no run gives is None; so is that of time to quality where one of ours did not come there.
    """

    def ratios(task: str, key: str, ours: str = "frugal") -> list[float]:
        of = {(run["round"], run["system"]): run for run in runs if run["task"] == task}
        rounds = sorted({number for number, system in of if system == ours})
        return [of[number, ours][key] / of[number, "rectools"][key] for number in rounds]

    def median(values: list[float]) -> float | None:
        return round(statistics.median(values), 4) if values else None

    timed = [run for run in runs if run["task"] == "time_to_quality"]
    failed = any(not run["reached"] for run in timed if run["system"] == "frugal")
    sampled = {
        f"throughput_ratio_{task}_sampled": median(ratios(task, "positions_per_second", "frugal_sampled"))
        for task in ("60k", "60k_full_length")
    }
    return {
        "time_to_quality_ratio": None if failed else median(ratios("time_to_quality", "seconds")),
        "rectools_reached_quality": [run["reached"] for run in timed if run["system"] == "rectools"],
        **{f"throughput_ratio_{task}": median(ratios(task, "positions_per_second")) for task in SPEED},
        **sampled,
        "peak_memory_ratio": median(ratios("60k", "peak_rss_mb")),
        "peak_memory_ratio_60k_full_length": median(ratios("60k_full_length", "peak_rss_mb")),
        "peak_memory_ratio_100k": median(ratios("100k", "peak_rss_mb")),
    }


def plan(recipe: dict[str, Any], rounds: int, tasks: list[str]) -> list[dict[str, Any]]:
    """Every run in its order: what it is, and the settings that its process gets."""
    runs = []
    for task in tasks:
        # A minute and more for each of its runs: once, beside the three rounds of shorter histories.
        for number in range(1 if task == "60k_full_length" else rounds):
            shared = {"seed": number + 1, "threads": THREADS, "target": None, **SPEED.get(task, {})}
            if task == "time_to_quality":
                shared |= {"target": TARGET_NDCG, "epochs": TARGET_EPOCHS, "max_steps": -1, "warm_up": 0.1}
                systems = {"frugal": {"run": recipe}, "rectools": {}}
            else:
                length = {
                    "num_train_epochs": shared["epochs"],
                    "max_steps": shared.pop("our_steps", shared["max_steps"]),
                }
                ours = {**SAME_MODEL, "training": SAME_MODEL["training"] | length}
                systems = {"frugal": {"run": ours}, "rectools": {}}
                if task.startswith("60k"):
                    systems["frugal_sampled"] = {"run": {**ours, "loss": SAMPLED}}
            data = "100k" if task == "time_to_quality" else task
            # Who goes first changes from round to round.
            for system in list(systems) if number % 2 == 0 else reversed(systems):
                settings = {**shared, **systems[system], "data": data}
                runs.append({"task": task, "round": number, "system": system, "settings": settings})
    return runs


def carry_out(run: dict[str, Any], folder: Path, logs: Path, python: str) -> tuple[dict[str, Any], dict[str, str]]:
    """One run of the plan in a process of its own: its figures, and the versions that it ran with."""
    name = f"{run['task']}-{run['round']}-{run['system']}"
    settings = {**run["settings"], "output": str(folder / f"{name}.json")}
    settings["data"] = str(folder / f"{settings['data']}.npz")
    write_json(folder / f"{name}.settings.json", settings)
    if run["system"] == "rectools":
        command = [python, str(PEERS / "rectools_sasrec.py")]
    else:
        command = [sys.executable, "-m", "bench.recsys", "--train"]
    run_logged([*command, str(folder / f"{name}.settings.json")], logs / f"{name}.log", THREADS, TIMEOUT_MINUTES)
    result = read_json(settings["output"])
    figures = summarise_run(result, settings["warm_up"], settings["target"])
    figures = {key: run[key] for key in ("task", "round", "system")} | {"items": result["items"]} | figures
    print(json.dumps(figures), file=sys.stderr, flush=True)
    return figures, result["versions"]


def matmul_shares(folder: Path, logs: Path) -> dict[str, float | None]:
    """Mode -> the share of the machine's matrix-multiply peak that the 85M model's training step reaches."""
    output = folder / "efficiency.json"
    command = [sys.executable, str(SCRIPTS / "measure_efficiency.py"), "--settings", json.dumps(LARGE)]
    run_logged([*command, "--output", str(output)], logs / "efficiency.log", THREADS, TIMEOUT_MINUTES)
    return {row["mode"]: row["matmul_peak_share"] for row in read_json(output)["rows"]}


def read_recipe(file: str) -> dict[str, Any]:
    """The settings of the study's variant `sasrec` of `bert4rec`, validated after every epoch, to the last one."""
    experiment = read_study(file).experiments.get("bert4rec")
    if experiment is None or "sasrec" not in experiment.runs:
        raise FrugalError(f"{file}: experiments.bert4rec.variants has no 'sasrec', whose settings are timed here")
    recipe = experiment.runs["sasrec"].model_dump(mode="json")
    recipe["training"] |= {"threads": THREADS, "eval_epochs": 1, "early_stopping_patience": 1000, "report_to": []}
    return recipe


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.recsys", description=__doc__)
    parser.add_argument("--interactions", type=Path, default=Path("data/prepared/movielens-100k/interactions.parquet"))
    parser.add_argument("--config", default="config/config.yaml", help="whose bert4rec variant `sasrec` is timed")
    parser.add_argument("--rounds", type=int, default=3, help="paired runs of each comparison but 60k_full_length")
    tasks = ["time_to_quality", *SPEED, "matmul_peak"]
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks)
    parser.add_argument("--pip-args", default="", help="for the installation of RecTools")
    parser.add_argument("--output", type=Path, default=Path("results/bench/recsys.json"))
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train_here(read_json(options.train))
        return
    if not options.interactions.is_file():
        raise FrugalError(f"{options.interactions}: missing; `make bench-recsys` prepares it")
    recipe = read_recipe(options.config) if "time_to_quality" in options.tasks else {}
    logs = options.output.parent / "logs"
    comparisons = plan(recipe, options.rounds, [task for task in options.tasks if task != "matmul_peak"])
    python = ""
    if comparisons:
        peer = options.output.parent / "peers/rectools"
        python = peer_python(peer, REQUIREMENTS / "rectools.txt", shlex.split(options.pip_args))
    figures, versions, shares = [], {}, {}
    with tempfile.TemporaryDirectory(prefix="frugal-bench-") as folder:
        write_data(Path(folder), options.interactions)
        for run in comparisons:
            result, installed = carry_out(run, Path(folder), logs, python)
            figures.append(result)
            versions["rectools" if run["system"] == "rectools" else "frugal"] = installed
        if "matmul_peak" in options.tasks:
            shares = matmul_shares(Path(folder), logs)
    medians = summarise(figures)
    medians["matmul_peak_share"] = max((share for share in shares.values() if share is not None), default=None)
    medians["matmul_peak_share_by_dtype"] = shares
    about = {"hardware": describe_hardware(), "threads": THREADS, "versions": versions, "target_NDCG@10": TARGET_NDCG}
    write_json(options.output, {**medians, **about, "runs": figures})
    print(json.dumps(medians, indent=2))


if __name__ == "__main__":
    run_script(main)
