"""Train one variant's adapter on blocks of text; continues from its checkpoint if it has one."""

from frugal.errors import run_script
from frugal.llm.blocks import read_blocks
from frugal.llm.training import train


def main() -> int | None:
    return train(__file__, __doc__, read_blocks)


if __name__ == "__main__":
    run_script(main)
