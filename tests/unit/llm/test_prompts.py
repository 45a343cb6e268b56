"""Prompts and the tokens that carry the answer."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frugal.llm.conversion import byte_tokenizer
from frugal.llm.loading import load_tokenizer
from frugal.llm.prompts import answer_tokens, encode_example, parse_answer, prompt

RECORD = {"instruction": "Choose.", "input": "Liked: X.", "output": "Option B."}


def test_prompt_is_alpaca():
    assert prompt(RECORD) == "### Instruction:\nChoose.\n\n### Input:\nLiked: X.\n\n### Response:\n"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Option A.", "A"),
        ("\n Option B. The user likes Drama.", "B"),
        ("Option A", "A"),
        ("Option C.", None),
        ("option A", None),
        ("Option Apollo", None),
        ("I think Option A.", None),
        ("", None),
    ],
)
def test_parse_answer(text, answer):
    assert parse_answer(text) == answer


def test_answer_tokens_of_a_byte_tokenizer():
    tokenizer = byte_tokenizer()
    prefix, a, b = answer_tokens(tokenizer)
    assert tokenizer.decode(prefix) == "Option "
    assert (tokenizer.decode([a]), tokenizer.decode([b])) == ("A", "B")


def test_loss_falls_on_the_response_and_its_end_only():
    tokenizer = byte_tokenizer()
    example = encode_example(tokenizer, RECORD, max_length=200)
    length = len(prompt(RECORD))
    assert example["labels"][:length] == [-100] * length
    assert example["labels"][length:] == example["input_ids"][length:]
    assert tokenizer.decode(example["labels"][length:-1]) == "Option B."
    assert example["labels"][-1] == tokenizer.eos_token_id


def test_loss_on_the_answer_is_one_token():
    tokenizer = byte_tokenizer()
    example = encode_example(tokenizer, RECORD | {"loss_on": "answer", "liked_option": "B"}, max_length=200)
    assert tokenizer.decode(example["input_ids"]) == prompt(RECORD) + "Option B"
    assert [label for label in example["labels"] if label != -100] == [tokenizer("B")["input_ids"][0]]
    assert example["labels"][-1] == example["input_ids"][-1]


@given(st.text(max_size=50), st.text(min_size=1, max_size=50), st.integers(16, 200))
def test_a_long_prompt_loses_its_beginning_and_never_its_response(text, output, max_length):
    tokenizer = byte_tokenizer()
    record = RECORD | {"input": text, "output": output}
    full, cut = encode_example(tokenizer, record, 10_000), encode_example(tokenizer, record, max_length)
    assert len(cut["input_ids"]) == len(cut["labels"]) == min(max_length, len(full["input_ids"]))
    response = [label for label in full["labels"] if label != -100]
    assert [label for label in cut["labels"] if label != -100] == response[: max_length - 1]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer().save_pretrained(folder)
    return load_tokenizer(folder)


@given(st.text(max_size=80))
@example("a special token is text: <|pad|><|end|>")
def test_byte_tokenizer_round_trip(tokenizer, text):
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    assert tokenizer.decode(tokens) == text
