"""Write one run's resolved settings, or those that one of its stages reads, beside its results."""

import argparse
from pathlib import Path

from frugal.config.errors import parse_settings, validate
from frugal.config.study import RUN_MODELS, dump_yaml
from frugal.errors import run_script
from frugal.files import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, choices=sorted(RUN_MODELS))
    parser.add_argument("--settings", required=True, help="the resolved settings, as JSON")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    settings = parse_settings(args.settings, "--settings")
    validate(RUN_MODELS[args.experiment], settings, file="--settings")
    write_text(args.output, f"# {args.experiment}, resolved: what this was made with.\n{dump_yaml(settings)}")


if __name__ == "__main__":
    run_script(main)
