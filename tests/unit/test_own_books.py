"""Books, not films: preference pairs and baselines from CSV files of one's own, with categories and without."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

import evaluate_preference
import fetch_source
import make_preference_pairs
import prepare_interactions
import rank_candidates
import score_preference_baselines
import write_run_config
from frugal.config.base import plain
from frugal.config.study import load_study
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.files import read_json
from frugal.kinds import PREFERENCE
from frugal.preference.prompts import prompt
from frugal.preference.records import read_jsonl

CATEGORIES = ["Cooking", "Gardening", "Poetry", "Travel"]
TABLE = """datasets:
  my-books:
    title: My library
    items: {noun: book%s}
    sources:
      - path: FOLDER
        format: csv
        members: {ratings: loans.csv, items: books.csv}
        columns: {user: reader, item: isbn, rating: stars, timestamp: day}
        item_columns: {item: isbn, title: name%s}
        attribute_separator: /
"""
WITH_CATEGORIES = TABLE % (", attribute: category, attributes: categories", ", attributes: category")
WITHOUT = TABLE % ("", "")
SETTINGS = {
    "kind": "preference",
    "title": "Books",
    "dataset": "my-books",
    "base_model": "tiny-random-llama",
    "split": {"validation_users": 0.2, "test_users": 0.3},
    "pairs": {
        "history_length": 3,
        "train_examples": 20,
        "validation_examples": 4,
        "test_easy_examples": 8,
        "test_hard_examples": 8,
    },
    "model": {"quantization": "none", "compute_dtype": "float32", "max_length": 1024},
    "evaluation": {"bootstrap_samples": 100, "generated_examples": 2, "max_new_tokens": 4},
}


class Library:
    """A folder in which the workflow's scripts run, with the files of a small lending library."""

    def __init__(self, folder, monkeypatch, table):
        self.folder, self.monkeypatch = folder, monkeypatch
        rng = np.random.default_rng(5)
        lines = []
        for reader in range(30):
            # Every reader likes two categories, and has borrowed books of others, too.
            for day, book in enumerate(rng.permutation(48)[:24]):
                stars = 5 if book % 4 in (reader % 4, (reader + 1) % 4) else 2
                lines.append(f"r{reader},978-{book},{stars},{day}\n")
        (folder / "loans.csv").write_text("reader,isbn,stars,day\n" + "".join(lines))
        categories = [CATEGORIES[n % 4] + "/Gifts" * (n % 6 == 0) for n in range(48)]
        books = [f'978-{n},"Book {n}, revised",{category}\n' for n, category in enumerate(categories)]
        (folder / "books.csv").write_text("isbn,name,category\n" + "".join(books))
        (folder / "table.yaml").write_text(table.replace("FOLDER", str(folder)))

        # Both change the whole process.
        monkeypatch.setattr(evaluate_preference, "keep_freed_memory", lambda: None)
        monkeypatch.setattr(evaluate_preference, "hide_bitsandbytes", lambda quantization: None)

    def run(self, script, *arguments):
        self.monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, arguments)])
        assert not script.main()

    def settings(self, changes):
        study = {"study": "mine", "experiments": {"books": SETTINGS | changes}}
        study |= read_yaml(self.folder / "table.yaml")
        return load_study(study, "my.yaml").experiments["books"].shared

    def make_pairs(self, **changes):
        """From the CSV files to pairs; the prepared items."""
        run, folder = self.settings(changes), self.folder
        for stage, keys in PREFERENCE.stages.items():
            written = ["--settings", json.dumps(plain(run, keys)), "--output", folder / f"{stage}.yaml"]
            self.run(write_run_config, "--experiment", "books", "--kind", "preference", *written)
        table = ["--table", folder / "table.yaml", "--name", "my-books"]
        prepared = folder / "data/prepared/my-books"
        self.run(fetch_source, *table, "--output", folder / "raw", "--downloads", folder / "downloads")
        self.tables = ["--interactions", prepared / "interactions.parquet", "--items", prepared / "items.parquet"]
        others = ["--users", folder / "users.parquet", "--summary", folder / "summary"]
        self.run(prepare_interactions, *table, "--raw", folder / "raw", *self.tables, *others)
        self.run(make_preference_pairs, "--config", folder / "pairs.yaml", *self.tables, "--output", folder / "pairs")
        return pd.read_parquet(prepared / "items.parquet")

    def baselines(self):
        test = ["--test", self.folder / "pairs/test.jsonl", "--results", self.folder / "results"]
        self.run(score_preference_baselines, "--config", self.folder / "evaluation.yaml", *self.tables, *test)
        return {name: read_json(self.folder / f"results/baseline_{name}/metrics.json") for name in PREFERENCE.baselines}


@pytest.fixture
def library(tmp_path, monkeypatch):
    return lambda table: Library(tmp_path, monkeypatch, table)


