"""Run a command with GPUs that no other job of this user has: `reserve_gpus.py 2 torchrun ...`.

torchrun's processes share their GPUs, so they are reserved before it starts, and for as long as it lives.
"""

import argparse
import os

from frugal.errors import FrugalError, run_script
from frugal.run.gpus import VISIBLE, reserve
from frugal.run.hardware import visible_gpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if not args.command:
        parser.error("give a command after the number of GPUs")
    visible = visible_gpus()
    if len(visible) < args.count:
        raise FrugalError(
            f"training.gpus is {args.count}, but {len(visible) or 'no'} GPU{'s are' if len(visible) > 1 else ' is'} "
            "visible here; lower training.gpus, or set it to 0 to train on the CPU"
        )
    os.environ[VISIBLE] = ",".join(reserve(args.count, visible))
    try:
        os.execvp(args.command[0], args.command)
    except OSError as error:
        raise FrugalError(f"{args.command[0]}: cannot be started: {error.strerror}") from None


if __name__ == "__main__":
    run_script(main)
