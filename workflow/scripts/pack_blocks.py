"""Tokenise documents and pack them into training blocks; test documents are not cut into blocks."""

import argparse
import sys
from pathlib import Path

from frugal.errors import run_script
from frugal.kinds import LANGUAGE_MODELING
from frugal.llm.blocks import pack_documents
from frugal.llm.positions import check_lengths
from frugal.run.libraries import imports
from frugal.run.outputs import load_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the run's settings/blocks.yaml")
    parser.add_argument("--documents", required=True, type=Path, help="documents.parquet")
    parser.add_argument("--tokenizer", required=True, type=Path, help="the base model's folder")
    parser.add_argument("--output", required=True, type=Path, help="folder for the three parts and blocks.json")
    args = parser.parse_args()
    run = load_run(args.config, LANGUAGE_MODELING)
    check_lengths(args.tokenizer, {"corpus.block_length": run.corpus.block_length})

    with imports():
        from frugal.llm.loading import load_tokenizer

    counts = pack_documents(args.documents, load_tokenizer(args.tokenizer), run.corpus, run.seed, args.output)
    parts = ", ".join(f"{count} tokens for {part}" for part, count in counts["tokens"].items())
    print(f"{args.output}: {parts}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
