"""The smoke study, from nothing to its report, and what does and does not run again."""

import json
import os

import impossible
import pandas as pd
import pytest

pytestmark = pytest.mark.workflow
SYSTEMS = [
    "base",
    "tuned",
    "always_a",
    "next_film",
    "baseline_always_a",
    "baseline_popularity",
    "baseline_attribute_overlap",
    "baseline_ease",
]


@pytest.mark.parametrize("name", ["config", "workstation", "full", "smoke"])
def test_each_shipped_study_has_a_plan(checkout, name):
    plan = checkout.plan(f"config/{name}.yaml", "--forceall")
    assert plan["train_preference"] >= 2
    assert plan["train_recommender"] >= 6
    assert plan["write_report"] == 1


def test_the_default_study_is_the_laptop_study(checkout):
    assert "results/laptop/report/report.md" in checkout.run("snakemake", "--summary").stdout


def test_named_targets(checkout):
    targets = checkout.run("snakemake", "--list-target-rules").stdout.split()
    assert {"data", "models", "movie_preference", "ssept", "bert4rec", "tables", "figures", "report"} <= set(targets)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_leaves_its_metrics(smoke, system):
    folder = smoke.folder / "results/smoke/movie_preference" / system
    result = json.loads((folder / "metrics.json").read_text())
    assert set(result) == {"metrics", "intervals", "training", "provenance"}
    for name in ("accuracy", "accuracy_easy", "accuracy_hard", "swap_consistency", "auc"):
        low, high = result["intervals"][name]
        assert 0 <= low <= result["metrics"][name] <= high <= 1, name
    trained = system in ("tuned", "always_a", "next_film")
    assert (result["training"] is not None) == trained
    assert result["provenance"]["hardware"]["cores"] >= 1
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert predictions["kind"].value_counts().to_dict() == {"easy": 12, "hard": 12}


def test_systems_meet_on_the_same_pairs(smoke):
    def pairs(system):
        table = pd.read_parquet(smoke.folder / "results/smoke/movie_preference" / system / "predictions.parquet")
        return table[["user", "kind", "liked", "other"]]

    for system in SYSTEMS[1:]:
        pd.testing.assert_frame_equal(pairs("base"), pairs(system))


def test_adapters_load_in_plain_peft(smoke):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(smoke.folder / "data/models/tiny-random-llama")
    model = PeftModel.from_pretrained(base, smoke.folder / "results/smoke/movie_preference/tuned/adapter")
    assert model.peft_config["default"].r == 4
    assert "base_model:" in (smoke.folder / "results/smoke/movie_preference/tuned/README.md").read_text()


def test_the_report_is_there_in_all_forms(smoke):
    report = smoke.folder / "results/smoke/report"
    for name in ("report.md", "report.html", "report.tex"):
        assert (report / name).stat().st_size > 1000, name
    assert {path.suffix for path in (report / "tables").iterdir()} == {".csv", ".md", ".tex", ".parquet"}
    assert {path.suffix for path in (report / "figures").iterdir()} == {".svg", ".pdf"}


def test_nothing_in_the_results_is_impossible(smoke):
    assert impossible.findings(smoke.folder / "results/smoke", smoke.folder / "data") == []


def test_the_claims_ledger_knows_the_runs(smoke):
    ledger = pd.read_parquet(smoke.folder / "results/smoke/report/tables/claims.parquet").set_index("id")
    assert len(ledger) >= 60
    assert ledger.loc["movie_preference.trainable_parameters", ["answer", "verdict"]].tolist() == [
        41_943_040,
        "refuted",
    ]
    base = json.loads((smoke.folder / "results/smoke/movie_preference/base/metrics.json").read_text())
    assert ledger.loc["movie_preference.loading_memory", "answer"] == base["metrics"]["base_model_mb"]


def test_logs_say_how_far_a_training_is(smoke):
    log = (smoke.folder / "logs/smoke/train_movie_preference/tuned/training.log").read_text()
    assert "movie_preference/tuned: step 8/8  loss " in log
    assert "tokens/s" in log
    assert "Traceback" not in log


def test_a_second_run_has_nothing_to_do(smoke):
    assert smoke.plan("config/smoke.yaml") == {}
    result = smoke.snakemake("--configfile", "config/smoke.yaml")
    assert "Nothing to be done" in result.stdout + result.stderr


def test_one_key_of_one_variant_reruns_that_variant(smoke):
    def change(experiments):
        experiments["movie_preference"]["variants"]["always_a"]["training"] = {"learning_rate": 0.002}

    plan = smoke.changed_plan(change)
    assert plan["train_preference"] == 1
    assert plan["evaluate_preference"] == 1
    assert plan["write_report"] == 1
    assert "make_preference_pairs" not in plan
    assert "fetch" not in plan


