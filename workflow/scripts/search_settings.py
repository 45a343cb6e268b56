"""Search a recommender's settings on its validation data; continues where it was stopped. Test data are not read."""

import argparse
import sys
from pathlib import Path

from frugal.config.base import plain
from frugal.config.errors import parse_settings, validate
from frugal.config.search import SearchSettings
from frugal.config.search_space import check_search
from frugal.config.study import dump_yaml
from frugal.errors import FrugalError, run_script
from frugal.files import exclusive, sha256_tree, write_text
from frugal.fingerprint import fingerprint
from frugal.kinds import RECOMMENDATION
from frugal.run.gpus import resolve_gpus
from frugal.run.hardware import choose_device, keep_freed_memory, provenance
from frugal.run.libraries import hide_unused, imports
from frugal.run.outputs import run_name
from frugal.run.progress import PROGRESS

#: What lengthens or shortens a search, and leaves its trials as they are.
BUDGET = ("trials", "hours")


def main() -> int | None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help='JSON: {"run": a run of a recommender, "search": the search}')
    parser.add_argument(
        "--sequences", required=True, type=Path, help="shards without test targets, see leave_out_test.py"
    )
    parser.add_argument("--checkpoints", required=True, type=Path, help="folder that outlives a killed search")
    parser.add_argument("--output", required=True, type=Path, help="folder: trials.csv, validations.csv, best.yaml")
    args = parser.parse_args()
    name = run_name(args.output.parent)
    PROGRESS.begin(f"{name}: loading the data")
    given = parse_settings(args.settings, "--settings")
    if not isinstance(given, dict) or given.keys() != {"run", "search"}:
        raise FrugalError("--settings: must be an object with 'run' and 'search'")
    run = validate(RECOMMENDATION.run, given["run"], file="--settings", prefix=("run",))
    settings = validate(SearchSettings, given["search"], file="--settings", prefix=("search",))
    check_search(run, settings, "--settings", ("search",))
    run = resolve_gpus(run)
    hide_unused(run.adapter.method)
    keep_freed_memory()

    with imports():
        # The device first: libraries use CUDA as they are imported.
        device = choose_device(run.training.gpus)
        from frugal.recsys import search
        from frugal.run.checkpoints import EXIT_DEADLINE, DeadlineReached

    split = search.read_without_test(args.sequences, run.data.fraction)
    # A search with other settings, data or code has other trials.
    data = sha256_tree([args.sequences])
    trials = settings.model_dump(mode="json", exclude=set(BUDGET))
    settled = plain(run, RECOMMENDATION.stages["training"])
    folder = args.checkpoints / fingerprint(__file__, [settled, trials, data])
    try:
        with exclusive(args.checkpoints, "searching"):
            records = search.search(run, settings, split, name, folder, device)
    except DeadlineReached as reached:
        print(f"{reached}; run again to continue", file=sys.stderr)
        return EXIT_DEADLINE

    where = {"run": "/".join(args.output.absolute().parts[-4:-1])} | provenance(settings.seed, {"sequences": data})
    recipe = search.recipe(run, settings, records, where)
    best = search.best_of(records)
    write_text(args.output / "trials.csv", search.trials_csv(records, settings.space))
    write_text(args.output / "validations.csv", search.validations_csv(records))
    write_text(
        args.output / "best.yaml",
        f"# {where['run']}: the best of {len(records)} trials by NDCG@10 on validation data. Test data were not read.\n"
        f"{dump_yaml(recipe)}",
    )
    print(f"{args.output}: trial {best['trial']} of {len(records)}: validation NDCG@10 {best['NDCG@10']:.4f}")
    return None


if __name__ == "__main__":
    run_script(main)
