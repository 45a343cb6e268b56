"""Studies with other experiments than the originals: one, several of a kind on several data sets, each on own data."""

import os
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from frugal.files import read_json

pytestmark = pytest.mark.workflow
TINY = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16, "max_length": 12}
SHORT = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "learning_rate": 0.003}
ADAPTER = {
    "base_model": "tiny-random-llama",
    "model": {"quantization": "none", "compute_dtype": "float32", "max_length": 1024},
    "lora": {"r": 4},
    "training": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "optim": "adamw_torch"},
}


def recommendation(title: str, dataset: str) -> dict:
    return {
        "kind": "recommendation",
        "title": title,
        "dataset": dataset,
        "seeds": [1],
        "model": TINY,
        "training": SHORT,
        "evaluation": {"bootstrap_samples": 100},
    }


STUDY = {
    "study": "mine",
    "datasets": {
        "library": {
            "title": "Loans of a library",
            "items": {"noun": "book"},
            "sources": [
                {
                    "path": "own/library",
                    "format": "csv",
                    "members": {"ratings": "loans.csv", "items": "books.csv"},
                    "columns": {"user": "reader", "item": "isbn", "rating": "stars", "timestamp": "day"},
                    "item_columns": {"item": "isbn", "title": "name"},
                }
            ],
        },
        "shop": {
            "title": "Orders of a shop",
            "sources": [{"path": "own/orders.csv", "format": "csv", "columns": {"user": "who", "item": "what"}}],
        },
        "notes": {"title": "Notes", "sources": [{"path": "own/notes", "format": "text"}]},
    },
    "experiments": {
        "next_book": recommendation("The next book", "library"),
        "next_order": recommendation("The next order", "shop"),
        "taste": {
            **ADAPTER,
            "kind": "preference",
            "title": "Which of two books",
            "dataset": "library",
            "split": {"validation_users": 0.2, "test_users": 0.3},
            "pairs": {
                "history_attributes": False,
                "reasoning_fraction": 0,
                "history_length": 3,
                "train_examples": 8,
                "validation_examples": 2,
                "test_easy_examples": 4,
                "test_hard_examples": 4,
            },
            "evaluation": {"bootstrap_samples": 100, "generated_examples": 1, "max_new_tokens": 4},
        },
        "diary": {
            **ADAPTER,
            "kind": "language_modeling",
            "title": "A diary",
            "dataset": "notes",
            "corpus": {"block_length": 32, "test_documents": 0.4},
            "evaluation": {"context_length": 32, "stride": 16, "bootstrap_samples": 100},
        },
    },
}


@pytest.fixture(scope="module")
def own(checkout):
    """The checkout, with own data of two shops and a diary, and the study finished."""
    draw, folder = random.Random(1), checkout.folder / "own"
    (folder / "library").mkdir(parents=True)
    (folder / "notes").mkdir()
    loans = [(r, b, draw.randint(1, 5), 1_600_000_000 + n) for n, (r, b) in enumerate(pairs(draw, 60, 40, 14))]
    write_csv(folder / "library/loans.csv", ["reader", "isbn", "stars", "day"], loans)
    write_csv(folder / "library/books.csv", ["isbn", "name"], [(f"i{n}", f"Book {n}") for n in range(40)])
    write_csv(folder / "orders.csv", ["who", "what"], pairs(draw, 40, 25, 8))
    for number in range(12):
        words = " ".join(draw.choice(["rain", "sun", "snow", "wind", "fog"]) for _ in range(80))
        (folder / f"notes/day{number}.txt").write_text(f"Day {number}: {words}.", encoding="utf-8")
    (checkout.folder / "config/mine.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    checkout.snakemake("--configfile", "config/mine.yaml")
    return checkout


def pairs(draw: random.Random, users: int, items: int, each: int) -> list[tuple[str, str]]:
    return [(f"u{user}", f"i{item}") for user in range(users) for item in draw.sample(range(items), each)]


def write_csv(path: Path, names: list[str], rows: list[tuple]) -> None:
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)


def metrics(checkout, run: str) -> dict:
    return read_json(checkout.folder / "results/mine" / run / "metrics.json")["metrics"]


def test_every_experiment_is_trained_and_evaluated(own):
    for experiment, users in {"next_book": 60, "next_order": 40}.items():
        ranked = pd.read_parquet(own.folder / f"results/mine/{experiment}/tuned/predictions.parquet")
        assert ranked["user"].nunique() == users
        assert 0 <= metrics(own, f"{experiment}/tuned")["NDCG@10"] <= 1
    assert 0 <= metrics(own, "taste/tuned")["accuracy"] <= 1
    assert metrics(own, "diary/tuned")["perplexity"] > 1
    assert own.plan("config/mine.yaml") == {}


def test_data_sets_of_two_recommenders_stay_apart(own):
    for name, items in {"library": 40, "shop": 25}.items():
        assert read_json(own.folder / f"data/prepared/{name}/summary.json")["items"] == items
        assert len(list((own.folder / "data/sequences" / name).iterdir())) == 1


def test_pairs_are_of_books(own):
    text = (own.folder / "data/pairs/mine/taste/tuned/train.jsonl").read_text(encoding="utf-8")
    assert "book" in text
    assert "film" not in text


def test_the_report_has_a_section_for_each_and_nothing_of_originals(own):
    report = (own.folder / "results/mine/report/report.md").read_text(encoding="utf-8")
    headings = [line.removeprefix("## ") for line in report.splitlines() if line.startswith("## ")]
    titles = [experiment["title"] for experiment in STUDY["experiments"].values()]
    assert [heading for heading in headings if heading in titles] == titles
    assert "shared attributes (baseline) is left out: the books of library have no attributes." in report
    assert "In easy pairs the latter is any other book;" in report
    for word in ("MovieLens", "Llama 3 8B", "original", "Wikipedia"):
        assert word not in report, word


def test_each_experiment_is_a_target(own):
    plan = own.plan("config/mine.yaml", "--forceall", "--", "next_order")
    assert plan["train_recommender"] == 1
    assert not {"train_preference", "train_language_model", "make_tables"} & plan.keys()


def test_a_changed_file_of_ones_own_is_read_again(own):
    loans = own.folder / "own/library/loans.csv"
    kept = loans.read_bytes()
    os.utime(loans)
    assert own.plan("config/mine.yaml") == {}
    loans.write_bytes(kept + b"r1,b1,5,90\n")
    try:
        plan = own.plan("config/mine.yaml")
    finally:
        loans.write_bytes(kept)
    assert plan["fetch"] == plan["prepare_interactions"] == 1
    assert "prepare_documents" not in plan


def test_a_failed_experiment_leaves_the_others_and_is_named_in_the_report(own):
    """What is missing is missing in the report, and said so."""
    shutil.rmtree(own.folder / "results/mine/next_order/tuned")
    (own.folder / "own/orders.csv").write_text("who,what\n", encoding="utf-8")
    own.run("make", "partial-report", "STUDY=mine")
    report = (own.folder / "results/mine/report/report.md").read_text(encoding="utf-8")
    assert "next_order/tuned" in report
    assert "missing" in report.lower()
    assert "The next book" in report
