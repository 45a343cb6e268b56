"""Records of preference pairs: instruction, input and output, and what scoring needs of the pair; JSON lines."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from frugal.config.preference import PreferenceRun
from frugal.errors import FrugalError, first_line
from frugal.preference.items import PARTS, Items, Pair
from frugal.preference.prompts import Prompts, answers


def to_records(items: Items, pairs: list[Pair], run: PreferenceRun, part: str) -> Iterator[dict[str, object]]:
    """Alpaca records (`instruction`, `input`, `output`) with the pair's facts beside them.

    Where the answer is not reasoned, `loss_on` is "answer": the loss falls on the letter alone, and is not drowned by
    the few words around it, which are the same in every example. `answers` are the answers A and B,
    `swapped_input` is the input with its options in the other order, and `history_texts` are the items of the history
    as the input has them.

    Positions and reasoning are drawn from separate streams, so that variants that differ in them hold the same pairs.
    """
    prompts, settings = Prompts(items, run), run.pairs
    stream = PARTS.index(part)
    first = np.random.default_rng([run.seed, 10, stream]).random(len(pairs)) < 0.5
    reasoned = np.random.default_rng([run.seed, 20, stream]).random(len(pairs)) < settings.reasoning_fraction
    for pair, liked_first, with_reasoning in zip(pairs, first, reasoned, strict=True):
        option, other_option = "AB" if liked_first or settings.answer_position == "always_a" else "BA"
        record: dict[str, object] = {"instruction": prompts.instruction()}
        if settings.format == "next_item":
            record |= {
                "input": prompts.history(pair.history),
                "output": items.titles[pair.liked],
                "loss_on": "response",
            }
        else:
            record |= {
                "input": prompts.comparison(pair, option),
                "output": prompts.answer(pair, option, bool(with_reasoning)),
                "loss_on": "response" if with_reasoning else "answer",
                "answers": list(answers(run)),
                "swapped_input": prompts.comparison(pair, other_option),
            }
        yield record | {
            "liked_option": option,
            "kind": pair.kind,
            "user": pair.user,
            "history": list(pair.history),
            "history_texts": prompts.history_texts(pair.history),
            "liked": pair.liked,
            "other": pair.other,
            "liked_title": items.titles[pair.liked],
            "other_title": items.titles[pair.other],
        }


def with_options(record: dict, liked_option: str) -> dict:
    """A record of two options with the liked item at ``liked_option``: as it is, or with its options swapped."""
    if record["liked_option"] == liked_option:
        return record
    swapped = {"input": record["swapped_input"], "swapped_input": record["input"]}
    return record | swapped | {"liked_option": liked_option}


def to_jsonl(records: Iterable[dict[str, object]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def read_jsonl(path: Path | str, *wanted: Mapping[str, Callable[[object], bool]]) -> list[dict]:
    """Read records written by `to_jsonl`.

    Args:
        wanted: what a record needs beside its texts: `PAIR` for its pair, `CHOICE` for its two options, `TITLES`.

    Raises:
        FrugalError: the file cannot be read, or a line is not JSON, or lacks a key or has another value there; names
            the file and the line.
    """
    records, keys = [], TEXTS.keys() | {key for group in wanted for key in group}
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise FrugalError(f"{path}: cannot be read: {error.strerror}; make the file again") from None
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or first_line(error)
            raise FrugalError(f"{path}: line {number}: not JSON ({reason}); make the file again") from None
        if not isinstance(record, dict):
            raise FrugalError(f"{path}: line {number}: not a JSON object; make the file again")
        needed = keys | CHOICE.keys() if record.get("loss_on") == "answer" else keys
        if missing := needed - record.keys():
            raise FrugalError(f"{path}: line {number}: no {', '.join(sorted(missing))}; make the file again")
        if wrong := [key for key, fits in VALUES.items() if key in record and not fits(record[key])]:
            raise FrugalError(f"{path}: line {number}: {wrong[0]} has a value that it cannot have; make the file again")
        records.append(record)
    if not records:
        raise FrugalError(f"{path}: no records; make the file again")
    return records


def _is_text(value: object) -> bool:
    """Whether this is text that UTF-8 can hold; JSON can spell halves of surrogate pairs."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _is_index(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


#: Keys of a record, and whether a value can be theirs.
TEXTS = dict.fromkeys(("instruction", "input", "output"), _is_text)
TITLES = dict.fromkeys(("liked_title", "other_title"), _is_text)
OPTION = {"liked_option": lambda value: value in ("A", "B")}
CHOICE = OPTION | {
    "answers": lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_text, value)),
    "swapped_input": _is_text,
}
PAIR = OPTION | {
    "kind": lambda value: value in ("easy", "hard"),
    **dict.fromkeys(("user", "liked", "other"), _is_index),
    "history": lambda value: isinstance(value, list) and all(map(_is_index, value)),
}
VALUES = TEXTS | TITLES | CHOICE | PAIR | {"loss_on": _is_text}
VALUES |= {"history_texts": lambda value: isinstance(value, list) and all(map(_is_text, value))}
