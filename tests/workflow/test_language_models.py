"""`wikitext` and `climate` of the smoke study: what they leave behind, and what does and does not run again."""

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.workflow
RUNS = ["wikitext/base", "wikitext/tuned", "wikitext/continuous", "climate/base", "climate/tuned"]


@pytest.mark.parametrize("run", RUNS)
def test_every_run_leaves_its_metrics(smoke, run):
    folder = smoke.folder / "results/smoke" / run
    result = json.loads((folder / "metrics.json").read_text())
    metrics = result["metrics"]
    for name in ("perplexity", "bits_per_byte", "token_accuracy"):
        low, high = result["intervals"][name]
        assert 0 <= low <= metrics[name] <= high, name
    # A model that knows nothing finds each of its 258 tokens equally likely; one token is one byte, 8 bits.
    assert metrics["perplexity"] == pytest.approx(258, rel=0.1)
    assert metrics["bits_per_byte"] == pytest.approx(8, rel=0.1)
    documents = pd.read_parquet(folder / "documents.parquet")
    assert documents["tokens"].sum() == metrics["tokens"]
    # Joined, one token of all has nothing before it; apart, one of each document.
    first = 1 if run.startswith("wikitext") else len(documents)
    assert metrics["tokens"] == 64 * len(documents) - first
    assert (result["training"] is None) == run.endswith("base")
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == (2 if run.startswith("wikitext") else 1)


def test_training_is_recorded(smoke):
    record = json.loads((smoke.folder / "results/smoke/climate/tuned/training.json").read_text())
    assert (record["steps"], record["blocks"], record["tokens"], record["effective_batch_size"]) == (2, 4, 256, 2)
    history = pd.read_csv(smoke.folder / "results/smoke/climate/tuned/history.csv")
    assert history["loss"].notna().sum() == 2
    assert history["eval_loss"].notna().sum() == 1
    log = (smoke.folder / "logs/smoke/train_climate/tuned/training.log").read_text()
    assert "climate/tuned: step 2/2  loss " in log


def test_every_document_has_a_row_in_the_manifest(smoke):
    manifest = pd.read_parquet(smoke.folder / "data/prepared/climate-chapters/manifest.parquet")
    assert len(manifest) == 13
    assert manifest["status"].value_counts().to_dict() == {"kept": 12, "skipped": 1}
    assert manifest.loc[manifest["status"] == "skipped", "reason"].item().startswith("near-duplicate of ")


def test_blocks_keep_to_the_documents(smoke):
    blocks = pd.read_parquet(smoke.folder / "data/blocks/smoke/wikitext/tuned/train.parquet")
    assert (blocks["segment_lengths"].map(sum) == blocks["input_ids"].map(len)).all()
    counts = json.loads((smoke.folder / "data/blocks/smoke/wikitext/tuned/blocks.json").read_text())
    assert counts["tokens"]["train"] == 512


def test_the_ladder_is_measured(smoke):
    result = json.loads((smoke.folder / "results/smoke/climate/ladder/measurements.json").read_text())
    assert [rung["rung"] for rung in result["rungs"]] == ["lora", "chunked_loss"]
    assert all(rung["error"] is None and rung["peak_mb"] > 100 and rung["largest_batch"] for rung in result["rungs"])


def test_the_rating_sheet_is_blind(smoke):
    folder = smoke.folder / "results/smoke/wikitext/rating"
    sheet = pd.read_csv(folder / "sheet.csv")
    assert len(sheet) == 4
    page = (folder / "sheet.html").read_text()
    assert "tuned" not in page
    assert "<b>sea</b>" not in page  # a prompt is text, not markup
    key = json.loads((folder / "key.json").read_text())
    assert {entry["run"] for entry in key.values()} == {"base", "tuned"}
    assert set(key) == set(sheet["item"])


def test_adapters_have_model_cards(smoke):
    card = (smoke.folder / "results/smoke/climate/tuned/README.md").read_text()
    assert "base_model:" in card
    assert "| Perplexity, a token |" in card


def test_the_report_has_no_placeholder(smoke):
    text = (smoke.folder / "results/smoke/report/report.md").read_text()
    for name in ("TODO", "TBD", "____", "[insert", "nan ", " None "):
        assert name not in text, name


def test_one_key_of_one_variant_reruns_that_variant(smoke):
    def change(experiments):
        experiments["wikitext"]["variants"]["continuous"]["training"] = {"learning_rate": 0.002}

    plan = smoke.changed_plan(change)
    assert plan["train_language_model"] == 1
    assert plan["evaluate_language_model"] == 1
    assert not {"pack_blocks", "prepare_documents", "train_preference", "climb_memory_ladder"} & set(plan)


def test_filled_sheets_train_nothing(smoke):
    def change(experiments):
        experiments["climate"]["rating"] = {"sheets": ["results/smoke/climate/rating/sheet.csv"]}

    plan = smoke.changed_plan(change)
    assert plan["read_ratings"] == 1
    assert not {"train_language_model", "evaluate_language_model", "pack_blocks"} & set(plan)


def test_killed_and_continued_equals_uninterrupted(smoke):
    def longer(experiments):
        experiments["climate"]["training"]["num_train_epochs"] = 12

    def target(study):
        return f"results/{study}/climate/tuned/adapter"

    smoke.snakemake("--configfile", smoke.study("long", longer), "--", target("long"))
    study, log = smoke.study("stopped", longer), "logs/stopped/train_climate/tuned/training.log"
    smoke.kill_and_continue(study, target("stopped"), log, ": step 9/")
    whole, pieces = (f"{target(name)}/adapter_model.safetensors" for name in ("long", "stopped"))
    assert smoke.same_weights(whole, pieces)


def test_a_data_set_of_the_wrong_kind_is_named(checkout):
    def change(experiments):
        experiments["climate"]["dataset"] = "movielens-100k"

    result = checkout.snakemake("-n", "--configfile", checkout.study("wrong", change), check=False)
    assert "climate.dataset: 'movielens-100k' does not hold texts or PDFs" in result.stdout + result.stderr
