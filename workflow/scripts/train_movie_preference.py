"""Train one variant's adapter on its preference pairs; continues from its checkpoint if it has one."""

from frugal.data.preference import read_jsonl
from frugal.errors import run_script
from frugal.llm.command import train
from frugal.llm.prompts import encode_example


def main() -> int | None:
    return train("movie_preference", __file__, __doc__, read_jsonl, encode_example)


if __name__ == "__main__":
    run_script(main)
