"""Write config/schema.json, from which editors complete and check a study."""

import argparse
from pathlib import Path

from frugal.config.schema import json_schema
from frugal.errors import run_script
from frugal.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, type=Path)
    write_json(parser.parse_args().output, json_schema())


if __name__ == "__main__":
    run_script(main)
