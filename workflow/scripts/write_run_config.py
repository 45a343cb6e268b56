"""Write one run's resolved settings, or those that one of its stages reads, beside its results."""

import argparse
from pathlib import Path

from frugal.config.errors import parse_settings, validate
from frugal.config.study import dump_yaml
from frugal.errors import run_script
from frugal.files import write_text
from frugal.kinds import KINDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, help="its name, for the file's first line")
    parser.add_argument("--kind", required=True, choices=sorted(KINDS))
    parser.add_argument("--settings", required=True, help="the resolved settings, as JSON")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    settings = parse_settings(args.settings, "--settings")
    validate(KINDS[args.kind].run, settings, file="--settings")
    write_text(args.output, f"# {args.experiment}, resolved: what this was made with.\n{dump_yaml(settings)}")


if __name__ == "__main__":
    run_script(main)
