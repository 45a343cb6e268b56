"""Read filled rating sheets back: means, win rates, and agreement between raters."""

import argparse
import sys
from pathlib import Path

from frugal.errors import run_script
from frugal.files import write_json
from frugal.llm.rating.sheet import summarise_ratings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", required=True, type=Path, help="key.json, written with the sheet")
    parser.add_argument("--sheets", required=True, nargs="+", type=Path, help="filled sheets (CSV), one a rater")
    parser.add_argument("--output", required=True, type=Path, help="output: ratings.json")
    args = parser.parse_args()
    result = summarise_ratings(args.sheets, args.key)
    write_json(args.output, result)
    raters = "1 rater" if result["raters"] == 1 else f"{result['raters']} raters"
    print(f"{raters}: tuned preferred in {result['win_rate']['overall']:.0%}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
