"""The texts of prompts and answers, from a run's templates, and the tokens that tell answer A from answer B."""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frugal.config.preference import PreferenceRun
from frugal.errors import FrugalError
from frugal.preference.items import Items, Pair

#: The text between two items of a history, and between two attributes of an item.
BETWEEN_ITEMS, BETWEEN_ATTRIBUTES = "; ", "|"


def prompt(record: dict[str, Any]) -> str:
    """The text before the answer, in the format of the Alpaca data set."""
    return f"### Instruction:\n{record['instruction']}\n\n### Input:\n{record['input']}\n\n### Response:\n"


def instruction(run: PreferenceRun) -> str:
    """What is asked of every pair of a run."""
    return run.instruction.format(**run.items.model_dump())


def answers(run: PreferenceRun) -> tuple[str, str]:
    """The answers A and B, without reasoning."""
    a, b = (run.prompts.answer.format(letter=letter, **run.items.model_dump()) for letter in "AB")
    return a, b


class Prompts:
    """Inputs and outputs for pairs of items."""

    def __init__(self, items: Items, run: PreferenceRun):
        self.items, self.run, self.templates = items, run, run.prompts
        self.words = run.items.model_dump()

    def instruction(self) -> str:
        return instruction(self.run)

    def history_texts(self, history: Sequence[int]) -> list[str]:
        """Each item that the user liked, oldest first, as the prompt has it."""
        with_attributes = self.run.pairs.history_attributes
        return [self.describe(item) if with_attributes else self.items.titles[item] for item in history]

    def history(self, history: Sequence[int]) -> str:
        """The items that the user liked, oldest first."""
        texts = BETWEEN_ITEMS.join(self.history_texts(history))
        return self.templates.history.format(history=texts, **self.words)

    def comparison(self, pair: Pair, liked_option: str) -> str:
        """The history and both options, the liked item at ``liked_option`` ("A" or "B")."""
        first, second = (pair.liked, pair.other) if liked_option == "A" else (pair.other, pair.liked)
        options = {"option_a": self.describe(first), "option_b": self.describe(second)}
        return f"{self.history(pair.history)}\n{self.templates.options.format(**options, **self.words)}"

    def answer(self, pair: Pair, liked_option: str, with_reasoning: bool) -> str:
        """The answer and, where it is reasoned, what follows from the data: who shares the history's attributes."""
        answer = answers(self.run)["AB".index(liked_option)]
        return f"{answer} {self.reasoning(pair, liked_option)}" if with_reasoning else answer

    def reasoning(self, pair: Pair, liked_option: str) -> str:
        counts = Counter(value for item in pair.history for value in sorted(self.items.attributes[item]))
        top = [value for value, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:2]]
        shared, other_shared = (
            ", ".join(sorted(self.items.attributes[item] & set(counts))) or f"no {self.words['attribute']}"
            for item in (pair.liked, pair.other)
        )
        return self.templates.reasoning.format(
            likes=" and ".join(top),
            letter=liked_option,
            shared=shared,
            other_letter="B" if liked_option == "A" else "A",
            other_shared=other_shared,
            **self.words,
        )

    def describe(self, item: int) -> str:
        """An item's title and its attributes; the title alone where the data set has no attributes."""
        title = self.items.titles[item]
        if not self.items.with_attributes:
            return title
        values = BETWEEN_ATTRIBUTES.join(sorted(self.items.attributes[item])) or f"no {self.words['attributes']}"
        return self.templates.item.format(title=title, values=values, **self.words)


def parse_answer(text: str, answers: Sequence[str]) -> str | None:
    """ "A" or "B" as a free answer states it, or None when it states neither."""
    for letter, answer in zip("AB", answers, strict=True):
        if re.match(rf"\s*{re.escape(answer.strip().rstrip('.'))}(?!\w)", text):
            return letter
    return None


def answer_tokens(tokenizer, answers: Sequence[str]) -> tuple[list[int], int, int]:
    """What separates the answers A and B, such as "Option A." and "Option B.".

    Returns:
        The tokens that both answers begin with, then the token at which A goes on, and B's.

    Raises:
        FrugalError: the tokenizer gives both answers the same tokens.
    """
    a, b = (tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers)
    for place, (token_a, token_b) in enumerate(zip(a, b, strict=False)):
        if token_a != token_b:
            return a[:place], token_a, token_b
    raise FrugalError(
        f"the base model's tokenizer does not tell '{answers[0]}' from '{answers[1]}'; choose another base_model or "
        "prompts.answer"
    )


