"""Perplexity: windows, padding, BOS and overlap worked out by hand, and independence of how it is computed."""

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from frugal.config.language_modeling import EvaluationSettings, PromptSettings
from frugal.errors import FrugalError
from frugal.files import read_json, write_json
from frugal.llm.answering import GumbelNoise, continue_prompts
from frugal.llm.loading import load_tokenizer
from frugal.llm.perplexity import Window, bos_token, intervals, metrics, score, windows

VOCABULARY = 6
#: P(next token | token), each row sums to one: tokens 0, 1 and 2 occur, the others never do.
BIGRAMS = np.zeros((VOCABULARY, VOCABULARY))
BIGRAMS[0, :3] = 0.25, 0.5, 0.25
BIGRAMS[1, :3] = 0.125, 0.125, 0.75
BIGRAMS[2, :3] = 0.5, 0.25, 0.25
BIGRAMS[3:] = 1 / VOCABULARY
texts = st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=30), min_size=1, max_size=5)


class FakeModel(torch.nn.Module):
    """The interface of a causal language model of transformers; `body` gives its hidden states."""

    config = SimpleNamespace(model_type="fake")
    device = torch.device("cpu")

    def __init__(self, body, weight):
        super().__init__()
        self.head = torch.nn.Linear(VOCABULARY, VOCABULARY, bias=False)
        self.head.weight.data = torch.as_tensor(weight, dtype=torch.float32)
        self.base_model = lambda **inputs: SimpleNamespace(last_hidden_state=body(**inputs))

    def get_output_embeddings(self):
        return self.head


def one_hot(input_ids, **_):
    return torch.nn.functional.one_hot(input_ids, VOCABULARY).float()


def all_before(input_ids, attention_mask, position_ids, use_cache):
    """Sums over the tokens that a causal model sees, weighted by their positions: padding or a shift would show."""
    weights = attention_mask * (1 + position_ids)
    return (one_hot(input_ids) * weights.unsqueeze(-1)).cumsum(1) / 10


UNIFORM = FakeModel(one_hot, np.zeros((VOCABULARY, VOCABULARY)))
BIGRAM = FakeModel(one_hot, np.log(BIGRAMS + 1e-30).T)
CONTEXT = FakeModel(all_before, np.random.default_rng(0).normal(size=(VOCABULARY, VOCABULARY)))


def frame(*input_ids):
    names = [f"document {n}" for n in range(len(input_ids))]
    return pd.DataFrame({"document": names, "input_ids": input_ids, "words": 2, "bytes": 7})


def settings(**changes):
    return EvaluationSettings(**({"context_length": 4, "stride": 2} | changes))


def alone(model, tokens, context_length):
    """The plain way: for each token a forward pass over the most that its window may hold, nothing padded."""
    nll = []
    for place in range(1, len(tokens)):
        read = torch.tensor([tokens[max(0, place - context_length) : place]])
        inputs = {"attention_mask": torch.ones_like(read), "position_ids": torch.arange(read.shape[1])[None]}
        hidden = model.base_model(input_ids=read, **inputs, use_cache=False).last_hidden_state
        nll.append(-model.head(hidden)[0, -1].log_softmax(-1)[tokens[place]].item())
    return sum(nll)


def test_windows_by_hand():
    # Reads 0-3 and scores 1-4; reads 2-5, scores 5-6; reads 4-7, scores 7-8; the last one scores what is left.
    assert list(windows(10, 4, 2)) == [Window(0, 5, 1), Window(2, 7, 5), Window(4, 9, 7), Window(5, 10, 9)]
    assert list(windows(9, 4, 4)) == [Window(0, 5, 1), Window(4, 9, 5)]
    assert list(windows(2, 4, 4)) == [Window(0, 2, 1)]
    assert list(windows(1, 4, 4)) == list(windows(0, 4, 4)) == []


