"""Preference pairs: who is in them, what they say, and that the same seed gives the same bytes."""

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from frugal.errors import FrugalError
from frugal.llm.conversion import byte_tokenizer
from frugal.preference import recommending
from frugal.preference.items import PARTS, Items, Pair
from frugal.preference.pairs import make_pairs, split_users
from frugal.preference.prompts import Prompts
from frugal.preference.records import CHOICE, PAIR, TITLES, read_jsonl, to_jsonl, to_records, with_options


def records_of(interactions, items, run, part="train"):
    catalogue, parts = make_pairs(interactions, items, run)
    return list(to_records(catalogue, parts[part], run, part))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), hard=st.floats(0, 1))
def test_pairs_keep_their_promises(interactions, items, make_run, seed, hard):
    run = make_run(seed=seed, pairs={"hard_fraction": hard})
    catalogue, parts = make_pairs(interactions, items, run)
    users = {part: {pair.user for pair in parts[part]} for part in PARTS}
    assert not users["train"] & users["test"]
    assert not users["train"] & users["validation"]
    assert not users["validation"] & users["test"]
    assert [len(parts[part]) for part in PARTS] == [40, 8, 24]
    for part in PARTS:
        assert len({(p.user, p.liked, p.kind) for p in parts[part]}) == len(parts[part]), "a pair stands twice"
        for pair in parts[part]:
            rated = interactions[interactions["user"] == pair.user].set_index("item")
            assert pair.other not in rated.index, "the negative was seen"
            liked = list(catalogue.liked[pair.user])
            place = liked.index(pair.liked)
            assert rated.loc[pair.liked, "rating"] >= 4
            assert list(pair.history) == liked[place - 3 : place], "the history is what came just before"
            themes = set().union(*(catalogue.attributes[item] for item in pair.history))
            if pair.kind == "easy":
                assert catalogue.attributes[pair.liked] & themes
                assert not catalogue.attributes[pair.other] & themes
            else:
                distance = abs(catalogue.rank[pair.liked] - catalogue.rank[pair.other])
                assert distance <= 20 + len(catalogue.seen[pair.user])


def test_popularity_counts_training_users_only(interactions, items, make_run):
    run = make_run()
    catalogue, _ = make_pairs(interactions, items, run)
    train = split_users(sorted(interactions["user"].unique()), run)["train"]
    counts = interactions[interactions["user"].isin(train)].groupby("item").size()
    assert all(catalogue.popularity[item] == counts.get(item, 0) for item in range(60))


def test_same_seed_same_bytes_and_another_seed_others(interactions, items, make_run):
    first = to_jsonl(records_of(interactions, items, make_run()))
    assert first == to_jsonl(records_of(interactions, items, make_run()))
    assert first != to_jsonl(records_of(interactions, items, make_run(seed=4)))


def test_positions_are_balanced_within_binomial_bounds(interactions, items, make_run):
    run = make_run(pairs={"train_examples": 300, "hard_fraction": 1.0, "history_length": 1})
    answers = [record["liked_option"] for record in records_of(interactions, items, run)]
    low, high = binom.interval(0.9999, len(answers), 0.5)
    assert low <= answers.count("A") <= high


def test_variants_hold_the_same_pairs(interactions, items, make_run):
    def pairs(**changes):
        records = records_of(interactions, items, make_run(pairs=changes), "test")
        return [(r["user"], r["history"], r["liked"], r["other"], r["kind"]) for r in records]

    assert pairs() == pairs(answer_position="always_a") == pairs(format="next_item") == pairs(reasoning_fraction=0.2)


def test_always_a_and_next_item(interactions, items, make_run):
    always = records_of(interactions, items, make_run(pairs={"answer_position": "always_a"}))
    assert all(r["output"].startswith("Option A.") and r["liked_option"] == "A" for r in always)
    following = records_of(interactions, items, make_run(pairs={"format": "next_item"}))
    assert all(r["output"] == r["liked_title"] and "Option" not in r["input"] for r in following)


def test_texts_by_hand(items, make_run):
    prompts = Prompts(Items(items), make_run())
    pair = Pair(user=0, history=(0, 7, 1), liked=14, other=4, kind="easy")
    # Film 0: Action and Comedy; films 7 and 14: Action; film 1: Comedy; film 4: Horror.
    assert prompts.comparison(pair, "B") == (
        "Liked: Film 0, The (1950) (Action|Comedy); Film 7, The (1957) (Action); Film 1, The (1951) (Comedy).\n"
        "Option A: Film 4, The (1954) (Horror)\nOption B: Film 14, The (1964) (Action)"
    )
    assert prompts.answer(pair, "B", with_reasoning=False) == "Option B."
    assert prompts.answer(pair, "B", with_reasoning=True) == (
        "Option B. The user likes Action and Comedy. Option B shares Action; Option A shares no genre."
    )


