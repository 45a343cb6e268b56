"""What the original write-ups state, beside what is computed and measured here, with a verdict for each number."""

import argparse
from pathlib import Path

from frugal.claims.ledger import add_arguments, as_text, load_claims, make_ledger, write_ledger
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError, run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=Path, help="results/<study>/study.yaml; its results beside it")
    add_arguments(parser)
    parser.add_argument("--output", type=Path, help="output: the ledger, one row a claim, Parquet")
    args = parser.parse_args()
    if args.output and args.output.is_dir():
        raise FrugalError(f"{args.output}: is a folder; give --output a file's name")
    if not args.study.exists():
        raise FrugalError(f"{args.study}: there is no such file; run `snakemake {args.study}`")
    ledger = make_ledger(load_claims(args.claims), args.study.parent, read_yaml(args.study), args.configs)
    print(as_text(ledger))
    if args.output:
        write_ledger(ledger, args.output)


if __name__ == "__main__":
    run_script(main)
