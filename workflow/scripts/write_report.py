"""Write the report as Markdown, as one HTML file, and as LaTeX, from the tables, figures and results."""

import argparse
from pathlib import Path

from frugal.errors import run_script
from frugal.report.render import write_report
from frugal.report.results import add_arguments, from_arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument(
        "--report", required=True, type=Path, help="folder with tables/ and figures/; takes the three reports"
    )
    args = parser.parse_args()
    write_report(from_arguments(args), args.report)


if __name__ == "__main__":
    run_script(main)
