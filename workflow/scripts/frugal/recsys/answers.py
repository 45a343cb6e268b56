"""Recommendations and neighbours as JSON lines or CSV: written one by one, under a name that appears at the end."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from frugal.data.lines import STANDARD, until_reader_ends
from frugal.errors import FrugalError
from frugal.files import atomic_path
from frugal.recsys.recommending import REASONS, Answer

#: The form of the output, by the end of its name.
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
#: Columns of recommendations and of neighbours in CSV.
COLUMNS = ("record", "user", "rank", "item", "title", "score", "left_out")
NEIGHBOUR_COLUMNS = ("item", "title", "rank", "neighbour", "neighbour_title", "cosine")
#: Digits after the point, of scores and cosines.
DIGITS = 6


def write_answers(answers: Iterable[Answer], titles: Mapping[str, str], output: str) -> None:
    """Write one JSON object for each answer, or a CSV row for each item of it.

    Args:
        titles: item id -> title.
        output: a file; "-" writes JSON lines to the standard output.

    Raises:
        FrugalError: the end of the file's name is none of `FORMATS`.
    """
    with _opened(output) as (stream, form):
        if form == "csv":
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(COLUMNS)
        for record, answer in enumerate(answers, start=1):
            if form == "csv":
                rows.writerows(_rows(record, answer, titles))
            else:
                print(json.dumps(_as_json(record, answer, titles), ensure_ascii=False), file=stream)


def write_neighbours(
    found: Iterable[tuple[str, list[str], list[float]]], titles: Mapping[str, str], output: str
) -> None:
    """As `write_answers`, of what `frugal.recsys.recommending.neighbours` yields."""
    with _opened(output) as (stream, form):
        if form == "csv":
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(NEIGHBOUR_COLUMNS)
        for item, others, cosines in found:
            if form == "csv":
                for rank, (other, cosine) in enumerate(zip(others, cosines, strict=True), start=1):
                    named = titles.get(item), rank, other, titles.get(other)
                    rows.writerow([item, *named, round(cosine, DIGITS)])
            else:
                listed = _listed(others, cosines, titles, "cosine")
                print(json.dumps(_named(item, titles) | {"neighbours": listed}, ensure_ascii=False), file=stream)


def _as_json(record: int, answer: Answer, titles: Mapping[str, str]) -> dict[str, Any]:
    user = {} if answer.request.user is None else {"user": answer.request.user}
    shown = {"record": record, **user, "items": _listed(answer.items, answer.scores, titles, "score")}
    return shown | ({"left_out": left_out} if (left_out := _left_out(answer)) else {})


def _left_out(answer: Answer) -> dict[str, Any]:
    """What was not read or not ranked, and why there are no recommendations; without what is empty."""
    parts = {
        "reason": REASONS.get(answer.reason),
        "unseen_items": answer.unseen,
        "older_items": answer.older,
        "items_of_the_history": answer.excluded,
        "user_embedding": "mean of all users" if answer.mean_user else None,
    }
    return {name: value for name, value in parts.items() if value}


def _rows(record: int, answer: Answer, titles: Mapping[str, str]) -> Iterator[list[Any]]:
    left_out = _left_out(answer)
    left_out_json = json.dumps(left_out, ensure_ascii=False) if left_out else None
    if not answer.items:
        yield [record, answer.request.user, None, None, None, None, left_out_json]
    for rank, (item, score) in enumerate(zip(answer.items, answer.scores, strict=True), start=1):
        # Once for each record.
        last = left_out_json if rank == 1 else None
        yield [record, answer.request.user, rank, item, titles.get(item), round(score, DIGITS), last]


def _listed(items: list[str], values: list[float], titles: Mapping[str, str], name: str) -> list[dict[str, Any]]:
    pairs = zip(items, values, strict=True)
    return [_named(item, titles) | {name: round(value, DIGITS)} for item, value in pairs]


def _named(item: str, titles: Mapping[str, str]) -> dict[str, str]:
    return {"item": item} | ({"title": titles[item]} if item in titles else {})


@contextmanager
def _opened(output: str) -> Iterator[tuple[TextIO, str]]:
    if output == STANDARD:
        with until_reader_ends():
            yield sys.stdout, "jsonl"
        return
    form = FORMATS.get(Path(output).suffix.lower())
    if form is None:
        raise FrugalError(f"{output}: the output is JSON lines or CSV: end its name with {', '.join(FORMATS)}")
    with atomic_path(output) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as stream:
        yield stream, form
