"""Fetch a data set or a base model into a folder: from the registry, the web, the Hub or this machine."""

import argparse
from pathlib import Path

from frugal.config.registry import load_entry
from frugal.data.source.fetch import fetch
from frugal.errors import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="a table of config/, or its content as JSON")
    parser.add_argument("--name", required=True, help="the entry's name in the table")
    parser.add_argument("--output", type=Path, required=True, help="the folder to make")
    parser.add_argument("--local-path", type=Path, help="an archive or folder that you have; no network is used")
    parser.add_argument("--downloads", type=Path, default=Path("data/downloads"), help="where fetched files are kept")
    options = parser.parse_args()
    entry = load_entry(options.table, options.name)
    fetch(options.name, entry, options.output, downloads=options.downloads, local=options.local_path)


if __name__ == "__main__":
    run_script(main)
