"""Cut prepared interactions into training, validation and evaluation, as NPZ shards."""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from frugal.config.errors import parse_settings, validate
from frugal.config.recommenders import DataSettings
from frugal.data.prepared import read_films, read_interactions
from frugal.errors import FrugalError, run_script
from frugal.recsys.histories import Histories, Split, global_time, leave_one_out
from frugal.recsys.shards import write_shards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interactions", required=True, type=Path, help="interactions.parquet")
    parser.add_argument("--items", required=True, type=Path, help="items.parquet, for the size of the catalogue")
    parser.add_argument("--settings", required=True, help="the study's key `data`, as JSON")
    parser.add_argument("--output", required=True, type=Path, help="output folder")
    args = parser.parse_args()
    settings = validate(DataSettings, parse_settings(args.settings, "--settings"), file="--settings")
    interactions = read_interactions(args.interactions)
    split = partition(interactions, read_films(args.items, interactions).num_rows, settings)
    if not len(split.cases("test")):
        raise FrugalError(
            f"{args.interactions}: nobody is left to be evaluated: leave_one_out needs users with at least three "
            "interactions, global_time users with interactions on both sides of the cuts"
        )
    about = {"split": settings.model_dump(mode="json", exclude={"shards", "fraction"})}
    write_shards(split, args.output, settings.shards, about)


def partition(interactions: pa.Table, item_count: int, settings: DataSettings) -> Split:
    """The split that the settings describe; equal times keep the order of the file."""
    users, items, ratings, times = (interactions[name].to_numpy() for name in ("user", "item", "rating", "timestamp"))
    user_count = int(users.max()) + 1
    keep = np.ones(len(users), dtype=bool)
    if settings.min_rating is not None:
        keep &= ratings >= settings.min_rating
    if settings.max_users is not None:
        keep &= users < settings.max_users
        user_count = min(user_count, settings.max_users)
    order = np.flatnonzero(keep)
    order = order[np.argsort(times[order], kind="stable")]
    histories = Histories.from_pairs(users[order], items[order], user_count)
    if settings.split == "leave_one_out":
        return leave_one_out(histories, item_count)
    order = order[np.argsort(users[order], kind="stable")]
    return global_time(histories, times[order], item_count, settings.validation_share, settings.test_share)


if __name__ == "__main__":
    run_script(main)