def test_windows_are_those_of_lm_eval():
    # lm-evaluation-harness, get_rolling_token_windows(range(10), prefix_token=-100, max_seq_len=4, context_len=1).
    text = [-100, *range(10)]
    pieces = [(text[w.begin : w.end - 1], text[w.scored_from : w.end]) for w in windows(len(text), 4, 4)]
    assert pieces == [([-100, 0, 1, 2], [0, 1, 2, 3]), ([3, 4, 5, 6], [4, 5, 6, 7]), ([5, 6, 7, 8], [8, 9])]


@given(st.integers(0, 200), st.integers(1, 50), st.data())
def test_windows_score_each_token_once(length, context_length, data):
    stride = data.draw(st.integers(1, context_length))
    pieces = list(windows(length, context_length, stride))
    assert [token for w in pieces for token in range(w.scored_from, w.end)] == list(range(1, length))
    for window in pieces:
        assert window.end - 1 - window.begin == min(context_length, window.end - 1)  # as much context as fits
        assert window.begin < window.scored_from


def test_a_uniform_model_has_the_vocabulary_as_perplexity():
    table = score(UNIFORM, frame([1, 2, 3, 4, 5, 0, 1], [2, 2]), settings(), pad_token_id=0)
    values = metrics(table)
    assert values["perplexity"] == pytest.approx(VOCABULARY)
    assert values["tokens"] == 6 + 1
    assert values["word_perplexity"] == pytest.approx(VOCABULARY ** (7 / 4))
    assert values["bits_per_byte"] == pytest.approx(7 * math.log2(VOCABULARY) / 14)


def test_bigrams_by_hand():
    # 0 1 2 0: .5 x .75 x .5, each the likeliest; 2 1 1: .25 x .125, neither is. The first tokens are not scored.
    table = score(BIGRAM, frame([0, 1, 2, 0], [2, 1, 1]), settings(), pad_token_id=3)
    assert np.exp(-table["nll"].to_numpy()) == pytest.approx([0.1875, 0.03125])
    assert table["tokens"].tolist() == [3, 2]
    assert table["correct"].tolist() == [3, 0]
    values = metrics(table)
    product = 0.1875 * 0.03125
    assert values["perplexity"] == pytest.approx(product ** (-1 / 5))
    assert values["word_perplexity"] == pytest.approx(product ** (-1 / 4))  # two words each
    assert values["bits_per_byte"] == pytest.approx(-math.log2(product) / 14)  # seven bytes each
    assert values["token_accuracy"] == pytest.approx(3 / 5)
    assert values["nll_per_token"] == pytest.approx(-math.log(product) / 5)
    assert (values["words"], values["bytes"], values["documents"]) == (4, 14, 2)


def test_bos_by_hand():
    # Token 2 before each text: P(0 | 2) = .5 and P(1 | 2) = .25 are scored now; the BOS itself is not.
    table = score(BIGRAM, frame([0, 1], [1]), settings(), pad_token_id=0, bos_token_id=2)
    assert np.exp(-table["nll"].to_numpy()) == pytest.approx([0.5 * 0.5, 0.25])
    assert table["tokens"].tolist() == [2, 1]


def test_overlap_by_hand():
    # Windows of two tokens over 0 1 2 0 1, one new token each after the first: no transition counts twice.
    one_by_one = score(BIGRAM, frame([0, 1, 2, 0, 1]), settings(context_length=2, stride=1), 0)
    assert np.exp(-one_by_one["nll"].to_numpy()) == pytest.approx([0.5 * 0.75 * 0.5 * 0.5])
    assert one_by_one["tokens"].tolist() == [4]
    # Of what is read before a token, overlap keeps more: with it every token but the first has two before it.
    text = [0, 1, 2, 0, 1]
    overlapping = score(CONTEXT, frame(text), settings(context_length=2, stride=1), 0)
    assert overlapping["nll"].iloc[0] == pytest.approx(alone(CONTEXT, text, 2), rel=1e-5)
    # Without it the second window reads 2 0: for its first token, place 3, that is 2 alone.
    apart = score(CONTEXT, frame(text), settings(context_length=2, stride=2), 0)
    by_hand = alone(CONTEXT, [0, 1, 2], 2) + alone(CONTEXT, [2, 0, 1], 2)
    assert apart["nll"].iloc[0] == pytest.approx(by_hand, rel=1e-5)


