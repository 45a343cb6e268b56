"""Make the report's tables: CSV with all digits, Markdown, and LaTeX for booktabs."""

import argparse
from pathlib import Path

from frugal.errors import run_script
from frugal.report import frames
from frugal.report.results import Results, add_arguments
from frugal.report.study import section as whole
from frugal.report.study import tables as study
from frugal.report.tables import save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--output", required=True, type=Path, help="output folder")
    args = parser.parse_args()
    results = Results.read(args.study, args.data)
    for experiment in results.experiments.values():
        for part in experiment.tables:
            table = frames.build(part, experiment)
            save(table, args.output, experiment.missing(table.layout.needs))
    for name in study.layouts(results):
        save(study.build(name, results), args.output, whole.missing(name, results))


if __name__ == "__main__":
    run_script(main)