def test_a_key_of_the_evaluation_trains_nothing(smoke):
    def change(experiments):
        experiments["movie_preference"]["evaluation"]["max_new_tokens"] = 9

    plan = smoke.changed_plan(change)
    assert plan["evaluate_preference"] == 4
    assert "train_preference" not in plan


def test_file_times_do_not_matter(smoke):
    """As after a clone: the code is new, and nothing runs."""
    for path in (smoke.folder / "workflow").rglob("*.py"):
        os.utime(path)
    assert smoke.plan("config/smoke.yaml") == {}


def test_changed_code_reruns_what_it_touches(smoke):
    path = smoke.folder / "workflow/scripts/frugal/recsys/ease.py"
    original = path.read_text()
    try:
        path.write_text(original + "\n# a comment is not code\n")
        assert smoke.plan("config/smoke.yaml") == {}
        path.write_text(original + "\nCHANGED = True\n")
        plan = smoke.plan("config/smoke.yaml")
        assert plan["score_preference_baselines"] == 1
        assert "train_preference" not in plan
    finally:
        path.write_text(original)


def test_killed_and_continued_equals_uninterrupted(smoke):
    def longer(experiments):
        experiments["movie_preference"]["pairs"]["train_examples"] = 160
        experiments["movie_preference"]["variants"] = {"tuned": {}}

    def target(study):
        return f"results/{study}/movie_preference/tuned/adapter"

    smoke.snakemake("--configfile", smoke.study("whole", longer), "--", target("whole"))
    study, log = smoke.study("pieces", longer), "logs/pieces/train_movie_preference/tuned/training.log"
    smoke.kill_and_continue(study, target("pieces"), log, ": step 7/")
    whole, pieces = (f"{target(name)}/adapter_model.safetensors" for name in ("whole", "pieces"))
    assert smoke.same_weights(whole, pieces)


def test_the_same_seed_gives_the_same_pairs_and_metrics(smoke):
    study = smoke.study("again")
    smoke.snakemake("--configfile", study, "--", "results/again/movie_preference/tuned/metrics.json")
    for part in ("train", "validation", "test"):
        first, second = (
            (smoke.folder / f"data/pairs/{name}/movie_preference/tuned/{part}.jsonl").read_bytes()
            for name in ("smoke", "again")
        )
        assert first == second
    first, second = (
        json.loads((smoke.folder / f"results/{name}/movie_preference/tuned/metrics.json").read_text())
        for name in ("smoke", "again")
    )
    measured = {"seconds_per_recommendation", "seconds_per_scored_pair", "peak_rss_mb"}
    for name in set(first["metrics"]) - measured:
        # Threads may add in another order: the last digits of a float32 sum are not promised.
        assert first["metrics"][name] == pytest.approx(second["metrics"][name], abs=1e-4), name
    assert first["training"]["final_loss"] == pytest.approx(second["training"]["final_loss"], rel=1e-5)


def test_snakemake_report_with_captions(smoke):
    smoke.snakemake("--configfile", "config/smoke.yaml", "--report", "report-of-the-run.html")
    text = (smoke.folder / "report-of-the-run.html").read_text()
    assert "movie_preference_accuracy" in text


def test_recommendations(smoke):
    command = ["python", "workflow/scripts/rank_candidates.py", "--run", "results/smoke/movie_preference/tuned"]
    answer = smoke.run(
        *command, "--liked", "Toy Story (1995)", "--candidates", "Fargo (1996)", "Heat (1995)", "Scream (1996)"
    )
    lines = answer.stdout.splitlines()
    assert [line[:3] for line in lines[:3]] == ["1. ", "2. ", "3. "]
    assert {line[3:].split("  (")[0] for line in lines[:3]} == {"Fargo (1996)", "Heat (1995)", "Scream (1996)"}

    unknown = smoke.run(*command, "--liked", "Toy Storry (1995)", "--candidates", "a", "b", check=False)
    assert unknown.returncode == 1
    assert "error: no film has the title 'Toy Storry (1995)'; did you mean 'Toy Story (1995)'" in unknown.stderr
    assert "Traceback" not in unknown.stderr

    requests = '{"liked": ["Toy Story (1995)"], "candidates": ["Fargo (1996)", "Heat (1995)"]}\nnot json\n'
    requests += '{"liked": [1], "candidates": "Heat (1995)"}\n'
    many = smoke.run(*command, "--requests", "-", input=requests, check=False)
    first, second, third = map(json.loads, many.stdout.splitlines())
    assert len(first["ranking"]) == 2
    assert second["error"].startswith("line 2: not a JSON object")
    assert third["error"].startswith("line 3: not a JSON object")
    assert many.returncode == 1
