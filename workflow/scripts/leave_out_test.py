"""Copy the training and validation part of NPZ shards, for searches: the files of test targets are never opened."""

import argparse
import shutil
from pathlib import Path

import numpy as np

from frugal.errors import FrugalError, blaming, run_script
from frugal.files import atomic_path, read_json, write_json
from frugal.recsys.catalogue import CATALOGUE
from frugal.recsys.shards import PARTS, read_split

TEST = PARTS[-1]
#: Facts of summary.json that say nothing of the test part.
FACTS = ("split", "users", "items", "shards", "ordered", "chosen", "times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", required=True, type=Path, help="folder of NPZ shards")
    parser.add_argument("--output", required=True, type=Path, help="output: the same with an empty test part")
    args = parser.parse_args()
    leave_out_test(args.sequences, args.output)


def leave_out_test(sequences: Path, output: Path) -> None:
    """Write the shards of ``sequences`` into the folder ``output``, without rows in the test part.

    Whether items repeat, which decides what `evaluation.history: auto` is, is counted in the other two parts.

    Raises:
        FrugalError: summary.json or a shard is missing or damaged.
    """
    path = sequences / "summary.json"
    with blaming(path, "cannot be read", "; run the rule partition_interactions again"):
        summary = {key: value for key, value in read_json(path).items() if key in FACTS}
        names = [f"part_{number:03}.npz" for number in range(summary["shards"])]
    empty = [np.zeros((0, 2), np.int32)] + [np.zeros(0, np.int64)] * bool(summary.get("times"))
    with atomic_path(output) as temporary:
        for part in PARTS:
            (temporary / part).mkdir(parents=True)
            for name in names:
                if part == TEST:
                    np.savez(temporary / part / name, *empty)
                elif (source := sequences / part / name).is_file():
                    shutil.copyfile(source, temporary / part / name)
                else:
                    raise FrugalError(f"{source}: the shard is missing; run the rule partition_interactions again")
        shutil.copyfile(sequences / CATALOGUE, temporary / CATALOGUE)
        write_json(temporary / "summary.json", summary)
        split = read_split(temporary)
        rows = {
            part: len(histories.items) for part, histories in zip(PARTS, (split.train, split.validation), strict=False)
        }
        targets = {"validation": split.target_counts("validation")}
        write_json(temporary / "summary.json", summary | {"rows": rows, "repeats": split.repeats, "targets": targets})


if __name__ == "__main__":
    run_script(main)
