"""Write what a study consists of beside its results: its experiments, their runs, and the files of each."""

import argparse
import json
from pathlib import Path

from frugal.config.study import dump_yaml
from frugal.errors import run_script
from frugal.files import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="the description, as JSON")
    parser.add_argument("--output", required=True, type=Path, help="output: results/<study>/study.yaml")
    args = parser.parse_args()
    described = json.loads(args.study)
    write_text(args.output, f"# The study {described['study']}: what its report is made of.\n{dump_yaml(described)}")


if __name__ == "__main__":
    run_script(main)
