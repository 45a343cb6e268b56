"""Prompts and the tokens that carry the answer."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frugal.errors import FrugalError
from frugal.llm.conversion import byte_tokenizer
from frugal.llm.loading import load_tokenizer
from frugal.preference.prompts import answer_tokens, encode_example, encode_records, fit_record, parse_answer, prompt

RECORD = {"instruction": "Choose.", "input": "Liked: X.", "output": "Option B."}
ANSWERS = ["Option A.", "Option B."]


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
    assert parse_answer(text, ANSWERS) == answer


@pytest.mark.parametrize(
    ("answers", "text", "answer"),
    [
        (["(A)", "(B)"], "(B) because", "B"),
        (["Auswahl A", "Auswahl B"], " Auswahl A, weil", "A"),
        (["A or A", "B or B"], "A or B", None),
        (["A+", "B+"], "A++", "A"),
        (["A.", "B."], "Both", None),
    ],
)
def test_parse_answers_of_other_templates(answers, text, answer):
    assert parse_answer(text, answers) == answer


def test_answer_tokens_of_a_byte_tokenizer():
    tokenizer = byte_tokenizer()
    prefix, a, b = answer_tokens(tokenizer, ANSWERS)
    assert tokenizer.decode(prefix) == "Option "
    assert (tokenizer.decode([a]), tokenizer.decode([b])) == ("A", "B")
    prefix, a, b = answer_tokens(tokenizer, ["(A) it is", "(B) it is"])
    assert (tokenizer.decode(prefix), tokenizer.decode([a]), tokenizer.decode([b])) == ("(", "A", "B")


def test_a_tokenizer_that_does_not_tell_the_answers_apart():
    def blind(text, add_special_tokens):
        return {"input_ids": [1] * len(text)}

    with pytest.raises(FrugalError, match=r"does not tell 'Option A\.' from 'Option B\.'; choose another base_model"):
        answer_tokens(blind, ANSWERS)


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
    example = encode_example(
        tokenizer, RECORD | {"loss_on": "answer", "liked_option": "B", "answers": ANSWERS}, max_length=200
    )
    assert tokenizer.decode(example["input_ids"]) == prompt(RECORD) + "Option B"
    assert [label for label in example["labels"] if label != -100] == [tokenizer("B")["input_ids"][0]]
    assert example["labels"][-1] == example["input_ids"][-1]


#: Under a tokenizer of bytes: 88 tokens of prompt around the history, 16 of it, and 10 of output and its end.
LONG = RECORD | {
    "input": "Liked: Heat; Big; Fargo.\nOption A: Up\nOption B: Alien",
    "swapped_input": "Liked: Heat; Big; Fargo.\nOption A: Alien\nOption B: Up",
    "history_texts": ["Heat", "Big", "Fargo"],
    "answers": ANSWERS,
}


def test_a_long_prompt_loses_the_oldest_items_of_its_history():
    tokenizer = byte_tokenizer()
    whole = len(prompt(LONG)) + len("Option B.") + 1
    assert fit_record(tokenizer, LONG, whole) is LONG
    for shorter, history in ((1, "Big; Fargo"), (6, "Big; Fargo"), (7, "Fargo"), (11, "Fargo")):
        fitting = fit_record(tokenizer, LONG, whole - shorter)
        assert fitting["input"] == f"Liked: {history}.\nOption A: Up\nOption B: Alien"
        assert fitting["swapped_input"] == f"Liked: {history}.\nOption A: Alien\nOption B: Up"
        example = encode_example(tokenizer, LONG, whole - shorter)
        assert tokenizer.decode(example["input_ids"][:-1]) == prompt(fitting) + "Option B."
        assert len(example["input_ids"]) <= whole - shorter
    with pytest.raises(FrugalError, match=f"take {whole - 11} tokens, and model.max_length is {whole - 12}: raise it"):
        fit_record(tokenizer, LONG, whole - 12)


def test_shortened_histories_are_counted_and_what_cannot_fit_is_named(capsys):
    tokenizer, short = byte_tokenizer(), RECORD | {"answers": ANSWERS}
    length = len(prompt(LONG)) + len("Option B.")  # one too few
    rows, counts = encode_records(tokenizer, [short, LONG, short, LONG], length, "train.jsonl")
    assert counts == {"shortened_histories": 2}
    assert f"train.jsonl: 2 of 4 histories are shortened: model.max_length is {length}" in capsys.readouterr().err
    assert rows[0] == encode_example(tokenizer, short, 10_000)
    with pytest.raises(
        FrugalError, match=r"^train\.jsonl: line 2: the prompt, with the newest item of the history alone"
    ):
        encode_records(tokenizer, [short, LONG | {"output": "x" * 60}], length, "train.jsonl")


def test_a_title_to_be_scored_has_to_fit_too():
    tokenizer = byte_tokenizer()
    record = RECORD | {"output": "Up", "liked_title": "Up", "other_title": "Alien"}
    assert fit_record(tokenizer, record, len(prompt(record)) + 6) is record
    with pytest.raises(FrugalError, match=r"model\.max_length"):
        fit_record(tokenizer, record, len(prompt(record)) + 5)


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
