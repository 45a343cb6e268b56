"""How much a run reads, worked out by hand."""

import json
import math

import numpy as np
import pytest

from frugal.config.language_modeling import LanguageModelingRun
from frugal.config.preference import PreferenceRun
from frugal.config.recommendation import RecommendationRun
from frugal.planning.amounts import (
    CHARACTERS_A_PROMPT_TOKEN,
    CHARACTERS_A_TOKEN,
    Corpus,
    Unplannable,
    corpus,
    example_tokens,
    sequences,
    window_tokens,
)
from frugal.recsys.batches import draw_windows
from frugal.recsys.memory import DataShape


def run_on(dataset, corpus_settings=None, **evaluation):
    settings = {"dataset": dataset, "base_model": "m", "corpus": corpus_settings or {}, "evaluation": evaluation}
    return LanguageModelingRun.model_validate(settings)


def test_tokens_of_a_prepared_data_set(tmp_path):
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps({"kept": 10, "characters": 44_500}))
    run = run_on("mine", {"validation_documents": 0.1, "test_documents": 0.2, "add_eos": True})
    part = corpus(run, 50_000, tmp_path / "blocks.json", summary)
    # 10,000 tokens and 10 ends, in parts of 7, 1 and 2 documents
    assert (part.train, part.validation, part.test) == pytest.approx((7_007, 1_001, 2_002))
    assert part.test_documents == 2
    assert corpus(run, 258, tmp_path / "blocks.json", summary).train == pytest.approx(0.7 * 44_500 + 7)  # bytes
    limited = run_on("mine", {"max_train_tokens": 640, "max_validation_tokens": 64, "max_test_tokens": 100})
    part = corpus(limited, 50_000, tmp_path / "blocks.json", summary)
    assert (part.train, part.validation, part.test) == (640, 64, 200)


def test_packed_blocks_are_exact_and_count_only_for_their_settings(tmp_path):
    run, blocks = run_on("climate-chapters"), tmp_path / "blocks.json"
    counts = {"tokens": {"train": 5, "validation": 6, "test": 7}, "blocks": {"test": 3}}
    blocks.write_text(json.dumps({**counts, "settings": run.corpus.model_dump(mode="json")}))
    assert corpus(run, 50_000, blocks, tmp_path / "none.json") == Corpus(5, 6, 7, 3)
    changed = run_on("climate-chapters", {"block_length": 64})
    assert corpus(changed, 50_000, blocks, tmp_path / "none.json").train > 10_000


def test_a_data_set_with_its_own_split_and_one_of_unknown_size(tmp_path):
    part = corpus(run_on("wikitext-2-raw", {"add_eos": False}), 128_256, tmp_path / "b", tmp_path / "s")
    assert part.test == pytest.approx(1_290_590 / CHARACTERS_A_TOKEN)
    with pytest.raises(Unplannable, match="the size of climate-reports is not known before it is prepared: snakemake"):
        corpus(run_on("climate-reports"), 128_256, tmp_path / "b", tmp_path / "s")


def test_windows_read_some_tokens_twice():
    run = run_on("d", context_length=512, stride=256)
    assert window_tokens(run, Corpus(0, 0, 2 * 500, 2)) == 1000  # one window each
    # Each of 1,024: a window of 512, and two further ones for the 511 tokens that follow its 513
    assert window_tokens(run, Corpus(0, 0, 2 * 1024, 2)) == 2 * 3 * 512
    joined = run_on("d", context_length=512, stride=512, join_documents=True)
    assert window_tokens(joined, Corpus(0, 0, 4096, 60)) == 8 * 512


def preference(**pairs):
    words = {"noun": "film", "attribute": "genre"}
    settings = {"dataset": "d", "base_model": "m", "items": words, "pairs": pairs, "model": {"max_length": 2048}}
    return PreferenceRun.model_validate(settings)


def test_tokens_of_preference_examples():
    reasoned, plain = (example_tokens(preference(reasoning_fraction=share), 50_000) for share in (1, 0))
    assert (plain.answer, plain.loss) == (2, 1)
    assert reasoned.loss == reasoned.answer > 20
    assert example_tokens(preference(reasoning_fraction=0.5), 50_000).loss == pytest.approx((1 + reasoned.loss) / 2)
    longer = example_tokens(preference(reasoning_fraction=0, history_length=10), 50_000)
    titles = example_tokens(preference(reasoning_fraction=0, history_length=10, history_attributes=False), 50_000)
    assert plain.prompt < titles.prompt < longer.prompt
    # A byte is a token, and the prompt leaves room for the answer
    assert reasoned.prompt > reasoned.common > reasoned.prompt / 2
    of_bytes = example_tokens(preference(reasoning_fraction=0), 258)
    assert of_bytes.prompt == pytest.approx(CHARACTERS_A_PROMPT_TOKEN * plain.prompt)


def recommendation(**changes):
    return RecommendationRun.model_validate({"dataset": "d", **changes})


def test_sequences_of_a_recommender():
    data = DataShape(users=100, items=500, interactions=3_000)
    causal = sequences(recommendation(model={"architecture": "sasrec", "max_length": 20}), data)
    # Less the two that are held out and the first, which nothing predicts: 27 a user
    assert (causal.users, causal.positions, causal.targets) == (100, 2_700, 2_700)
    masked = {"architecture": "bert4rec", "max_length": 20, "mask_probability": 0.2}
    half = sequences(recommendation(model=masked, data={"fraction": 0.5}), data)
    assert (half.users, half.positions, half.targets) == pytest.approx((50, 1_400, 280))
    by_time = sequences(recommendation(model=masked, data={"split": "global_time"}), data)
    assert by_time.positions == pytest.approx(0.8 * 3_000)


def test_the_number_of_windows_is_that_of_the_batches():
    rng = np.random.default_rng(0)
    lengths = rng.exponential(40, 4_000).astype(int) + 3
    data = DataShape(users=4_000, items=500, interactions=int(lengths.sum()))
    run = recommendation(model={"architecture": "bert4rec", "max_length": 30})
    offsets = np.concatenate(([0], np.cumsum(lengths - 2)))
    drawn = len(draw_windows(offsets, 30, False, rng).users)
    assert math.isclose(sequences(run, data).rows, drawn, rel_tol=0.05)