def test_joined_documents_by_hand():
    # 0 1 | 2 | 0 1 is one text: P(1 | 0) = .5 to the first, P(2 | 1) = .75, then .5 x .5 to the third.
    documents = frame([0, 1], [2], [0, 1])
    table = score(BIGRAM, documents, settings(join_documents=True), pad_token_id=0)
    assert np.exp(-table["nll"].to_numpy()) == pytest.approx([0.5, 0.75, 0.25])
    assert table["tokens"].tolist() == [1, 1, 2]
    # One BOS before all of them: only the first document gains a scored token, P(0 | 1) = .125.
    table = score(BIGRAM, documents, settings(join_documents=True), pad_token_id=0, bos_token_id=1)
    assert np.exp(-table["nll"].to_numpy()) == pytest.approx([0.125 * 0.5, 0.75, 0.25])


@given(texts, st.integers(1, 7), st.sampled_from(["left", "right"]), st.integers(0, 5), st.booleans())
def test_batch_and_padding_change_nothing(input_ids, batch_size, padding_side, pad, join):
    """Pad tokens occur in the texts too: only the mask tells them apart."""
    changed = settings(batch_size=batch_size, join_documents=join)
    one = settings(batch_size=1, join_documents=join)
    assume(max(map(len, input_ids)) >= 2)
    table = score(CONTEXT, frame(*input_ids), changed, pad, padding_side=padding_side)
    alone_each = score(CONTEXT, frame(*input_ids), one, 0)
    assert table["nll"].to_numpy() == pytest.approx(alone_each["nll"].to_numpy(), abs=1e-4)
    assert table[["tokens", "correct"]].equals(alone_each[["tokens", "correct"]])


@given(texts, st.integers(1, 12), st.data())
def test_stride_and_context_change_nothing_for_a_model_that_looks_at_one_token(input_ids, context_length, data):
    assume(any(input_ids))
    stride = data.draw(st.integers(1, context_length))
    changed = EvaluationSettings(context_length=context_length + 1, stride=stride)
    whole = EvaluationSettings(context_length=100, stride=100)
    table = score(BIGRAM, frame(*input_ids), changed, 0, bos_token_id=4)
    expected = score(BIGRAM, frame(*input_ids), whole, 0, bos_token_id=4)
    assert table["nll"].to_numpy() == pytest.approx(expected["nll"].to_numpy(), rel=1e-4, abs=1e-4)
    assert table["tokens"].tolist() == [len(ids) for ids in input_ids]