def fit_record(tokenizer, record: dict[str, Any], max_length: int) -> dict[str, Any]:
    """A record whose prompt and output fit into ``max_length`` tokens, in both orders of its options.

    A history that is too long loses its oldest items, all but the newest one if it has to. Instruction, options and
    output stay whole.

    Args:
        record: with ``history_texts``, the items of its history as they stand in its input; without, it has to fit.

    Raises:
        FrugalError: it does not fit with the newest item alone.
    """
    inputs = [key for key in ("input", "swapped_input") if key in record]
    outputs = [record["output"]] if "answers" in record else [record["output"], *titles(record)]
    output = max(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in outputs) + 1  # its end token
    texts = record.get("history_texts") or [""]
    whole = BETWEEN_ITEMS.join(texts)
    for first in range(len(texts)):
        newest = BETWEEN_ITEMS.join(texts[first:])
        fitting = record if not first else record | {key: record[key].replace(whole, newest) for key in inputs}
        tokens = max(len(tokenizer(prompt(fitting | {"input": fitting[key]}))["input_ids"]) for key in inputs) + output
        if tokens <= max_length:
            return fitting
    raise FrugalError(
        f"the prompt, with the newest item of the history alone, and the output take {tokens} tokens, and "
        f"model.max_length is {max_length}: raise it, or shorten the texts (prompts, pairs.reasoning_fraction)"
    )


def titles(record: dict[str, Any]) -> list[str]:
    """The titles of a record's items, where it has them."""
    return [record[key] for key in ("liked_title", "other_title") if key in record]


def fit_records(
    tokenizer, records: Sequence[dict[str, Any]], max_length: int, file: Path | str
) -> tuple[list[dict[str, Any]], int]:
    """Each of a file's records by `fit_record`, and the number of those whose history was shortened.

    Raises:
        FrugalError: one does not fit; the message names the file and the line.
    """
    fitting = []
    for number, record in enumerate(records, start=1):
        try:
            fitting.append(fit_record(tokenizer, record, max_length))
        except FrugalError as error:
            raise FrugalError(f"{file}: line {number}: {error}") from None
    shortened = sum(after is not before for after, before in zip(fitting, records, strict=True))
    if shortened:
        texts = f"{shortened} of {len(records)} histories are shortened"
        print(f"{file}: {texts}: model.max_length is {max_length}", file=sys.stderr, flush=True)
    return fitting, shortened


def encode_records(
    tokenizer, records: Sequence[dict[str, Any]], max_length: int, file: Path | str
) -> tuple[list[dict[str, list[int]]], dict[str, int]]:
    """Each of a file's training examples as tokens and labels, and the number of shortened histories.

    Raises:
        FrugalError: an example does not fit into ``max_length`` tokens.
    """
    records, shortened = fit_records(tokenizer, records, max_length, file)
    return [tokens_and_labels(tokenizer, record) for record in records], {"shortened_histories": shortened}


def encode_example(tokenizer, record: dict[str, Any], max_length: int) -> dict[str, list[int]]:
    """Tokens and labels of one training example, its history shortened as `fit_record` does."""
    return tokens_and_labels(tokenizer, fit_record(tokenizer, record, max_length))


def tokens_and_labels(tokenizer, record: dict[str, Any]) -> dict[str, list[int]]:
    """Tokens and labels of one training example; the loss falls on the response and its end only.

    With `loss_on: answer` it falls on the one token that tells the answer A from B, and the example ends there.
    Prompt and response are tokenised separately, as they are when a prompt is scored.
    """
    prompt_ids = tokenizer(prompt(record))["input_ids"]
    if record.get("loss_on") == "answer":
        prefix, token_a, token_b = answer_tokens(tokenizer, record["answers"])
        prompt_ids += prefix
        response_ids = [token_a if record["liked_option"] == "A" else token_b]
    else:
        response_ids = [*tokenizer(record["output"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return {
        "input_ids": prompt_ids + response_ids,
        "labels": [-100] * len(prompt_ids) + response_ids,
    }
