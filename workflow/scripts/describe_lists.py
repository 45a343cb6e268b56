"""Describe the first items of a recommender's lists: coverage, popularity, novelty, and where its rankings are good."""

import argparse
from pathlib import Path

from frugal.errors import run_script
from frugal.files import sha256_file, sha256_tree
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
    parser.add_argument("--backbones", nargs="*", type=Path, help="with adapters: the models below them, in order")
    parser.add_argument("--predictions", required=True, type=Path, help="of the evaluation, to compare with")
    parser.add_argument("--output", required=True, type=Path, help="folder that takes beyond.json and groups.parquet")
    args = parser.parse_args()
    run = load_run(args.config, RECOMMENDATION)
    hide_unused(run.adapter.method)
    keep_freed_memory()

    with imports():
        # The device first: libraries use CUDA as they are imported.
        device = choose_device(min(1, run.training.gpus))
        import torch

        from frugal.recsys.adapters import load_trained
        from frugal.recsys.beyond_accuracy import check_lists, read_predictions, summarise_lists, top_lists, write_lists

    torch.set_num_threads(run.training.threads)
    split, settings = read_split(args.sequences, run.data.fraction), run.evaluation
    predictions = read_predictions(args.predictions)
    backbones = args.backbones or [None] * len(args.models)
    lists = {}
    for seed, folder, backbone in zip(run.seeds, args.models, backbones, strict=True):
        scorer = load_trained(folder, run.adapter, backbone).to(device).eval().scorer(split.context("test"))
        lists[seed] = top_lists(scorer, split, settings.batch_size, seed, settings.history)
        evaluated = predictions[predictions["seed"] == seed]
        check_lists(lists[seed], split.targets("test", settings.history), evaluated, args.predictions)
    record, values = summarise_lists(lists, split, settings.history, settings.bootstrap_samples)
    inputs = {"config": sha256_file(args.config), "sequences": sha256_tree([args.sequences])}
    write_lists(args.output, record | {"provenance": provenance(run.seeds[0], inputs)}, values)


if __name__ == "__main__":
    run_script(main)
