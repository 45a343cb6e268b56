"""Score the test items by recommenders without a network: popularity, item neighbours, EASE, a Markov chain."""

import argparse
from pathlib import Path

from frugal.errors import run_script
from frugal.files import sha256_tree
from frugal.kinds import RECOMMENDATION
from frugal.recsys.baselines import fit_baselines
from frugal.recsys.beyond_accuracy import summarise_lists, write_lists
from frugal.recsys.evaluation import evaluate
from frugal.recsys.predictions import read_ids, write_predictions
from frugal.recsys.seeds import describe_targets, summarise_seeds, write_ranking_metrics
from frugal.recsys.shards import read_split
from frugal.run.hardware import provenance
from frugal.run.outputs import load_run

#: Baselines draw nothing but the order of equal scores: one seed, the number 0.
SEED = 0
UNUSED = "not among baselines.use"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the base run's settings")
    parser.add_argument("--sequences", required=True, type=Path, help="the folder of shards")
    parser.add_argument("--users", type=Path, help="the data's users.parquet; none where the numbers are the ids")
    parser.add_argument("--results", required=True, type=Path, help="output: baseline_<name>/metrics.json below it")
    parser.add_argument("--memory-mb", type=float, help="MB that EASE may take; default: the machine's")
    args = parser.parse_args()
    run = load_run(args.config, RECOMMENDATION)
    split = read_split(args.sequences, run.data.fraction)
    targets, ids = split.targets("test", run.evaluation.history), read_ids(args.sequences, split, args.users)
    origin = provenance(SEED, {"sequences": sha256_tree([args.sequences])})
    scorers = fit_baselines(split, **run.baselines.model_dump(), granted_mb=args.memory_mb)
    for name in RECOMMENDATION.baselines:
        scorer = scorers.get(name, UNUSED)
        if not isinstance(scorer, str):
            result = evaluate(
                scorer,
                split,
                "test",
                cutoffs=run.evaluation.cutoffs,
                batch_size=run.evaluation.batch_size,
                seed=SEED,
                sampled_negatives=run.evaluation.sampled_negatives,
                history=run.evaluation.history,
            )
            summary = summarise_seeds({SEED: result}, run.evaluation.bootstrap_samples, SEED)
            summary |= describe_targets(split, run.evaluation.history)
            evaluations = {SEED: result}
            record, values = summarise_lists(
                evaluations, split, run.evaluation.history, run.evaluation.bootstrap_samples
            )
            print(f"{name}: NDCG@10 {result.metrics['NDCG@10']:.4f}, HR@10 {result.metrics['HR@10']:.4f}")
        else:
            summary = {"metrics": {}, "left_out": scorer}
            evaluations, record, values = {}, summary, None
            print(f"{name}: {scorer}")
        folder = args.results / f"baseline_{name}"
        write_predictions(folder / "predictions.parquet", evaluations, targets, *ids)
        write_lists(folder, record | {"provenance": origin}, values)
        write_ranking_metrics(folder / "metrics.json", summary, None, origin)


if __name__ == "__main__":
    run_script(main)
