"""Train one variant of a recommender with one seed; continues from its checkpoint if it has one."""

from frugal.errors import run_script
from frugal.recsys.command import train


def main() -> int | None:
    return train(__file__, __doc__)


if __name__ == "__main__":
    run_script(main)
