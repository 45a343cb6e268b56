"""The Alpaca prompt, and the tokens that tell Option A from Option B."""

import re
from typing import Any

from frugal.errors import FrugalError

ANSWER = re.compile(r"\s*Option ([AB])\b")


def prompt(record: dict[str, Any]) -> str:
    """The text before the answer, in the format of the Alpaca data set."""
    return f"### Instruction:\n{record['instruction']}\n\n### Input:\n{record['input']}\n\n### Response:\n"


def parse_answer(text: str) -> str | None:
    """ "A" or "B" as a free answer states it, or None when it states neither."""
    match = ANSWER.match(text)
    return match.group(1) if match else None


def answer_tokens(tokenizer) -> tuple[list[int], int, int]:
    """What separates the answers "Option A" and "Option B".

    Returns:
        The tokens that both answers begin with, then the token at which A goes on, and B's.

    Raises:
        FrugalError: the tokenizer gives both answers the same tokens.
    """
    a = tokenizer("Option A.", add_special_tokens=False)["input_ids"]
    b = tokenizer("Option B.", add_special_tokens=False)["input_ids"]
    for place, (token_a, token_b) in enumerate(zip(a, b, strict=False)):
        if token_a != token_b:
            return a[:place], token_a, token_b
    raise FrugalError(
        "the base model's tokenizer does not tell 'Option A.' from 'Option B.'; choose another base_model"
    )


def encode_example(tokenizer, record: dict[str, Any], max_length: int) -> dict[str, list[int]]:
    """Tokens and labels of one training example; the loss falls on the response and its end only.

    With `loss_on: answer` it falls on the one token that tells Option A from Option B, and the
    example ends there. Prompt and response are tokenised apart, as they are when a prompt is scored.
    A prompt that does not fit loses its beginning, so that options and response are always whole.
    """
    prompt_ids = tokenizer(prompt(record))["input_ids"]
    if record.get("loss_on") == "answer":
        prefix, token_a, token_b = answer_tokens(tokenizer)
        prompt_ids += prefix
        response_ids = [token_a if record["liked_option"] == "A" else token_b]
    else:
        response_ids = tokenizer(record["output"], add_special_tokens=False)["input_ids"]
        response_ids = [*response_ids, tokenizer.eos_token_id][: max_length - 1]
    prompt_ids = prompt_ids[max(0, len(prompt_ids) + len(response_ids) - max_length) :]
    return {
        "input_ids": prompt_ids + response_ids,
        "labels": [-100] * len(prompt_ids) + response_ids,
    }
