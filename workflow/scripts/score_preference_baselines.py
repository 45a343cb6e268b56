"""Score the test pairs by rules that need no language model: always A, popularity, shared genres, EASE."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from frugal.config.study import BASELINES
from frugal.data.preference import read_jsonl, split_users
from frugal.data.prepared import read_films, read_interactions
from frugal.errors import run_script
from frugal.files import atomic_path
from frugal.hardware import provenance
from frugal.metrics import preference_metrics, summarise
from frugal.recsys.ease import fit_ease
from frugal.runs import hash_inputs, load_run, write_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the base run's config.yaml")
    parser.add_argument("--interactions", required=True, type=Path)
    parser.add_argument("--items", required=True, type=Path)
    parser.add_argument("--test", required=True, type=Path, help="test.jsonl")
    parser.add_argument("--results", required=True, type=Path, help="output: baseline_<name>/metrics.json below it")
    args = parser.parse_args()
    run = load_run(args.config, "movie_preference")
    table = read_interactions(args.interactions)
    interactions, items = table.to_pandas(), read_films(args.items, table).to_pandas()
    records = read_jsonl(args.test, scored=True)
    training_users = split_users(sorted(interactions["user"].unique()), run)["train"]
    training = interactions[interactions["user"].isin(training_users)]
    margins = preference_margins(records, training, items, run.pairs.liked_rating)
    origin = provenance(run.seed, hash_inputs(test=args.test, interactions=args.interactions))
    for name in BASELINES["movie_preference"]:
        # A margin says which film is preferred, not how surely: only its order matters here.
        margin = margins.get(name, np.zeros(len(records)))
        preferred = 0.5 + 0.5 * margin / (1 + np.abs(margin))
        table = pd.DataFrame([{key: row[key] for key in ("user", "kind", "liked", "other")} for row in records])
        always_a = name == "always_a"
        table = table.assign(p_liked_a=1.0 if always_a else preferred, p_liked_b=1.0 if always_a else 1 - preferred)
        metrics, intervals = summarise(table, rule_metrics, run.evaluation.bootstrap_samples, run.seed)
        folder = args.results / f"baseline_{name}"
        with atomic_path(folder / "predictions.parquet") as temporary:
            table.to_parquet(temporary, index=False)
        write_metrics(folder / "metrics.json", metrics, intervals, None, origin)


def preference_margins(
    records: list[dict], training: pd.DataFrame, items: pd.DataFrame, liked_rating: float
) -> dict[str, np.ndarray]:
    """By how much each rule prefers the liked film of each pair; n values a rule, 0 for no preference."""
    items = items.sort_values("item")
    genres = [frozenset(names) for names in items["genres"]]
    popularity = np.bincount(training["item"], minlength=len(items))
    liked = training[training["rating"] >= liked_rating]
    weights = fit_ease(liked["user"].to_numpy(), liked["item"].to_numpy(), len(items))

    def overlap(history: list[int], film: int) -> int:
        return sum(len(genres[film] & genres[past]) for past in history)

    return {
        "popularity": np.array([float(popularity[r["liked"]] - popularity[r["other"]]) for r in records]),
        "genre_overlap": np.array(
            [float(overlap(r["history"], r["liked"]) - overlap(r["history"], r["other"])) for r in records]
        ),
        "ease": np.array(
            [weights[r["history"], r["liked"]].sum() - weights[r["history"], r["other"]].sum() for r in records]
        ),
    }


def rule_metrics(p_liked_a: np.ndarray, p_liked_b: np.ndarray) -> dict[str, float]:
    """A rule states no probabilities, so calibration has no meaning for it."""
    metrics = preference_metrics(p_liked_a, p_liked_b)
    return {name: value for name, value in metrics.items() if name not in ("p_a", "brier", "ece")}


if __name__ == "__main__":
    run_script(main)
