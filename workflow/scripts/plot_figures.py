"""Plot the report's figures as SVG and PDF."""

import argparse
from pathlib import Path

from frugal.errors import run_script
from frugal.report.figures import save, style
from frugal.report.results import Results, add_arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--output", required=True, type=Path, help="output folder")
    args = parser.parse_args()
    with style():
        for experiment in Results.read(args.study, args.data).experiments.values():
            for part in experiment.figures:
                save(experiment.section.DRAWINGS[part].draw(experiment), f"{experiment.name}_{part}", args.output)


if __name__ == "__main__":
    run_script(main)
