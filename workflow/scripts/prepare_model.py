"""Bring a base model into one form: a folder of safetensors and tokenizer files."""

import argparse
import sys
from pathlib import Path

from frugal.config.registry import load_entry
from frugal.errors import run_script
from frugal.files import atomic_path
from frugal.llm.conversion import prepare_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", default="config/models.yaml", help="the file, or its content as JSON")
    parser.add_argument("--name", required=True, help="a model of the table")
    parser.add_argument("--raw", type=Path, help="the fetched folder; none for a random model")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    entry = load_entry(args.table, args.name)
    with atomic_path(args.output) as temporary:
        prepare_model(entry, args.raw, temporary)
    print(f"{args.output}: ready", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
