"""Score the test items by recommenders without a network: popularity, item neighbours, EASE, a Markov chain."""

import argparse
from pathlib import Path

import pandas as pd

from frugal.config.study import BASELINES
from frugal.errors import run_script
from frugal.files import atomic_path, sha256_tree
from frugal.hardware import provenance
from frugal.recsys.baselines import fit_baselines
from frugal.recsys.evaluation import PREDICTION_COLUMNS, evaluate, summarise_seeds, write_ranking_metrics
from frugal.recsys.shards import read_split
from frugal.runs import load_run

#: Baselines draw nothing but the order of equal scores: one seed, the number 0.
SEED = 0
UNORDERED = "not computed: the shards carry no order in time, which this baseline is made of"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the base run's settings")
    parser.add_argument("--experiment", required=True, choices=("ssept", "bert4rec"))
    parser.add_argument("--sequences", required=True, type=Path, help="the folder of shards")
    parser.add_argument("--results", required=True, type=Path, help="output: baseline_<name>/metrics.json below it")
    args = parser.parse_args()
    run = load_run(args.config, args.experiment)
    split = read_split(args.sequences, run.data.fraction)
    origin = provenance(SEED, {"sequences": sha256_tree([args.sequences])})
    scorers = fit_baselines(split, **run.baselines.model_dump())
    for name in BASELINES[args.experiment]:
        if name in scorers:
            result = evaluate(
                scorers[name],
                split,
                "test",
                cutoffs=run.evaluation.cutoffs,
                batch_size=run.evaluation.batch_size,
                seed=SEED,
                sampled_negatives=run.evaluation.sampled_negatives,
            )
            summary = summarise_seeds({SEED: result}, run.evaluation.bootstrap_samples, SEED)
            table = result.to_frame(SEED)
            print(f"{name}: NDCG@10 {result.metrics['NDCG@10']:.4f}, HR@10 {result.metrics['HR@10']:.4f}")
        else:
            summary = {"metrics": {}, "note": UNORDERED}
            table = pd.DataFrame(columns=list(PREDICTION_COLUMNS)).astype(PREDICTION_COLUMNS)
            print(f"{name}: {UNORDERED}")
        folder = args.results / f"baseline_{name}"
        with atomic_path(folder / "predictions.parquet") as temporary:
            table.to_parquet(temporary, index=False)
        write_ranking_metrics(folder / "metrics.json", summary, None, origin)


if __name__ == "__main__":
    run_script(main)
