"""Train one variant's adapter on its preference pairs; continues from its checkpoint if it has one."""

from frugal.errors import run_script
from frugal.llm.training import train
from frugal.preference.prompts import encode_records
from frugal.preference.records import read_jsonl


def main() -> int | None:
    return train(__file__, __doc__, read_jsonl, encode_records)


if __name__ == "__main__":
    run_script(main)
