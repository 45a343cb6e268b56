"""Log-probabilities: against the model's own logits, and whatever the batch and the padding."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GenerationConfig, GPT2Config, GPT2LMHeadModel

from frugal.errors import FrugalError
from frugal.llm.loading import load_tokenizer
from frugal.preference.scoring import choice_log_probabilities, continuation_log_probabilities, generate

PROMPTS = [
    "Liked: Heat.\nResponse:\n",
    "A much longer prompt, " * 5,
    "x",
    "Liked: Alien; Fargo.\nResponse:\n",
]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model_and_tokenizer(request, tiny_model_folder):
    """The tiny Llama, whose positions are relative, and a GPT-2, whose positions are learned and absolute."""
    tokenizer = load_tokenizer(tiny_model_folder)
    if request.param == "llama":
        return AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32).eval(), tokenizer
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.5}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=128, **shape)).eval(), tokenizer


def log_probabilities_one_by_one(model, tokenizer, text, continuation_ids):
    """The plain way: one sequence, no padding, all logits."""
    ids = tokenizer(text)["input_ids"]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids + continuation_ids])).logits[0].log_softmax(-1)
    return sum(logits[len(ids) - 1 + k, token].item() for k, token in enumerate(continuation_ids))


@pytest.mark.parametrize(("batch_size", "before"), [(1, "Option "), (2, "Option "), (3, "("), (4, "")])
def test_choices_do_not_depend_on_batch_or_padding(model_and_tokenizer, batch_size, before):
    model, tokenizer = model_and_tokenizer
    scores = choice_log_probabilities(model, tokenizer, PROMPTS, [f"{before}A.", f"{before}B."], batch_size)
    for row, text in enumerate(PROMPTS):
        for column, letter in enumerate("AB"):
            alone = log_probabilities_one_by_one(model, tokenizer, f"{text}{before}", tokenizer(letter)["input_ids"])
            assert scores[row, column].item() == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_continuations_are_summed_over_their_tokens_and_their_end(model_and_tokenizer, batch_size):
    model, tokenizer = model_and_tokenizer
    titles = ["Heat (1995)", "M", "Léon (1994)", "Fargo (1996)"]
    scores = continuation_log_probabilities(model, tokenizer, PROMPTS, titles, batch_size)
    for text, title, score in zip(PROMPTS, titles, scores.tolist(), strict=True):
        ids = [*tokenizer(title)["input_ids"], tokenizer.eos_token_id]
        assert score == pytest.approx(log_probabilities_one_by_one(model, tokenizer, text, ids), abs=1e-3)


ORDERS = [
    "Liked: Heat.\nA: Alien\nB: Fargo\n",
    "Liked: Heat.\nA: Fargo\nB: Alien\n",
    "Liked: Léon; Fargo; Casino.\nA: Se7en\nB: M\n",
    "Liked: Léon; Fargo; Casino.\nA: M\nB: Se7en\n",
    "the same",
    "the same",
]


@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_what_prompts_begin_with_in_common_is_read_once(model_and_tokenizer, batch_size):
    model, tokenizer = model_and_tokenizer
    read = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: read.append(inputs[0].numel()))
    scores = choice_log_probabilities(model, tokenizer, ORDERS, ["(A.", "(B."], batch_size, alike=2)
    hook.remove()
    for row, text in enumerate(ORDERS):
        for column, letter in enumerate("AB"):
            alone = log_probabilities_one_by_one(model, tokenizer, f"{text}(", tokenizer(letter)["input_ids"])
            assert scores[row, column].item() == pytest.approx(alone, abs=1e-4)
    if batch_size == 1:
        ids = [tokenizer(f"{text}(")["input_ids"] for text in ORDERS]
        common = [[a == b for a, b in zip(*ids[first : first + 2], strict=False)].index(False) for first in (0, 2)]
        assert min(common) > 10
        assert sum(read) == sum(map(len, ids)) - sum(common) - (len(ids[5]) - 1)  # all but the token that is scored
    titles = ["Alien", "Fargo (1996)", "Se7en", "M", "Casino", "Heat"]
    scores = continuation_log_probabilities(model, tokenizer, ORDERS, titles, batch_size, alike=2)
    for text, title, score in zip(ORDERS, titles, scores.tolist(), strict=True):
        ids = [*tokenizer(title)["input_ids"], tokenizer.eos_token_id]
        assert score == pytest.approx(log_probabilities_one_by_one(model, tokenizer, text, ids), abs=1e-3)


def test_generation_keeps_the_order_of_its_prompts(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    together, seconds = generate(model, tokenizer, PROMPTS, max_new_tokens=6, batch_size=4)
    alone = [generate(model, tokenizer, [text], max_new_tokens=6, batch_size=1)[0][0] for text in PROMPTS]
    assert together == alone
    assert seconds > 0


@pytest.mark.parametrize("adapted", [False, True])
def test_greedy_is_greedy(tiny_model_folder, adapted):
    """Whatever the base model's generation_config.json has; it would forbid these answers, or search for others."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(tiny_model_folder)
    ids = torch.tensor([tokenizer("The sea")["input_ids"]])
    with torch.inference_mode():
        for _ in range(8):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    likeliest = tokenizer.decode(ids[0, -8:])
    options = {"repetition_penalty": 5.0, "num_beams": 3, "do_sample": True, "temperature": 9.0}
    model.generation_config = GenerationConfig(suppress_tokens=ids[0, -8:].tolist(), min_new_tokens=9, **options)
    if adapted:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])).eval()
    assert generate(model, tokenizer, ["The sea"], max_new_tokens=8, batch_size=1)[0] == [likeliest]


def test_an_answer_beyond_the_models_positions_is_refused(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    limit = model.config.max_position_embeddings
    with pytest.raises(
        FrugalError, match=rf"a prompt of 1 tokens and max_new_tokens {limit} need more than the {limit}"
    ):
        generate(model, tokenizer, ["x"], max_new_tokens=limit, batch_size=1)