def test_with_options_swaps_items_and_is_its_own_inverse(interactions, items, make_run):
    for record in records_of(interactions, items, make_run()):
        other = "B" if record["liked_option"] == "A" else "A"
        swapped = with_options(record, other)
        assert swapped["liked_option"] == other
        assert f"Option {other}: {record['liked_title']}" in swapped["input"]
        assert with_options(swapped, record["liked_option"])["input"] == record["input"]
        assert with_options(record, record["liked_option"]) == record


def test_reasoning_fraction(interactions, items, make_run):
    def reasoned(fraction):
        records = records_of(interactions, items, make_run(pairs={"reasoning_fraction": fraction}))
        return np.mean(["The user likes" in record["output"] for record in records])

    assert reasoned(0.0) == 0
    assert reasoned(1.0) == 1
    assert 0 < reasoned(0.5) < 1


def test_too_few_pairs_is_an_error_that_names_the_key(interactions, items, make_run):
    with pytest.raises(FrugalError, match=r"pairs\.test_easy_examples: 5000 easy pairs asked for, but the \d+ test"):
        make_pairs(interactions, items, make_run(pairs={"test_easy_examples": 5000}))
    with pytest.raises(
        FrugalError, match=r"pairs\.train_examples: .* liked films give \d+; lower train_examples or history_length"
    ):
        make_pairs(interactions, items, make_run(pairs={"history_length": 50}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no records"),
        ("{}\n", "line 1: no input, instruction, output"),
        ('{"instruction": "", "input": "", "output": ""}\n{"cut', "line 2: not JSON"),
    ],
)
def test_broken_jsonl(tmp_path, text, message):
    path = tmp_path / "train.jsonl"
    path.write_text(text)
    with pytest.raises(FrugalError, match=f"train.jsonl: {message}"):
        read_jsonl(path)


def test_jsonl_round_trip(tmp_path, interactions, items, make_run):
    records = records_of(interactions, items, make_run())
    path = tmp_path / "train.jsonl"
    path.write_text(to_jsonl(records), encoding="utf-8")
    assert read_jsonl(path) == read_jsonl(path, PAIR, CHOICE, TITLES) == json.loads(json.dumps(records))


@pytest.mark.parametrize(("group", "key"), [(PAIR, "kind"), (CHOICE, "swapped_input"), (TITLES, "liked_title")])
def test_records_without_what_scoring_needs(tmp_path, interactions, items, make_run, group, key):
    records = records_of(interactions, items, make_run(pairs={"reasoning_fraction": 1}))
    path = tmp_path / "test.jsonl"
    for value in ({}, {key: 3}):
        path.write_text(to_jsonl([{k: v for k, v in records[0].items() if k != key} | value]), encoding="utf-8")
        message = f"line 1: {key} has a value that it cannot have" if value else f"line 1: no {key}"
        with pytest.raises(FrugalError, match=message):
            read_jsonl(path, group)


def test_an_example_whose_loss_is_on_the_answer_needs_both_answers(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"instruction": "i", "input": "x", "output": "A", "loss_on": "answer", "liked_option": "A"}\n')
    with pytest.raises(FrugalError, match=r"line 1: no answers, swapped_input; make the file again"):
        read_jsonl(path)


def test_a_recommendation_from_a_long_history_asks_about_its_newest_items(items, make_run, monkeypatch):
    asked = []

    def choose(model, tokenizer, prompts, answers, batch_size, alike):
        asked.extend(prompts)
        return torch.zeros(len(prompts), 2)

    monkeypatch.setattr(recommending, "choice_log_probabilities", choose)
    monkeypatch.setattr(recommending, "generate", lambda *_: (["Drama."], 0.1))
    run = make_run(model={"max_length": 400})
    recommender = recommending.Recommender(None, byte_tokenizer(), Items(items), run)
    titles = [f"Film {n}, The ({1950 + n})" for n in range(30)]
    ranking = recommender.recommend(titles[:28], titles[28:])["ranking"]
    assert [row["title"] for row in ranking] == titles[28:]
    for text in asked:
        assert text.startswith("### Instruction:\nWhich of the two films would this user like better")
        assert "Film 27, The (1977)" in text
        assert "Film 0, The" not in text
        assert all(f"Option {letter}: Film 2" in text for letter in "AB")
        assert 300 < len(text) + len("Option A.") + 1 <= 400
