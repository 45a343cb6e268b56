"""metrics.json of a recommender: the evaluations of its seeds, summarised.

Separate from `frugal.recsys.evaluation`, which training imports, so that a change here does not retrain a model.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from frugal.files import write_json
from frugal.recsys.evaluation import Evaluation
from frugal.recsys.histories import History, Split
from frugal.stats import mean_intervals


def summarise_seeds(evaluations: dict[int, Evaluation], bootstrap_samples: int, seed: int) -> dict[str, Any]:
    """Summarise the evaluations of a run's seeds, which scored the same users, for metrics.json.

    Returns:
        metrics: name -> mean over seeds; std: the sample standard deviation, absent with one seed;
        intervals: name -> [lower, upper] of each mean over users, each user's value averaged over seeds
        (coverage, which is no mean over users, has none); by_seed: seed -> name -> value; sampled: name ->
        mean over seeds; cases: the number of users.
    """
    results = list(evaluations.values())
    by_seed = pd.DataFrame([result.metrics for result in results])
    per_user = {name: np.mean([result.per_user[name] for result in results], axis=0) for name in results[0].per_user}
    return {
        "metrics": by_seed.mean().to_dict(),
        **({"std": by_seed.std(ddof=1).to_dict()} if len(results) > 1 else {}),
        "intervals": mean_intervals(per_user, bootstrap_samples, seed),
        "by_seed": {str(number): result.metrics for number, result in evaluations.items()},
        "sampled": pd.DataFrame([result.sampled for result in results]).mean().to_dict(),
        "cases": len(results[0].users),
    }


def describe_targets(split: Split, history: History) -> dict[str, Any]:
    """For metrics.json. history: whether it was ranked, "keep" or "exclude"; targets: see `Split.target_counts`; ties:
    see `tie_shares`, of all users.

    Of repeated targets none is scored where the history is excluded.
    """
    kept = split.keeps_history(history)
    counts = split.target_counts("test")
    return {"history": "keep" if kept else "exclude", "targets": counts, "ties": split.ties}


def write_ranking_metrics(
    path: Path | str, summary: dict[str, Any], training: dict[str, Any] | None, provenance: dict[str, Any]
) -> None:
    """Write metrics.json: the summary of `summarise_seeds`, the training record (None for a baseline), provenance."""
    write_json(path, {**summary, "training": training, "provenance": provenance})
