"""Score the test pairs by baselines without a language model: always A, popularity, shared attributes, EASE."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from frugal.data.prepared import read_interactions, read_items
from frugal.errors import run_script
from frugal.files import atomic_path
from frugal.kinds import PREFERENCE
from frugal.preference.items import Items
from frugal.preference.metrics import metrics_with_intervals
from frugal.preference.pairs import split_users
from frugal.preference.records import PAIR, read_jsonl
from frugal.recsys.ease import beyond_memory, fit_ease
from frugal.run.hardware import provenance
from frugal.run.outputs import hash_inputs, load_run, write_metrics

#: Baselines state no probabilities, so that metrics of calibration have no meaning for them.
CALIBRATION = ("p_a", "brier", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the base run's settings/evaluation.yaml")
    parser.add_argument("--interactions", required=True, type=Path)
    parser.add_argument("--items", required=True, type=Path)
    parser.add_argument("--test", required=True, type=Path, help="test.jsonl")
    parser.add_argument("--results", required=True, type=Path, help="output: baseline_<name>/metrics.json below it")
    parser.add_argument("--memory-mb", type=float, help="MB that EASE may take; default: the machine's")
    args = parser.parse_args()
    run = load_run(args.config, PREFERENCE)
    table = read_interactions(args.interactions)
    interactions, items = table.to_pandas(), read_items(args.items, table).to_pandas()
    records = read_jsonl(args.test, PAIR)
    training_users = split_users(sorted(interactions["user"].unique()), run)["train"]
    training = interactions[interactions["user"].isin(training_users)]
    with_attributes = run.items.attribute is not None
    too_large = beyond_memory(len(items), args.memory_mb)
    margins = preference_margins(
        records, training, Items(items, with_attributes), run.pairs.liked_rating, ease=not too_large
    )
    origin = provenance(run.seed, hash_inputs(test=args.test, interactions=args.interactions))
    pairs = pd.DataFrame([{key: row[key] for key in ("user", "kind", "liked", "other")} for row in records])
    for name in PREFERENCE.baselines:
        # A margin says which item is preferred, not how surely: only its order matters here.
        margin = margins.get(name, np.zeros(len(records)))
        preferred = 0.5 + 0.5 * margin / (1 + np.abs(margin))
        always_a = name == "always_a"
        table = pairs.assign(p_liked_a=1.0 if always_a else preferred, p_liked_b=1.0 if always_a else 1 - preferred)
        left_out = None
        if name == "attribute_overlap" and not with_attributes:
            left_out = f"the {run.items.plural} of {run.dataset} have no attributes"
        elif name == "ease":
            left_out = too_large
        if left_out:
            table, metrics, intervals = table[:0], {}, {}
        else:
            samples = run.evaluation.bootstrap_samples
            metrics, intervals = metrics_with_intervals(table, samples, run.seed, without=CALIBRATION)
        folder = args.results / f"baseline_{name}"
        with atomic_path(folder / "predictions.parquet") as temporary:
            table.to_parquet(temporary, index=False)
        write_metrics(folder / "metrics.json", metrics, intervals, None, origin, left_out)


def preference_margins(
    records: list[dict], training: pd.DataFrame, items: Items, liked_rating: float, ease: bool = True
) -> dict[str, np.ndarray]:
    """By how much each baseline prefers the liked item of each pair; n values a baseline, 0 for no preference.

    Args:
        ease: whether EASE is fitted; without, it is left out.
    """
    popularity = np.bincount(training["item"], minlength=len(items.titles))
    liked = training[training["rating"] >= liked_rating]

    def overlap(history: list[int], item: int) -> int:
        return sum(len(items.attributes[item] & items.attributes[past]) for past in history)

    margins = {
        "popularity": np.array([float(popularity[r["liked"]] - popularity[r["other"]]) for r in records]),
        "attribute_overlap": np.array(
            [float(overlap(r["history"], r["liked"]) - overlap(r["history"], r["other"])) for r in records]
        ),
    }
    if ease:
        weights = fit_ease(liked["user"].to_numpy(), liked["item"].to_numpy(), len(items.titles))
        margins["ease"] = np.array(
            [weights[r["history"], r["liked"]].sum() - weights[r["history"], r["other"]].sum() for r in records]
        )
    return margins


if __name__ == "__main__":
    run_script(main)
