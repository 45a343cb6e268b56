"""What the original write-ups state, beside what is computed and measured here, with a verdict for each number."""

import argparse
from pathlib import Path

from frugal.claims.ledger import as_text, load_claims, make_ledger
from frugal.errors import FrugalError, run_script
from frugal.files import atomic_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, type=Path, help="the folder of one study: results/<study>")
    parser.add_argument("--claims", default=Path("config/claims.yaml"), type=Path)
    parser.add_argument("--configs", default=Path("config"), type=Path, help="folder of the studies' configurations")
    parser.add_argument("--output", type=Path, help="output: the ledger, one row a claim, Parquet")
    args = parser.parse_args()
    if args.output and args.output.is_dir():
        raise FrugalError(f"{args.output}: is a folder; give --output a file's name")
    ledger = make_ledger(load_claims(args.claims), args.results, args.configs)
    print(as_text(ledger))
    if args.output:
        with atomic_path(args.output) as temporary:
            ledger.to_parquet(temporary, index=False)


if __name__ == "__main__":
    run_script(main)
