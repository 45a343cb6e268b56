"""Describe the first items of the lists of the baselines of recommenders, as describe_lists.py does of a model."""

import argparse
from pathlib import Path

from frugal.errors import run_script
from frugal.files import sha256_tree
from frugal.kinds import RECOMMENDATION
from frugal.recsys.baselines import fit_baselines
from frugal.recsys.beyond_accuracy import check_lists, read_predictions, summarise_lists, top_lists, write_lists
from frugal.recsys.shards import read_split
from frugal.run.hardware import provenance
from frugal.run.outputs import load_run

#: As in score_recommender_baselines.py.
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the base run's settings/baselines.yaml")
    parser.add_argument("--sequences", required=True, type=Path, help="the folder of shards")
    parser.add_argument("--results", required=True, type=Path, help="folder of the experiment; takes the outputs too")
    parser.add_argument("--memory-mb", type=float, help="MB that EASE may take; default: the machine's")
    args = parser.parse_args()
    run = load_run(args.config, RECOMMENDATION)
    split, settings = read_split(args.sequences, run.data.fraction), run.evaluation
    targets = split.targets("test", settings.history)
    origin = {"provenance": provenance(SEED, {"sequences": sha256_tree([args.sequences])})}
    scorers = fit_baselines(split, **run.baselines.model_dump(), granted_mb=args.memory_mb)
    for name in RECOMMENDATION.baselines:
        folder, scorer = args.results / f"baseline_{name}", scorers.get(name, "not among baselines.use")
        if isinstance(scorer, str):
            write_lists(folder, {"metrics": {}, "left_out": scorer} | origin, None)
            continue
        lists = top_lists(scorer, split, settings.batch_size, SEED, settings.history)
        path = folder / "predictions.parquet"
        check_lists(lists, targets, read_predictions(path), path)
        record, values = summarise_lists({SEED: lists}, split, settings.history, settings.bootstrap_samples)
        write_lists(folder, record | origin, values)


if __name__ == "__main__":
    run_script(main)
