"""Recommend items of the whole catalogue with a trained recommender: the top k for each history or user.

For a file of histories, with the ids of your own data (see docs/how-to/recommend.md for its forms):

    python workflow/scripts/recommend.py --run results/readers/recommender/sasrec --histories my-ratings.csv \\
        --output top.jsonl

For users of the training data, by their ids, and for the items nearest to an item:

    python workflow/scripts/recommend.py --run results/readers/recommender/sasrec --users 0 1
    python workflow/scripts/recommend.py --run results/readers/recommender/sasrec --neighbours 197

The candidates that you name are ranked by a tuned language model with rank_candidates.py.
"""

import argparse
import sys
from pathlib import Path

from frugal.data.lines import STANDARD, numbered_lines
from frugal.data.prepared import original_ids, read_items
from frugal.errors import FrugalError, run_script
from frugal.recsys.finished_run import load_settings
from frugal.run.hardware import keep_freed_memory
from frugal.run.libraries import hide_unused, imports


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--run", required=True, type=Path, help="folder of a finished run: results/STUDY/EXPERIMENT/RUN"
    )
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--histories", metavar="FILE", help=".jsonl, .ndjson, .csv, .tsv or .parquet; - reads JSON lines"
    )
    asked.add_argument(
        "--users", nargs="+", metavar="ID", help="users of the training data, with their histories there"
    )
    asked.add_argument(
        "--neighbours", nargs="*", metavar="ITEM", help="the items nearest to each of these; none: to all"
    )
    parser.add_argument("-k", "--top", type=int, default=10, help="items for each record (default: 10)")
    parser.add_argument(
        "--output", default=STANDARD, metavar="FILE", help=".jsonl, .ndjson or .csv (default: JSON lines)"
    )
    parser.add_argument(
        "--fields", nargs="+", default=[], metavar="ROLE=NAME", help="columns, such as user=who item=what"
    )
    parser.add_argument("--allow", metavar="FILE", help="recommend these items only: an id in each line")
    parser.add_argument("--deny", metavar="FILE", help="never recommend these items: an id in each line")
    history = parser.add_mutually_exclusive_group()
    history.add_argument(
        "--keep-history", dest="keep", action="store_true", default=None, help="also items of the history"
    )
    history.add_argument(
        "--exclude-history", dest="keep", action="store_false", default=None, help="no items of the history"
    )
    parser.add_argument("--seed", type=int, help="which of the run's models (default: that of its first seed)")
    parser.add_argument("--batch-size", type=int, default=256, help="histories that are scored together (default: 256)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the prepared data")
    args = parser.parse_args()
    if args.top < 1 or args.batch_size < 1:
        parser.error("--top and --batch-size are 1 or more")
    if not all("=" in field for field in args.fields):
        parser.error("--fields takes ROLE=NAME, such as user=who item=what")
    for option in ("histories", "allow", "deny"):
        file = getattr(args, option)
        if file and args.output != STANDARD and Path(file).resolve() == Path(args.output).resolve():
            parser.error(f"--output would replace the file of --{option}: give it another name")
    if args.fields and not args.histories:
        parser.error("--fields names columns of --histories")
    if args.neighbours is not None and (args.allow or args.deny or args.keep is not None):
        parser.error("--neighbours are of the whole catalogue, and take no list of items and no history")
    run = load_settings(args.run)
    hide_unused(run.adapter.method)
    keep_freed_memory()

    with imports():
        from frugal.recsys.answers import write_answers, write_neighbours
        from frugal.recsys.recommending import Counts, TopItems, examples, load_finished, neighbours
        from frugal.recsys.requests import Request, read_requests

    titles = read_titles(args.data / "prepared" / run.dataset / "items.parquet")
    if args.neighbours is not None:
        model, catalogue = load_finished(args.run, run, args.seed)
        warn_of_few(args.top, len(catalogue.items) - 1)
        found = neighbours(model, catalogue, args.neighbours or catalogue.items, args.top, args.batch_size)
        write_neighbours(found, titles, args.output)
        return
    allowed, denied = args.allow and read_ids(args.allow), read_ids(args.deny) if args.deny else ()
    top = TopItems.of_run(args.run, run, args.data, args.seed, args.keep, allowed, denied)
    warn_of_few(args.top, int((~top.hidden).sum()))
    if top.not_listed:
        shown = examples(top.not_listed)
        print(f"allowed or denied, and not in the catalogue: {len(top.not_listed)} ids: {shown}", file=sys.stderr)
    if args.users:
        requests = (Request(user, None) for user in args.users)
    else:
        requests = read_requests(args.histories, dict(field.split("=", 1) for field in args.fields))
    counts = Counts()
    write_answers(counts.counted(top.recommend(requests, args.top, args.batch_size)), titles, args.output)
    print(counts.describe(), file=sys.stderr)


def warn_of_few(k: int, items: int) -> None:
    if k > items:
        print(f"--top {k}: there are {items} items to choose from, and no more are listed", file=sys.stderr)


def read_titles(path: Path) -> dict[str, str]:
    """Item id -> title, of items that have one; empty where the prepared data is not here."""
    if not path.exists():
        print(f"{path}: not there, so there are no titles", file=sys.stderr)
        return {}
    table = read_items(path).sort_by("item")
    pairs = zip(original_ids(path), table["title"].to_pylist(), strict=True)
    return {item: title for item, title in pairs if title != item}


def read_ids(path: str) -> list[str]:
    """The ids in a file, one in each line.

    Raises:
        FrugalError: there are none.
    """
    ids = [line.strip() for _, line in numbered_lines(path)]
    if not ids:
        raise FrugalError(f"{path}: holds no ids; put one in each line")
    return ids


if __name__ == "__main__":
    run_script(main)
