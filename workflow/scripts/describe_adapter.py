"""Write an adapter's model card from its settings and its measured figures."""

import argparse
import json
from pathlib import Path

from frugal.config.registry import load_entry
from frugal.errors import FrugalError, first_line, run_script
from frugal.files import read_json, write_text
from frugal.kinds import LANGUAGE_MODELING, PREFERENCE
from frugal.report.model_card import model_card
from frugal.run.outputs import load_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, type=Path, help="the run's config.yaml")
    parser.add_argument("--metrics", required=True, type=Path, help="the run's metrics.json")
    parser.add_argument("--models", default="config/models.yaml", help="models' table, or its content as JSON")
    parser.add_argument("--datasets", default="config/datasets.yaml", help="data sets' table, or its content as JSON")
    parser.add_argument("--output", required=True, type=Path, help="output: README.md")
    args = parser.parse_args()
    run = load_run(args.config, PREFERENCE, LANGUAGE_MODELING)
    try:
        record = read_json(args.metrics)
    except (OSError, ValueError) as error:
        reason = f"{args.metrics}: cannot be read ({first_line(error)})"
        raise FrugalError(f"{reason}; run `snakemake {args.metrics}`") from None
    card = model_card(
        args.metrics.absolute().parents[1].name,
        json.loads(run.model_dump_json()),
        record,
        load_entry(args.models, run.base_model),
        load_entry(args.datasets, run.dataset),
        variant=args.metrics.parent.name,
    )
    write_text(args.output, card)


if __name__ == "__main__":
    run_script(main)
