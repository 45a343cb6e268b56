"""Read generated files of interactions by both readers: python tests/fuzz -n 10000 [--first 0]."""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "workflow/scripts")]

from tests.fuzz.readers import difference, parts_difference  # noqa: E402 (the path first)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10_000, help="files; each is made from its number, the seed")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    args = parser.parse_args()
    found = 0
    for seed in range(args.first, args.first + args.n):
        with tempfile.TemporaryDirectory() as folder:
            if fault := difference(seed, Path(folder)) or parts_difference(seed, Path(folder)):
                found += 1
                print(fault, flush=True)
    print(f"{args.n} files, seeds {args.first} to {args.first + args.n - 1}: the readers differ on {found}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
