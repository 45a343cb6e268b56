"""Write the split that a study's recommenders are trained and tested on in the format of another library.

    python workflow/scripts/export_data.py --configfile config/config.yaml --data movielens-100k --format recbole

Formats: recbole (atomic files), rectools (Parquet), sasrec (the text file of SASRec's authors).
"""

import argparse
from pathlib import Path

import pyarrow as pa

from frugal.config.errors import nearest
from frugal.config.recommendation import DataSettings, RecommendationRun
from frugal.config.study import Study, read_study
from frugal.data.prepared import original_ids, read_columns
from frugal.errors import FrugalError, run_script
from frugal.files import atomic_path, write_json
from frugal.kinds import RECOMMENDATION
from frugal.recsys.export import FORMATS, Export, describe, used_users
from partition_interactions import read_facts, split_prepared

FILES = ("interactions.parquet", "items.parquet", "users.parquet", "summary.json")
USERS = pa.schema({"user": pa.int32(), "original_id": pa.string()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, default=Path("config/config.yaml"), help="the study")
    parser.add_argument("--data", default="", help="a data set that a recommender of the study reads")
    parser.add_argument("--format", default="", help=", ".join(FORMATS))
    parser.add_argument("--run", default="", help="EXPERIMENT/VARIANT, where runs cut the data in different ways")
    parser.add_argument("--max-length", type=int, default=50, help="items of a history in RecBole's files")
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"), help="folder of the prepared data")
    parser.add_argument("--check", action="store_true", help="only say whether the study has this split")
    parser.add_argument("--output", type=Path, help="output folder; else data/exports/STUDY/DATA/FORMAT")
    args = parser.parse_args()
    if args.format not in FORMATS:
        raise FrugalError(
            f"FORMAT={args.format}: there is no such format{nearest(args.format, list(FORMATS), 'formats')}"
        )
    if args.max_length < 1:
        raise FrugalError(f"--max-length {args.max_length}: must be 1 or more")
    study = read_study(args.configfile)
    run = find_run(study, args.data, args.run)
    if args.format == "sasrec" and run.data.split != "leave_one_out":
        raise FrugalError(
            f"FORMAT=sasrec: its file implies that each user's last two items are left out, and data.split is "
            f"'{run.data.split}': export it with FORMAT=recbole or FORMAT=rectools"
        )
    if args.check:
        return
    paths = {name: args.prepared / args.data / name for name in FILES}
    if missing := [path for path in paths.values() if not path.exists()]:
        raise FrugalError(
            f"{missing[0]}: not there; prepare the data first: snakemake --cores 2 --configfile {args.configfile} -- "
            f"{missing[0]}"
        )
    data = read_export(args.data, run, paths, args.max_length)
    output = args.output or Path("data/exports", study.name, args.data, args.format)
    with atomic_path(output) as folder:
        folder.mkdir()
        notes = FORMATS[args.format](folder, data)
        settings = run.data.model_dump(mode="json", exclude={"shards"})
        write_json(folder / "export.json", {"data": args.data, "split": settings, **describe(data), "notes": notes})
    print(f"{output}: {', '.join(sorted(path.name for path in output.iterdir()))}")
    for note in notes:
        print(f"  note: {note}")


def find_run(study: Study, data: str, wanted: str = "") -> RecommendationRun:
    """The settings of the study's recommenders on a data set, or of the one that is asked for.

    Raises:
        FrugalError: there is none; or there are several that cut the data in different ways.
    """
    experiments = study.of_kind(RECOMMENDATION)
    runs = {f"{name}/{variant}": run for name, one in experiments.items() for variant, run in one.runs.items()}
    used = sorted({run.dataset for run in runs.values()})
    if data not in used:
        raise FrugalError(
            f"DATA={data}: no recommender of the study '{study.name}' reads it{nearest(data, used, 'they read')}"
        )
    runs = {name: run for name, run in runs.items() if run.dataset == data}
    if wanted:
        if wanted not in runs:
            raise FrugalError(f"RUN={wanted}: there is no such run on {data}{nearest(wanted, list(runs), 'its runs')}")
        return runs[wanted]
    ways = {(cut_by(run.data), run.evaluation.history) for run in runs.values()}
    if len(ways) > 1:
        listed = " or ".join(f"RUN={name}" for name in runs)
        raise FrugalError(f"DATA={data}: runs of the study '{study.name}' cut it in different ways; choose {listed}")
    return next(iter(runs.values()))


def cut_by(settings: DataSettings) -> DataSettings:
    """The settings without what changes nothing in the split."""
    shards = {"shards": 1} if settings.fraction == 1 else {}
    return settings.model_copy(update={"times": True, **shards})


def read_export(name: str, run: RecommendationRun, paths: dict[str, Path], max_length: int) -> Export:
    """The split of a run, with ids and with times in the data's own unit."""
    facts = read_facts(paths["summary.json"])
    timed = run.data.model_copy(update={"times": True})
    split = split_prepared(paths["interactions.parquet"], paths["items.parquet"], facts, timed, in_seconds=False)
    users = read_columns(paths["users.parquet"], USERS, "prepare_interactions").sort_by("user")
    unit = (facts.get("time") or {}).get("unit", "s") if facts.get("timestamps", True) else "position"
    return Export(
        name,
        used_users(split, run.data),
        users["original_id"].to_pylist(),
        original_ids(paths["items.parquet"]),
        unit,
        run.evaluation.history,
        max_length,
    )


if __name__ == "__main__":
    run_script(main)
