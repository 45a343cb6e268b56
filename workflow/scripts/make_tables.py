"""Make the report's tables: CSV with all digits, Markdown, and LaTeX for booktabs."""

import argparse
from pathlib import Path

from frugal.errors import run_script
from frugal.report.contents import LANGUAGE_MODELS, RECOMMENDERS, TABLES
from frugal.report.language_models import tables as language_models
from frugal.report.movie_preference import tables as movie_preference
from frugal.report.recommenders import tables as recommenders
from frugal.report.results import add_arguments, from_arguments
from frugal.report.study import section as study
from frugal.report.tables import save

MODULES = {"movie_preference": movie_preference} | dict.fromkeys(RECOMMENDERS, recommenders)
MODULES |= dict.fromkeys(LANGUAGE_MODELS, language_models)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--output", required=True, type=Path, help="output folder")
    args = parser.parse_args()
    results = from_arguments(args)
    for experiment, module in MODULES.items():
        for name in TABLES[experiment] if results.of(experiment) else ():
            table = module.build(name, results)
            save(table, args.output, results.missing(experiment, table.layout.needs))
    for name in study.table_names(results):
        save(study.build(name, results), args.output, study.missing(name, results))


if __name__ == "__main__":
    run_script(main)
