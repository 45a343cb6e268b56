"""Each check of results on results that it must catch, and on sound ones."""

import json

import impossible
import pandas as pd
import pytest
import yaml

METRICS = {"HR@5": 0.3, "HR@10": 0.5, "NDCG@5": 0.2, "NDCG@10": 0.25, "recall@10": 0.5, "MRR": 0.2, "coverage@5": 0.1}
TARGETS = {"targets": 4, "repeated": 1, "cold": 2}


def record(**metrics):
    return {"metrics": METRICS | metrics, "cases": 2}


@pytest.mark.parametrize(
    ("check", "given", "finding"),
    [
        (impossible.bounds, record(MRR=1.2), "MRR is 1.2"),
        (impossible.bounds, record(**{"NDCG@10": float("nan")}), "NDCG@10 is nan"),
        (impossible.bounds, record(accuracy_hard=-0.1), "accuracy_hard is -0.1"),
        (impossible.bounds, record(perplexity=0.9), "no perplexity is below 1"),
        (impossible.bounds, record() | {"sampled": {"HR@10": 2}}, "HR@10 is 2"),
        (impossible.bounds, record() | {"by_seed": {"1": {"MRR": -1}}}, "MRR is -1"),
        (impossible.bounds, record() | {"intervals": {"MRR": [0.3, 0.4]}}, "outside of its interval"),
        (impossible.cutoffs, record(**{"HR@5": 0.6}), "HR@10 is 0.5, below HR@5, 0.6"),
        (impossible.cutoffs, record(**{"NDCG@10": 0.6}), "NDCG@10 is 0.6, above HR@10, 0.5"),
        (impossible.cutoffs, record(**{"recall@10": 0.6}), "recall@10 is 0.6, above HR@10, 0.5"),
        (impossible.cutoffs, record(**{"coverage@10": 0.05}), "coverage@10 is 0.05, below coverage@5, 0.1"),
        (impossible.counts, record() | {"targets": TARGETS | {"cold": 5}}, "5 of 4 targets are cold"),
        (impossible.counts, record() | {"ties": {"evaluation": 1.5, "elsewhere": None}}, "1.5 is no share of ties"),
        (
            impossible.counts,
            record() | {"targets": TARGETS, "history": "exclude", "cases": 4},
            "4 users are scored, and 3 targets are left",
        ),
    ],
)
def test_records(check, given, finding):
    assert list(check(record() | {"intervals": {"MRR": [0.1, 0.3]}, "targets": TARGETS, "history": "exclude"})) == []
    (found,) = check(given)
    assert finding in found


@pytest.mark.parametrize(
    ("run", "metrics", "finding"),
    [
        ("baseline_ease", {"NDCG@10": 1.0}, "has seen the answers"),
        ("baseline_popularity", {"accuracy": 1.0}, "has seen the answers"),
        ("baseline_always_a", {"accuracy": 0.6}, "accuracy is 0.6"),
    ],
)
def test_baselines_are_below_an_oracle(run, metrics, finding):
    assert list(impossible.oracle({"metrics": {"accuracy": 0.5, "NDCG@10": 0.5}}, run)) == []
    (found,) = impossible.oracle({"metrics": metrics}, run)
    assert finding in found


def predictions(**changes):
    rows = {"seed": [1, 1], "user": [0, 1], "rank": [4, 20], "HR@10": [1, 0], "NDCG@10": [0.5, 0], "recall@10": [1, 0]}
    return pd.DataFrame(rows | {"MRR": [0.35, 0.05]} | changes)


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"HR@10": [1, 1]}, "HR@10 is 0.5, and its mean over users is 1.0"),
        ({"user": [0, 0]}, "seed 1 has 1 users in 2 rows, and metrics.json 2"),
        ({"rank": [0, 20]}, "a rank is below 1"),
    ],
)
def test_means_over_users(changes, finding):
    assert list(impossible.means(record(), predictions())) == []
    assert finding in list(impossible.means(record(), predictions(**changes)))


def test_sums_over_documents():
    documents = pd.DataFrame({"tokens": [2, 2], "words": [1, 1], "bytes": [5, 6], "nll": [4.0, 4.0]})
    sound = {"metrics": {"tokens": 4, "words": 2, "bytes": 11, "perplexity": 7.389056}}  # e^2
    assert list(impossible.sums(sound, documents)) == []
    wrong = {"metrics": sound["metrics"] | {"tokens": 5, "perplexity": 7.0}}
    assert [finding.split()[0] for finding in impossible.sums(wrong, documents)] == ["tokens", "perplexity"]


@pytest.mark.parametrize(("perplexity", "wrong"), [(1000, 0), (499, 1), (2001, 1)])
def test_random_weights_are_as_unsure_as_the_vocabulary_is_large(perplexity, wrong):
    assert len(list(impossible.ignorance({"metrics": {"perplexity": perplexity}}, 1000))) == wrong


def test_p_values():
    assert list(impossible.probabilities(pd.DataFrame({"p": [0, 0.5, None], "p_holm": [0.1, 1, None]}))) == []
    assert list(impossible.probabilities(pd.DataFrame({"p": [1.5, -1]}))) == ["p is 1.5", "p is -1.0"]
    assert list(impossible.probabilities(pd.DataFrame({"p": [0.5], "p_holm": [0.2]}))) == [
        "p_holm is 0.2, below p, 0.5"
    ]


def test_rows_are_accounted_for():
    summary = {"rows_read": 10, "rows_kept": 5, "skipped": {"no item": 1}, "duplicates": {"removed": 1}}
    assert list(impossible.rows(summary | {"k_core": {"removed": 3}})) == []
    assert list(impossible.rows(summary | {"k_core": None})) == ["10 rows were read, 5 kept and 2 left out"]


def test_a_study_is_searched_as_a_whole(tmp_path):
    run, data = tmp_path / "results/trial/wiki/base", tmp_path / "data"
    for folder in (run, data / "models/tiny-random", data / "prepared/films", tmp_path / "results/trial/report/tables"):
        folder.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({"base_model": "tiny-random"}))
    (run / "metrics.json").write_text(json.dumps({"metrics": {"perplexity": 7.0}, "intervals": {}}))
    (data / "models/tiny-random/config.json").write_text('{"vocab_size": 256}')
    summary = {"rows_read": 3, "rows_kept": 2, "skipped": {}, "duplicates": {"removed": 0}, "k_core": None}
    (data / "prepared/films/summary.json").write_text(json.dumps(summary))
    pd.DataFrame({"p": [2.0]}).to_parquet(tmp_path / "results/trial/report/tables/tests.parquet")
    assert impossible.findings(tmp_path / "results/trial", data) == [
        "wiki/base: perplexity is 7.0, and random weights over 256 tokens give about 256",
        "tests: p is 2.0",
        "films: 3 rows were read, 2 kept and 0 left out",
    ]
