"""What the original write-ups state, beside what is computed and measured here, with a verdict for each number."""

import argparse
from pathlib import Path

from frugal.claims.ledger import add_arguments, as_text, load_claims, make_ledger, write_ledger
from frugal.errors import FrugalError, run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, type=Path, help="the folder of one study: results/<study>")
    add_arguments(parser)
    parser.add_argument("--output", type=Path, help="output: the ledger, one row a claim, Parquet")
    args = parser.parse_args()
    if args.output and args.output.is_dir():
        raise FrugalError(f"{args.output}: is a folder; give --output a file's name")
    ledger = make_ledger(load_claims(args.claims), args.results, args.configs)
    print(as_text(ledger))
    if args.output:
        write_ledger(ledger, args.output)


if __name__ == "__main__":
    run_script(main)
