"""Write the report as Markdown, as one HTML file, and as LaTeX, from the tables, figures, results and claims."""

import argparse
from pathlib import Path

from frugal.claims.ledger import add_arguments as add_claims_arguments
from frugal.claims.ledger import load_claims, make_ledger
from frugal.errors import run_script
from frugal.report.contents import reproduces_any
from frugal.report.render import write_report
from frugal.report.results import Results, add_arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    add_claims_arguments(parser)
    parser.add_argument(
        "--report", required=True, type=Path, help="folder with tables/ and figures/; takes the three reports"
    )
    args = parser.parse_args()
    results, ledger = Results.read(args.study, args.data), None
    if reproduces_any(results.described):
        ledger = make_ledger(load_claims(args.claims), results.root, results.described, args.configs)
    write_report(results, args.report, ledger, results.described["random_models"])


if __name__ == "__main__":
    run_script(main)
