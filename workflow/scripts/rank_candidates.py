"""Rank the candidates that you name for a user's taste, with a tuned language model, which says why.

The model is loaded once. Items of a whole catalogue are recommended by a trained recommender: recommend.py.

One request:

    python workflow/scripts/rank_candidates.py --run results/laptop/movie_preference/tuned \
        --liked "Toy Story (1995)" "Aladdin (1992)" --candidates "Mulan (1998)" "Scream (1996)"

Many requests, one JSON object a line, answered one a line as they come:

    echo '{"liked": ["Toy Story (1995)"], "candidates": ["Mulan (1998)", "Scream (1996)"]}' |
        python workflow/scripts/rank_candidates.py --run results/laptop/movie_preference/tuned --requests -
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from frugal.data.lines import numbered_lines, until_reader_ends
from frugal.data.prepared import read_items
from frugal.errors import FrugalError, run_script
from frugal.kinds import PREFERENCE, RECOMMENDATION
from frugal.preference.items import Items
from frugal.run.device import resolve_compute_dtype
from frugal.run.hardware import choose_any_device, keep_freed_memory
from frugal.run.libraries import hide_bitsandbytes
from frugal.run.outputs import load_run


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--run", required=True, type=Path, help="folder of a trained run, with its adapter")
    parser.add_argument("--liked", nargs="+", default=[], metavar="TITLE", help="titles of items that the user liked")
    parser.add_argument("--candidates", nargs="+", default=[], metavar="TITLE", help="titles to rank, two or more")
    parser.add_argument("--requests", metavar="FILE", help="requests as JSON lines; - reads standard input")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the prepared data and models")
    args = parser.parse_args()
    if bool(args.requests) == bool(args.liked or args.candidates):
        parser.error("give either --liked and --candidates, or --requests")
    keep_freed_memory()
    run = load_run(args.run / "config.yaml", PREFERENCE, RECOMMENDATION)
    if run.kind == RECOMMENDATION.name:
        raise FrugalError(f"{args.run}: is a recommender, which ranks its whole catalogue: use recommend.py")
    if run.pairs.format != "contrastive":
        raise FrugalError(f"{args.run}: trained to name the next title, not to compare two; use another run")
    items = Items(_read_items(args.data / "prepared" / run.dataset / "items.parquet"), run.items.attribute is not None)
    hide_bitsandbytes(run.model.quantization)
    device = choose_any_device(min(1, run.training.gpus))  # before the libraries, which use CUDA as they are imported

    from frugal.llm.adapter_check import check_adapter
    from frugal.llm.loading import (
        load_adapter,
        load_base_model,
        load_tokenizer,
        mixed_precision,
    )
    from frugal.preference.recommending import Recommender

    folder = args.data / "models" / run.base_model
    run, _ = resolve_compute_dtype(run, device)
    model = load_adapter(load_base_model(folder, run.model, device), args.run / "adapter")
    record = args.run / "training.json"
    check_adapter(model, run.model, args.run / "adapter", record if record.exists() else None)
    recommender = Recommender(model, load_tokenizer(folder), items, run)
    with mixed_precision(model, run.model, device):
        recommender.check()
        if not args.requests:
            print(as_text(recommender.recommend(args.liked, args.candidates)))
            return 0
        return answer_requests(recommender, args.requests)


def _read_items(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise FrugalError(f"{path}: not there; make it with: snakemake --cores 1 data")
    return read_items(path).to_pandas()


def answer_requests(recommender, source: str) -> int:
    """Answer JSON lines with JSON lines; a request at fault gets its error and the rest goes on."""
    failed = 0
    with until_reader_ends():
        for number, line in numbered_lines(source):
            try:
                answer = recommender.recommend(*parse_request(line))
            except FrugalError as error:
                answer = {"error": f"line {number}: {error}"}
            failed += "error" in answer
            print(json.dumps(answer, ensure_ascii=False), flush=True)
    return 1 if failed else 0


def parse_request(line: str) -> tuple[list[str], list[str]]:
    """The liked and the candidate titles of one JSON line."""
    try:
        request = json.loads(line)
        liked, candidates = request["liked"], request["candidates"]
    except (json.JSONDecodeError, KeyError, TypeError):
        liked = candidates = None
    for titles in (liked, candidates):
        if not isinstance(titles, list) or not all(isinstance(title, str) for title in titles):
            raise FrugalError("not a JSON object with the lists of titles 'liked' and 'candidates'")
    return liked, candidates


def as_text(answer: dict) -> str:
    """A ranking as lines for a person."""
    ranking = [f"{place}. {item['title']}  ({item['score']:.2f})" for place, item in enumerate(answer["ranking"], 1)]
    return "\n".join([*ranking, "", answer["explanation"]])


if __name__ == "__main__":
    run_script(main)
