"""Cut prepared interactions into training, validation and evaluation, as NPZ shards."""

import argparse
from pathlib import Path
from typing import Any

import pyarrow as pa

from frugal.config.errors import parse_settings, validate
from frugal.config.recommendation import SPLIT_ADVICE, DataSettings
from frugal.data.interactions.times import UNITS
from frugal.data.prepared import original_ids, read_interactions, read_items
from frugal.errors import FrugalError, blaming, run_script
from frugal.files import read_json
from frugal.recsys.catalogue import Catalogue
from frugal.recsys.given_split import VALIDATION, account, given_split
from frugal.recsys.histories import Split, global_time, leave_one_out
from frugal.recsys.selection import used_histories, used_rows
from frugal.recsys.shards import write_shards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interactions", required=True, type=Path, help="interactions.parquet")
    parser.add_argument("--items", required=True, type=Path, help="items.parquet, for the size of the catalogue")
    parser.add_argument("--summary", required=True, type=Path, help="summary.json of the same data set")
    parser.add_argument("--settings", required=True, help="the study's key `data`, as JSON")
    parser.add_argument("--output", required=True, type=Path, help="output folder")
    args = parser.parse_args()
    settings = validate(DataSettings, parse_settings(args.settings, "--settings"), file="--settings")
    facts = read_facts(args.summary)
    split = split_prepared(args.interactions, args.items, facts, settings)
    about = {"split": settings.model_dump(mode="json", exclude={"shards", "fraction"})}
    about |= {"accounted": account(split)} if settings.split == "files" else {}
    catalogue = Catalogue(original_ids(args.items), facts.get("users_sha256"))
    summary = write_shards(split, args.output, settings.shards, about, catalogue)
    test = summary["targets"]["evaluation"]
    print(
        f"{args.output}: {test['targets']:,} test targets, {test['repeated']:,} of them in the user's own history, "
        f"{test['cold']:,} in nobody's training history"
    )
    if left := summary.get("accounted", {}).get("evaluation"):
        print(
            f"{args.output}: of {left['rows']:,} test interactions {left['without_history']:,} are of users without a "
            f"history, who are not scored, and {left['again']:,} have an item that the user has in the test already"
        )


def read_facts(summary: Path) -> dict[str, Any]:
    """summary.json of a prepared data set."""
    with blaming(summary, "cannot be read", "; make it again with the rule prepare_interactions"):
        return dict(read_json(summary))


def split_prepared(
    path: Path, items: Path, facts: dict[str, Any], settings: DataSettings, in_seconds: bool = True
) -> Split:
    """The split of prepared files that the settings describe.

    Args:
        path, items: interactions.parquet and items.parquet.
        facts: of their summary.json.
        in_seconds: of the times that `data.times` keeps; else they are in the data's own unit.

    Raises:
        FrugalError: the split, or `data.times`, needs times and the data has none; `data.split` does not match the
            data's files; or nobody is left to be evaluated.
    """
    own = "split" in facts
    if own != (settings.split == "files"):
        what = "are a split of their own" if own else "are one table, no split of their own"
        raise FrugalError(
            f"{path}: the files of this data set {what}, and data.split is '{settings.split}'; {SPLIT_ADVICE}"
        )
    if settings.split == "global_time" and facts.get("timestamps") is False:
        raise FrugalError(
            f"{path}: data.split 'global_time' needs times, and this data set has no column 'timestamp': "
            "name it among the columns of its source, or set data.split to 'leave_one_out'"
        )
    ticks = ticks_per_second(facts) if in_seconds else 1
    if settings.times and not ticks:
        raise FrugalError(
            f"{path}: data.times needs times, and this data set has none: name the column 'timestamp' "
            "among the columns of its source, or leave data.times out and set model.positions to 'relative'"
        )
    interactions = read_interactions(path, own)
    core = (facts.get("k_core") or {}).get("min_interactions")
    split = partition(interactions, read_items(items, interactions).num_rows, settings, core, ticks)
    if not len(split.cases("test", "keep")):
        raise FrugalError(
            f"{path}: nobody is left to be evaluated: leave_one_out needs users with at least three "
            "interactions, global_time users with interactions on both sides of the cuts, files users of the test who "
            "are in the file for training or validation"
        )
    return split


def ticks_per_second(facts: dict[str, Any]) -> int:
    """How many units of its times a data set has in a second, by its summary.json; 0 where it has no times."""
    unit = (facts.get("time") or {}).get("unit", UNITS[0])
    return 1000 ** UNITS.index(unit) if facts.get("timestamps", True) and unit in UNITS else 0


def partition(
    interactions: pa.Table, item_count: int, settings: DataSettings, core: int | None = None, ticks: int = 1
) -> Split:
    """The split that the settings describe; equal times keep the order of the prepared rows.

    Args:
        ticks: units of the times in a second.
        core: the data set's `min_interactions`. It holds for the ratings that are used: the k-core of the k-core's
            interactions above a rating is that of all interactions above it.
    """
    histories, times = used_histories(interactions, settings, core, ticks)
    if settings.split == "files":
        rows, _ = used_rows(interactions, settings, core)
        parts = interactions["part"].to_numpy()
        return given_split(histories, parts[rows], item_count, times, hold_out=VALIDATION not in parts)
    if settings.split == "leave_one_out":
        return leave_one_out(histories, item_count, times)
    shares = settings.validation_share, settings.test_share
    return global_time(histories, times, item_count, *shares, settings.targets)


if __name__ == "__main__":
    run_script(main)
