"""Make the preference pairs of one variant: Alpaca JSONL for train, validation and test."""

import argparse
import sys
from pathlib import Path

from frugal.data.prepared import read_interactions, read_items
from frugal.errors import run_script
from frugal.files import atomic_path
from frugal.kinds import PREFERENCE
from frugal.preference.items import PARTS
from frugal.preference.pairs import make_pairs
from frugal.preference.records import to_jsonl, to_records
from frugal.run.outputs import load_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the run's settings/pairs.yaml")
    parser.add_argument("--interactions", required=True, help="interactions.parquet")
    parser.add_argument("--items", required=True, help="items.parquet")
    parser.add_argument("--output", required=True, type=Path, help="folder for {train,validation,test}.jsonl")
    args = parser.parse_args()
    run = load_run(args.config, PREFERENCE)
    interactions = read_interactions(args.interactions)
    items = read_items(args.items, interactions)
    catalogue, parts = make_pairs(interactions.to_pandas(), items.to_pandas(), run)
    for part in PARTS:
        with atomic_path(args.output / f"{part}.jsonl") as temporary:
            records = to_records(catalogue, parts[part], run, part)
            temporary.write_text(to_jsonl(records), encoding="utf-8", newline="\n")
        users = len({pair.user for pair in parts[part]})
        print(f"{args.output.name}/{part}: {len(parts[part])} pairs of {users} users", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
