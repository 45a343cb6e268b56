"""Compile the report's LaTeX to a PDF."""

import argparse
from pathlib import Path

from frugal.errors import run_script
from frugal.report.latex import compile_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", required=True, type=Path, help="folder with report.tex, tables/ and figures/")
    parser.add_argument("--output", required=True, type=Path, help="output: report.pdf")
    args = parser.parse_args()
    wide = compile_report(args.report, args.output)
    print(f"{args.output}: written" + (f"; {wide} boxes are wider than the page" if wide else ""))


if __name__ == "__main__":
    run_script(main)
