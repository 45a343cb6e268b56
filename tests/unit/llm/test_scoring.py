"""Log-probabilities: against the model's own logits, and whatever the batch and the padding."""

import pytest
import torch

from frugal.llm.loading import load_tokenizer
from frugal.llm.scoring import choice_log_probabilities, continuation_log_probabilities, generate

PROMPTS = [
    "Liked: Heat.\nResponse:\n",
    "A much longer prompt, " * 5,
    "x",
    "Liked: Alien; Fargo.\nResponse:\n",
]


@pytest.fixture(scope="module")
def model_and_tokenizer(tiny_model_folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32).eval()
    return model, load_tokenizer(tiny_model_folder)


def log_probabilities_one_by_one(model, tokenizer, text, continuation_ids):
    """The plain way: one sequence, no padding, all logits."""
    ids = tokenizer(text)["input_ids"]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids + continuation_ids])).logits[0].log_softmax(-1)
    return sum(logits[len(ids) - 1 + k, token].item() for k, token in enumerate(continuation_ids))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_choices_do_not_depend_on_batch_or_padding(model_and_tokenizer, batch_size):
    model, tokenizer = model_and_tokenizer
    scores = choice_log_probabilities(model, tokenizer, PROMPTS, batch_size)
    for row, text in enumerate(PROMPTS):
        for column, letter in enumerate("AB"):
            alone = log_probabilities_one_by_one(model, tokenizer, f"{text}Option ", tokenizer(letter)["input_ids"])
            assert scores[row, column].item() == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_continuations_are_summed_over_their_tokens_and_their_end(model_and_tokenizer, batch_size):
    model, tokenizer = model_and_tokenizer
    titles = ["Heat (1995)", "M", "Léon (1994)", "Fargo (1996)"]
    scores = continuation_log_probabilities(model, tokenizer, PROMPTS, titles, batch_size)
    for text, title, score in zip(PROMPTS, titles, scores.tolist(), strict=True):
        ids = [*tokenizer(title)["input_ids"], tokenizer.eos_token_id]
        assert score == pytest.approx(log_probabilities_one_by_one(model, tokenizer, text, ids), abs=1e-3)


def test_generation_keeps_the_order_of_its_prompts(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    together, seconds = generate(model, tokenizer, PROMPTS, max_new_tokens=6, batch_size=4)
    alone = [generate(model, tokenizer, [text], max_new_tokens=6, batch_size=1)[0][0] for text in PROMPTS]
    assert together == alone
    assert seconds > 0
