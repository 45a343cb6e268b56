"""Bring a fetched data set of interactions into Parquet, checked and reindexed, with a summary."""

import argparse
from pathlib import Path

from frugal.config.registry import DatasetEntry, load_entry
from frugal.data.interactions.preparation import prepare
from frugal.errors import FrugalError, run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="config/datasets.yaml, or its content as JSON")
    parser.add_argument("--name", required=True, help="the data set's name in the table")
    parser.add_argument("--raw", type=Path, required=True, help="the folder that fetch_source.py has made")
    parser.add_argument("--interactions", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--items", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--users", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    entry = load_entry(options.table, options.name)
    if not isinstance(entry, DatasetEntry):
        raise FrugalError(f"{options.name}: is a base model; interactions come from a table of data sets")
    facts = prepare(
        options.name, entry, options.raw, options.interactions, options.items, options.users, options.summary
    )
    skipped, removed = sum(facts["skipped"].values()), facts["duplicates"]["removed"]
    others = f", {facts['events']['left_out']} rows of other event types" if "events" in facts else ""
    print(
        f"{options.name}: {facts['rows_kept']} interactions, {facts['users']} users, {facts['items']} items; "
        f"{skipped} bad rows{others} and {removed} duplicates left out"
    )


if __name__ == "__main__":
    run_script(main)
