"""Bring all finished runs of a study into the MLflow store, with their parameters, metrics and files."""

import argparse
from pathlib import Path

from frugal.errors import FrugalError, run_script
from frugal.run.mlflow_store import log_study
from frugal.run.tracking import store_uri


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="results/<study>")
    parser.add_argument("--store", default=store_uri(), help="the store's address; default: %(default)s")
    args = parser.parse_args()
    if not any(args.results.glob("*/*/metrics.json")):
        raise FrugalError(f"{args.results}: holds no finished run; run the study first")
    try:
        counts = log_study(args.results, args.store)
    except ImportError as error:
        install = "pip install --no-deps -r envs/trackers.txt"
        raise FrugalError(f"{error.name} is not installed: {install}") from None
    print(f"{args.store}: {counts['logged']} runs logged, {counts['there']} were there")


if __name__ == "__main__":
    run_script(main)