def test_books_with_categories(library):
    books = library(WITH_CATEGORIES)
    items = books.make_pairs()
    assert items["attributes"].map(list).tolist()[:2] == [["Cooking", "Gifts"], ["Gardening"]]
    records = [r for part in ("train", "validation", "test") for r in read_jsonl(books.folder / f"pairs/{part}.jsonl")]
    texts = [prompt(record) + record["output"] for record in records]
    assert not [text for text in texts if "film" in text.lower() or "genre" in text.lower()]
    assert all(text.startswith("### Instruction:\nWhich of the two books would this user like") for text in texts)
    record = next(record for record in records if record["kind"] == "easy" and record["liked_option"] == "A")
    described = {row.item: f"{row.title} ({'|'.join(sorted(row.attributes))})" for row in items.itertuples()}
    history = "; ".join(described[item] for item in record["history"])
    options = f"Option A: {described[record['liked']]}\nOption B: {described[record['other']]}"
    assert record["input"] == f"Liked: {history}.\n{options}"
    assert record["output"].endswith("; Option B shares no category.")

    results = books.baselines()
    assert results["attribute_overlap"]["metrics"]["accuracy_easy"] == 1
    assert all(set(result) == {"metrics", "intervals", "training", "provenance"} for result in results.values())
    tables = [pd.read_parquet(books.folder / f"results/baseline_{name}/predictions.parquet") for name in results]
    assert [len(table) for table in tables] == [16] * 4


def test_books_without_categories(library):
    books = library(WITHOUT)
    with pytest.raises(FrugalError, match="books: the books of 'my-books' have no attributes: set pairs"):
        books.make_pairs()
    titles = {"history_attributes": False, "reasoning_fraction": 0}
    books.make_pairs(pairs=SETTINGS["pairs"] | titles)
    test = read_jsonl(books.folder / "pairs/test.jsonl")
    assert [record["kind"] for record in test].count("easy") == 8
    for record in test:
        liked, other = record["liked_title"], record["other_title"]
        first, second = (liked, other) if record["liked_option"] == "A" else (other, liked)
        assert record["input"].endswith(f", revised.\nOption A: {first}\nOption B: {second}")

    results = books.baselines()
    assert results["popularity"]["metrics"].keys() >= {"accuracy", "accuracy_easy", "accuracy_hard"}
    left_out = results["attribute_overlap"]
    assert (left_out["metrics"], left_out["intervals"]) == ({}, {})
    assert left_out["left_out"] == "the books of my-books have no attributes"
    assert pd.read_parquet(books.folder / "results/baseline_attribute_overlap/predictions.parquet").empty


def test_a_column_of_categories_that_is_empty(library):
    books = library(WITH_CATEGORIES)
    path = books.folder / "books.csv"
    path.write_text("isbn,name,category\n" + "".join(f"978-{n},Book {n},\n" for n in range(48)))
    with pytest.raises(FrugalError, match="the books of 'my-books' have no categories: name another column for them"):
        books.make_pairs()


@pytest.mark.parametrize("form", ["contrastive", "next_item"])
def test_a_model_is_asked_about_books(library, tiny_model_folder, capsys, form):
    books = library(WITH_CATEGORIES)
    books.make_pairs(pairs=SETTINGS["pairs"] | {"format": form}, prompts={"answer": "({letter}) it is."})
    run = books.folder / "results/books/base"
    files = ("metrics.json", "predictions.parquet", "examples.jsonl")
    outputs = [part for file in files for part in (f"--{file.partition('.')[0]}", run / file)]
    model = ["--base-model", tiny_model_folder, "--config", books.folder / "evaluation.yaml"]
    books.run(evaluate_preference, *model, "--test", books.folder / "pairs/test.jsonl", *outputs)
    metrics = read_json(run / "metrics.json")["metrics"]
    assert 0 <= metrics["accuracy"] <= 1
    assert "books/base: accuracy " in capsys.readouterr().err
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert len(predictions) == 16
    assert ("answer_mass" in predictions) == (form == "contrastive")
    examples = [json.loads(line) for line in (run / "examples.jsonl").read_text().splitlines()]
    assert [example["input"].startswith("Liked: Book ") for example in examples] == [True, True]


def test_no_book_has_the_title(library, tiny_model_folder):
    books = library(WITH_CATEGORIES)
    books.make_pairs()
    run = books.settings({})
    from frugal.preference.items import Items
    from frugal.preference.recommending import Recommender

    items = rank_candidates._read_items(books.folder / "data/prepared/my-books/items.parquet")
    recommender = Recommender(None, None, Items(items), run)
    with pytest.raises(FrugalError, match=r"no book has the title 'Book 7, revise'; did you mean 'Book 7, revised'"):
        recommender.recommend(["Book 7, revise"], ["Book 8, revised", "Book 9, revised"])
    with pytest.raises(FrugalError, match="no liked book; name at least one"):
        recommender.recommend([], ["Book 8, revised", "Book 9, revised"])
