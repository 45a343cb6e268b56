"""Rank the whole catalogue for every test user, with the models of all seeds of one variant."""

import argparse
from pathlib import Path
from typing import Any

from frugal.errors import run_script
from frugal.files import read_json, sha256_file, sha256_tree
from frugal.kinds import RECOMMENDATION
from frugal.recsys.shards import read_split
from frugal.run.hardware import choose_device, keep_freed_memory, provenance
from frugal.run.libraries import hide_unused, imports
from frugal.run.outputs import load_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the run's settings/evaluation.yaml")
    parser.add_argument("--sequences", required=True, type=Path, help="folder of NPZ shards")
    parser.add_argument("--models", required=True, nargs="+", type=Path, help="one folder for each seed, in order")
    parser.add_argument("--training", required=True, nargs="+", type=Path, help="their training records, in order")
    parser.add_argument("--backbones", nargs="*", type=Path, help="with adapters: the models below them, in order")
    parser.add_argument("--users", type=Path, help="the data's users.parquet; none where the numbers are the ids")
    parser.add_argument("--metrics", required=True, type=Path, help="output: metrics.json")
    parser.add_argument("--predictions", required=True, type=Path, help="output: one row a seed and user, Parquet")
    parser.add_argument("--lists", required=True, type=Path, help="folder that takes beyond.json and groups.parquet")
    args = parser.parse_args()
    run = load_run(args.config, RECOMMENDATION)
    hide_unused(run.adapter.method)
    keep_freed_memory()

    with imports():
        # The device first: libraries use CUDA as they are imported.
        device = choose_device(min(1, run.training.gpus))
        import torch

        from frugal.recsys.adapters import load_trained
        from frugal.recsys.beyond_accuracy import summarise_lists, write_lists
        from frugal.recsys.evaluation import evaluate
        from frugal.recsys.predictions import read_ids, write_predictions
        from frugal.recsys.seeds import describe_targets, summarise_seeds, write_ranking_metrics

    torch.set_num_threads(run.training.threads)
    split, settings = read_split(args.sequences, run.data.fraction), run.evaluation
    ids = read_ids(args.sequences, split, args.users)
    backbones = args.backbones or [None] * len(args.models)
    evaluations = {}
    for seed, folder, backbone in zip(run.seeds, args.models, backbones, strict=True):
        model = load_trained(folder, run.adapter, backbone).to(device).eval()
        evaluations[seed] = evaluate(
            model.scorer(split.context("test")),
            split,
            "test",
            settings.cutoffs,
            settings.batch_size,
            seed=seed,
            sampled_negatives=settings.sampled_negatives,
            history=settings.history,
        )
    origin = provenance(run.seeds[0], {"config": sha256_file(args.config), "sequences": sha256_tree([args.sequences])})
    write_predictions(args.predictions, evaluations, split.targets("test", settings.history), *ids)
    record, values = summarise_lists(evaluations, split, settings.history, settings.bootstrap_samples)
    write_lists(args.lists, record | {"provenance": origin}, values)
    write_ranking_metrics(
        args.metrics,
        summarise_seeds(evaluations, settings.bootstrap_samples, run.seeds[0])
        | describe_targets(split, settings.history),
        mean_record([read_json(path) for path in args.training]),
        origin,
    )


def mean_record(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds of what is a number in every record, texts that all share, and the records themselves."""
    numbers = [
        name for name in records[0] if name != "seed" and all(type(record[name]) in (int, float) for record in records)
    ]
    means = {name: sum(record[name] for record in records) / len(records) for name in numbers}
    words = {
        name: value
        for name, value in records[0].items()
        if isinstance(value, str) and all(record[name] == value for record in records)
    }
    return words | means | {"by_seed": {str(record["seed"]): record for record in records}}


if __name__ == "__main__":
    run_script(main)
