"""Write the report as Markdown, as one HTML file, and as LaTeX, from the tables, figures, results and claims."""

import argparse
from pathlib import Path

from frugal.claims.ledger import add_arguments as add_claims_arguments
from frugal.claims.ledger import load_claims, make_ledger
from frugal.config.registry import kind_of, load_models
from frugal.errors import run_script
from frugal.report.render import write_report
from frugal.report.results import add_arguments, from_arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    add_claims_arguments(parser)
    parser.add_argument(
        "--report", required=True, type=Path, help="folder with tables/ and figures/; takes the three reports"
    )
    parser.add_argument(
        "--threat", default=[], action="append", help="a sentence on the study's validity that no result file can know"
    )
    args = parser.parse_args()
    random_models = [
        name
        for name, model in load_models(args.configs / "models.yaml").items()
        if "random" in map(kind_of, model.sources)
    ]
    ledger = make_ledger(load_claims(args.claims), args.results, args.configs)
    write_report(from_arguments(args), args.report, ledger, args.threat, random_models)


if __name__ == "__main__":
    run_script(main)
