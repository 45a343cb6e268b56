"""Plot the report's figures as SVG and PDF."""

import argparse
from pathlib import Path

from frugal.errors import run_script
from frugal.report.contents import FIGURES, LANGUAGE_MODELS, RECOMMENDERS
from frugal.report.figures import save, style
from frugal.report.language_models import figures as language_models
from frugal.report.movie_preference import figures as movie_preference
from frugal.report.recommenders import figures as recommenders
from frugal.report.results import add_arguments, from_arguments

MODULES = {"movie_preference": movie_preference} | dict.fromkeys(RECOMMENDERS, recommenders)
MODULES |= dict.fromkeys(LANGUAGE_MODELS, language_models)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--output", required=True, type=Path, help="output folder")
    args = parser.parse_args()
    results = from_arguments(args)
    with style():
        for experiment, module in MODULES.items():
            for name in FIGURES[experiment] if results.of(experiment) else ():
                save(module.DRAWINGS[name].draw(results), name, args.output)


if __name__ == "__main__":
    run_script(main)
