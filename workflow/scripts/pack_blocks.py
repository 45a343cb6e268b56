"""Tokenise documents and pack them into training blocks; the test documents stay whole."""

import argparse
import sys
from pathlib import Path

from frugal.data.blocks import pack_documents
from frugal.errors import run_script
from frugal.libraries import imports
from frugal.runs import load_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the run's config.yaml")
    parser.add_argument("--experiment", required=True, help="wikitext or climate")
    parser.add_argument("--documents", required=True, type=Path, help="documents.parquet")
    parser.add_argument("--tokenizer", required=True, type=Path, help="the base model's folder")
    parser.add_argument("--output", required=True, type=Path, help="folder for the three parts and blocks.json")
    args = parser.parse_args()
    run = load_run(args.config, args.experiment)

    with imports():
        from frugal.llm.loading import load_tokenizer

    counts = pack_documents(args.documents, load_tokenizer(args.tokenizer), run.corpus, run.seed, args.output)
    parts = ", ".join(f"{count} tokens for {part}" for part, count in counts["tokens"].items())
    print(f"{args.output}: {parts}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