@pytest.fixture(scope="module")
def tiny(tiny_model_folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def absolute():
    """A model whose positions are learned and absolute: it would notice positions that count padding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.5}
    return GPT2LMHeadModel(GPT2Config(vocab_size=258, n_positions=64, **shape)).eval()


@pytest.mark.parametrize("model", ["tiny", "absolute"])
@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_real_model_gives_its_own_loss(request, model, padding_side, batch_size):
    model = request.getfixturevalue(model)
    input_ids = [list(range(40, 60)), [7, 8, 9], list(range(100, 111))]
    chosen = EvaluationSettings(context_length=32, stride=32, batch_size=batch_size)
    table = score(model, frame(*input_ids), chosen, pad_token_id=257, padding_side=padding_side)
    for ids, nll in zip(input_ids, table["nll"], strict=True):
        batch = torch.tensor([ids])
        with torch.inference_mode():
            mean = model(input_ids=batch, labels=batch).loss.item()
        assert nll == pytest.approx(mean * (len(ids) - 1), rel=1e-5)


def test_an_adapter_is_heard(tiny_model_folder, tiny):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    text = frame(list(range(40, 60)))
    base = score(tiny, text, settings(), 257)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = score(get_peft_model(model, config).eval(), text, settings(), 257)
    assert abs(adapted["nll"].iloc[0] - base["nll"].iloc[0]) > 1e-3


def test_what_cannot_be_scored_is_an_error():
    with pytest.raises(FrugalError, match="no test document has a token to score"):
        score(UNIFORM, frame([1], []), settings(), 0)
    broken = FakeModel(lambda **inputs: one_hot(**inputs) * float("nan"), BIGRAMS)
    with pytest.raises(FrugalError, match="document 0: the model's likelihood is not a number"):
        score(broken, frame([1, 2]), settings(), 0)
    with pytest.raises(FrugalError, match=r"evaluation\.add_bos"):
        bos_token(SimpleNamespace(bos_token_id=None), settings(add_bos=True))
    assert bos_token(SimpleNamespace(bos_token_id=5), settings(add_bos=True)) == 5
    assert bos_token(SimpleNamespace(bos_token_id=5), settings()) is None


def sums(**columns):
    return pd.DataFrame({"correct": 0, "tokens": 10, "words": 5, "bytes": 20, "nll": 1.0} | columns)


def test_a_word_of_a_million_bytes_has_no_word_perplexity():
    table = sums(nll=[5e6, 10.0], words=[1, 2], tokens=[1_000_000, 10])
    values = metrics(table)
    assert values["word_perplexity"] is None
    assert values["perplexity"] == pytest.approx(math.exp((5e6 + 10) / 1_000_010))
    assert intervals(table, 100, 0)["word_perplexity"][1] is None


def test_intervals_are_those_of_resampled_documents():
    # Two documents of perplexity e and e^3: a draw holds the first twice, both, or the second twice.
    table = sums(nll=[10.0, 30.0], correct=[2, 6])
    drawn = intervals(table, 500, seed=0)
    assert drawn["perplexity"] == pytest.approx([math.e, math.e**3])
    assert drawn["bits_per_byte"] == pytest.approx([0.5 / math.log(2), 1.5 / math.log(2)])
    assert drawn["token_accuracy"] == pytest.approx([0.2, 0.6])
    assert intervals(table, 500, seed=0) == drawn
    assert set(drawn) == {"perplexity", "word_perplexity", "bits_per_byte", "token_accuracy"}


def test_intervals_are_as_wide_as_theory_says():
    nll = np.random.default_rng(0).normal(30, 3, 400)
    low, high = intervals(sums(nll=nll), 2000, seed=1)["perplexity"]
    assert math.log(high) - math.log(low) == pytest.approx(2 * 1.96 * nll.std() / 10 / 20, rel=0.1)


PROMPTS = ["The sea ", "Once more, ", "In winter "]


def test_answers_depend_on_seed_and_prompt_and_not_on_order(tiny, tiny_model_folder):
    tokenizer = load_tokenizer(tiny_model_folder)

    def answers(prompts, seed=1, **changes):
        chosen = PromptSettings(texts=prompts, max_new_tokens=8, **changes)
        return {row["prompt"]: row["answer"] for row in continue_prompts(tiny, tokenizer, chosen, seed)}

    first = answers(PROMPTS)
    assert answers(PROMPTS[::-1]) == first
    assert answers(PROMPTS, seed=2) != first
    assert answers(PROMPTS, temperature=0) == answers(PROMPTS, seed=2, temperature=0)
    (row,) = continue_prompts(tiny, tokenizer, PromptSettings(texts=["The sea "], max_new_tokens=8), 1)
    assert 1 <= row["tokens"] <= 8
    with pytest.raises(FrugalError, match=r"prompts\.texts: prompt 2 is empty"):
        answers(["The sea ", ""])


def test_noise_draws_from_the_softmax():
    probabilities = torch.tensor([0.7, 0.2, 0.1, 0.0])
    noise = GumbelNoise([5, 5, 6])
    draws = torch.stack([noise(None, probabilities.log().expand(3, -1)).argmax(1) for _ in range(4000)])
    shares = torch.nn.functional.one_hot(draws, 4).float().mean(0)
    assert torch.allclose(shares[0], probabilities, atol=0.03)
    assert torch.equal(draws[:, 0], draws[:, 1])
    assert not torch.equal(draws[:, 0], draws[:, 2])


def test_an_answer_ends_with_its_end_token(tiny, tiny_model_folder, monkeypatch):
    tokenizer = load_tokenizer(tiny_model_folder)
    end, letter = tokenizer.eos_token_id, tokenizer("a")["input_ids"][-1]
    behind = torch.tensor([[letter, end, tokenizer.pad_token_id], [letter, letter, letter]])
    monkeypatch.setattr(tiny, "generate", lambda input_ids, **options: torch.cat([input_ids, behind], dim=1))
    rows = continue_prompts(tiny, tokenizer, PromptSettings(texts=["The sea ", "No"]), 1)
    assert rows == [
        {"prompt": "The sea ", "answer": "a", "tokens": 2},
        {"prompt": "No", "answer": "aaa", "tokens": 3},
    ]
    assert continue_prompts(tiny, tokenizer, PromptSettings(texts=[]), 1) == []


def test_documents_to_metrics_by_the_scripts(tmp_path, tiny_model_folder, monkeypatch):
    import evaluate_language_model
    import pack_blocks

    monkeypatch.setattr(evaluate_language_model, "keep_freed_memory", lambda: None)
    run = {
        "kind": "language_modeling",
        "dataset": "synthetic",
        "base_model": "tiny-random-llama",
        "corpus": {"block_length": 32, "max_test_tokens": 40, "test_documents": 0.4},
        "model": {"quantization": "none", "compute_dtype": "float32"},
        "evaluation": {"context_length": 16, "stride": 8, "bootstrap_samples": 100},
        "prompts": {"texts": PROMPTS, "max_new_tokens": 4},
    }
    write_json(tmp_path / "config.yaml", run)  # JSON is YAML too
    texts = [f"Text {n} has some words, and the words are few." for n in range(10)]
    columns = {"document": [f"d{n}" for n in range(10)], "text": texts, "split": [None] * 10}
    pd.DataFrame(columns).to_parquet(tmp_path / "documents.parquet")
    shared = ["--config", str(tmp_path / "config.yaml")]
    model, blocks = str(tiny_model_folder), tmp_path / "blocks"
    options = {"--documents": tmp_path / "documents.parquet", "--tokenizer": model, "--output": blocks}
    monkeypatch.setattr(sys, "argv", ["pack", *shared, *(str(part) for pair in options.items() for part in pair)])
    pack_blocks.main()
    files = {name: tmp_path / "base" / name for name in ("metrics.json", "documents.parquet", "answers.jsonl")}
    options = {f"--{path.stem}": path for path in files.values()} | {"--base-model": model}
    options["--test"] = blocks / "test.parquet"
    monkeypatch.setattr(sys, "argv", ["evaluate", *shared, *(str(part) for pair in options.items() for part in pair)])
    evaluate_language_model.main()

    result = read_json(files["metrics.json"])
    # Four texts of forty tokens; nothing predicts the first of each. An untrained model: about one in 258.
    assert (result["metrics"]["tokens"], result["metrics"]["documents"]) == (4 * 39, 4)
    assert result["metrics"]["perplexity"] == pytest.approx(258, rel=0.2)
    low, high = result["intervals"]["perplexity"]
    assert low <= result["metrics"]["perplexity"] <= high
    assert result["training"] is None
    assert set(result["provenance"]["inputs"]) == {"test", "config", "base_model"}
    table = pd.read_parquet(files["documents.parquet"])
    assert list(table) == ["document", "tokens", "nll", "correct", "words", "bytes"]
    assert math.exp(table["nll"].sum() / table["tokens"].sum()) == pytest.approx(result["metrics"]["perplexity"])
    answers = [json.loads(line) for line in files["answers.jsonl"].read_text(encoding="utf-8").split("\n") if line]
    assert [row["prompt"] for row in answers] == PROMPTS
    assert set(answers[0]) == {"prompt", "answer", "tokens"}
