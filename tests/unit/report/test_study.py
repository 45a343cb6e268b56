"""The study as a whole: what it cost, its machines, other studies beside it, its abstract and its threats."""

import json
import shutil

import pandas as pd
import pytest
from synthetic.study import (
    EXPERIMENTS,
    markdown_of,
    reconfigure,
    results_of,
    settings,
    tables_of,
)

from frugal.config.study import load_study
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.report.results import Results
from frugal.report.study import section, threats
from frugal.report.study.others import check_others, compared_experiments, found_runs
from frugal.report.study.tables import build, layouts

#: The experiments of the synthetic study.
DESCRIBED = {"experiments": EXPERIMENTS}


def again(results: Results) -> Results:
    """The same study, read anew."""
    return results_of(results.root.parents[1])


def change(path, part: str, **values) -> None:
    record = json.loads(path.read_text())
    record[part] |= values
    path.write_text(json.dumps(record))


def threats_of(results: Results, experiment: str, random_models=()) -> str:
    one = results.experiments[experiment]
    return " ".join(threats.of_experiment(one, tables_of(results, experiment), random_models))


def of_the_study(results: Results) -> str:
    experiments = ("movie_preference", "ssept")
    return " ".join(threats.of_the_study(results, {one: tables_of(results, one) for one in experiments}))


# What training cost, and where.


def test_costs_of_all_experiments_by_hand(results):
    table = build("efficiency", results)
    rows = {(row[0].value, row[1].value): [cell.value for cell in row[2:]] for row in table.rows()}
    # 312.5 s and 90 s; recommenders have two seeds.
    assert rows["Movie preference", "tuned"] == [
        "bfloat16",
        "1",
        "139,399,488",
        "4,884,480",
        "3.50",
        "5.21",
        "292",
        "2,346",
        "21.4",
    ]
    assert rows["SSE-PT", "ssept"] == ["float32", "2", "128,000", "1,000", "0.55", "1.50", "5,678", "900", "21.0"]
    assert "device" not in [column.name for column in table.columns]  # all the same
    assert not any(cell.best for row in table.rows() for cell in row)


def test_devices_are_shown_where_they_differ(copy):
    hardware = {"processor": "Other", "cores": 8, "memory_mb": 1024, "gpus": []}
    change(copy.root / "ssept/ssept/metrics.json", "provenance", hardware=hardware)
    table = build("efficiency", again(copy))
    assert "device" in [column.name for column in table.columns]


def test_a_machine_has_its_instructions_and_the_types_that_were_chosen_on_it(results):
    machines = build("machines", results).frame
    here = machines[machines["study"] == "trial"].iloc[0]
    assert here["instructions"] == "AVX2"
    assert here["compute_dtypes"] == (
        "bfloat16 (auto: this CPU multiplies in bfloat16 (AMX)); float32 (auto: this CPU (AVX2) emulates bfloat16)"
    )


def test_machines_stand_beside_those_of_the_originals(results):
    frame = build("machines", results).frame
    here = frame[frame["study"] == "trial"].iloc[0]
    assert here[["processor", "cores", "memory_gb", "gpus"]].tolist() == ["Test CPU @ 2 GHz", 2, 16, "none"]
    assert here["results"] == len(results.runs)
    assert frame[frame["study"] == "a server"]["gpus"].tolist() == ["A GPU"]
    originals = frame[frame["original"] == "yes"].set_index("experiments")["gpus"]
    assert originals.to_dict() == {
        "Movie preference": "RTX 3090, 24 GB", "SSE-PT": "not named", "BERT4Rec": "A100, V100 and L4",
        "Language model on Wikipedia text": "T4 of Google Colab",
        "Language model on climate documents": "H100",
    }  # fmt: skip


# Other studies.


def test_each_run_stands_beside_itself(results):
    assert list(layouts(results)) == ["efficiency", "machines", "across_ssept", "across_wikitext"]
    frame = build("across_wikitext", results).frame
    shown = frame[["run", "study", "device", "settings", "per_second", "peak_device_mb"]].fillna("").to_numpy().tolist()
    here, there = "Test CPU @ 2 GHz, 2 cores", "A GPU"
    assert shown == [
        ["base", "trial", here, "", "", ""],
        ["base", "a server", "Server CPU, 64 cores", "the same", "", ""],  # it trained nothing
        ["tuned", "trial", here, "", 310.0, ""],
        ["tuned", "a server", there, "others", 9300.0, 2100.5],
        ["no_dropout", "trial", here, "", 310.0, ""],
    ]
    assert build("across_ssept", results).frame["data"].unique().tolist() == ["movielens-100k, leave one out"]


def test_comparisons_in_words(results):
    tables = {name: build(name, results) for name in layouts(results)}
    ndcg = f"{results.experiments['ssept'].find('ssept').metrics['NDCG@10']:.4f}"
    perplexity = f"{results.experiments['wikitext'].find('tuned').metrics['perplexity']:.2f}"
    speed = "30 times the speed in training (A GPU against Test CPU @ 2 GHz, 2 cores)"
    assert section.comparisons(results, tables) == [
        f"SSE-PT, ssept, a server against trial: {speed}; NDCG@10 {ndcg} against {ndcg}, with the same settings.",
        f"Language model on Wikipedia text, tuned, a server against trial: {speed}; Perplexity {perplexity} against "
        f"{perplexity}, with "
        "other settings.",
    ]


def test_runs_are_found_in_the_same_order_everywhere(tmp_path):
    for run in ("b", "a", "base", "baseline_z", "efficiency"):
        (tmp_path / "ssept" / run).mkdir(parents=True)
        if run != "efficiency":
            (tmp_path / "ssept" / run / "metrics.json").write_text("{}")
    assert found_runs(tmp_path, "ssept") == ["baseline_z", "base", "a", "b"]
    assert compared_experiments({"x": tmp_path}, DESCRIBED) == ["ssept"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            "other: .*elsewhere: holds no results of this study's experiments, that is no <experiment>/<run>/",
        ),
        ("not json", r"other: .*elsewhere: .*wikitext/base/metrics\.json: cannot be read \(.*\); copy it again"),
        ("[]", "has no metrics and no provenance, so another version or another program wrote it"),
        ('{"metrics": {"loss": 1}}', "has no provenance, so another version"),
    ],
)
def test_a_folder_without_such_results_is_named(tmp_path, content, message):
    folder = tmp_path / "elsewhere"
    (folder / "wikitext" / "base").mkdir(parents=True)
    if content is not None:
        (folder / "wikitext/base/metrics.json").write_text(content)
    with pytest.raises(FrugalError, match=message):
        check_others({"other": str(folder)}, tmp_path / "own", DESCRIBED)


def test_a_study_is_not_compared_with_itself(study):
    trial = study / "results" / "trial"
    with pytest.raises(FrugalError, match=r"report\.compare\.other: .*: there is no such folder"):
        check_others({"other": str(study / "nowhere")}, trial, DESCRIBED)
    with pytest.raises(FrugalError, match="this is the study itself"):
        check_others({"other": str(study / "results" / ".." / "results" / "trial")}, trial, DESCRIBED)
    with pytest.raises(FrugalError, match="this study is called trial itself"):
        check_others({"trial": str(study / "results" / "server")}, trial, DESCRIBED)
    assert (
        len(check_others({"other": str(study / "results" / "server")}, trial, DESCRIBED)) == 4 + 3
    )  # a rule has no settings


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"compare": ["results/full"]}, "report.compare: must be a valid dictionary"),
        ({"compare": {"a=b": "results/full"}}, "report.compare.a=b"),
        ({"compare": {"full": 3}}, "report.compare.full: must be a valid string"),
        ({"comparison": {}}, "report.comparison: unknown key"),
        ({"threats": "one"}, "report.threats: must be a valid list"),
    ],
)
def test_settings_of_the_report_are_checked(value, message):
    settings = read_yaml("config/smoke.yaml")
    assert load_study(settings | {"report": {"compare": {"RTX 3090": "a b/c"}}}, "file").report.threats == []
    with pytest.raises(FrugalError, match=message):
        load_study(settings | {"report": value}, "file")


def test_an_experiment_of_another_kind_is_not_compared(study, copy):
    trial, server = study / "results" / "trial", copy.root.parent / "server"
    reconfigure(server / "wikitext/tuned/config.yaml", kind="preference")
    with pytest.raises(FrugalError, match="is of the kind 'preference', and this study's experiment of that name of"):
        check_others({"other": str(server)}, trial, DESCRIBED)


def test_no_other_study_is_said(study, written):
    alone = results_of(study)
    alone.compare = {}
    assert list(layouts(alone)) == ["efficiency", "machines"]
    text = markdown_of(alone, written)
    assert "No other study stands beside this one." in text
    assert "`report.compare`" in text
    assert "the same run in each study" not in text


# The abstract.


def test_the_abstract_has_a_sentence_for_each_experiment(written):
    text = (written / "report.md").read_text()
    abstract = text.split("## Abstract")[1].split("\n## ")[0]
    # 3 runs of 312.5 s, 10 of 2 x 90 s but one of a single seed, and 3 of 90 s.
    minutes = (3 * 312.5 + 9 * 2 * 90 + 90 + 3 * 90) / 60
    assert (
        f"In 5 experiments, 25 trainings took {minutes:.1f} minutes together on Test CPU @ 2 GHz, 2 cores" in abstract
    )
    assert "none needed more than 2,346 MB of memory." in abstract
    assert (
        "**Movie preference.** On easy pairs the trained model is better than the untuned one (accuracy 0." in abstract
    )
    assert "**SSE-PT.** ssept has an NDCG@10 of 0." in abstract
    assert "is better than 5 of 5 baselines." in abstract
    assert "**Language model on Wikipedia text.** Tuning lowers the perplexity: " in abstract
    assert "over 12 test documents." in abstract
    assert "write-ups state 72 findings" in abstract
    for title in ("BERT4Rec", "Language model on climate documents"):
        assert f"**{title}.**" in abstract


def test_an_abstract_without_results_says_missing(empty):
    sections = [{"title": "SSE-PT", "headline": "How well the principal model ranks is missing."}]
    found = section.abstract(sections, {"efficiency": build("efficiency", empty)}, ["The claims."])
    assert found["opening"] == "What was trained and what it cost is missing."
    assert found["claims"] == ["The claims."]


# Threats to validity.


def test_threats_follow_from_the_settings(results):
    movies = threats_of(results, "movie_preference")
    assert "There is one seed (1): intervals cover the choice of test users" in movies
    assert "the data are movielens-100k, not movielens-1m; the model is smollm2-135m-instruct, not llama-3-8b" in movies
    assert (
        "Nothing records whether the text that smollm2-135m-instruct was first trained on holds movielens-100k"
        in movies
    )
    assert "Free answers were asked for 4 questions" in movies
    ssept = threats_of(results, "ssept")
    assert "Models were trained with 2 seeds: the standard deviations over them are rough." in ssept
    assert "In movielens-100k, 42.0% of the test targets have the time of another interaction" in ssept
    assert "models learn from other users' later interactions" in ssept
    assert "ssept has rotary positions and scores that are cosines" in ssept
    assert "1 of 2 trainings of ssept used up their epochs" in ssept
    assert "Only a part of the data" not in ssept
    wikitext = threats_of(results, "wikitext")
    assert "Intervals resample 12 test documents." in wikitext
    assert "Nobody has rated" not in wikitext
    assert "was measured once, over 4 steps" in threats_of(results, "climate")
    assert "memory ladder" not in wikitext


def test_threats_that_do_not_hold_are_not_told(copy):
    model = {"positions": "learned", "score": "dot"}
    path = copy.root / "ssept/ssept/config.yaml"
    reconfigure(path, dataset="movielens-20m", seeds=[1], model=model, data={"split": "global_time"})
    reconfigure(copy.root / "wikitext/tuned/config.yaml", dataset="wikitext-2-raw", base_model="llama-3.2-1b")
    changed = again(copy)
    shutil.copytree(changed.data / "prepared/movielens-100k", changed.data / "prepared/movielens-20m")
    ssept, wikitext = threats_of(changed, "ssept"), threats_of(changed, "wikitext")
    for text in ("Other than in the original", "rotary", "cosines", "later interactions", "2 seeds"):
        assert text not in ssept, text
    assert "Models were trained with 1 seed: no spread over seeds is known." in ssept
    assert "Other than in the original" not in wikitext


def test_data_of_which_a_part_is_used_or_that_have_no_order_are_told(copy):
    reconfigure(copy.root / "ssept/ssept/config.yaml", data={"max_users": 60, "fraction": 0.25})
    reconfigure(copy.root / "ssept/ssept/config.yaml", loss={"name": "sampled_softmax"}, model={"layers": "ligr"})
    summary = copy.data / "prepared/movielens-100k/summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"ordered": False}))
    text = threats_of(again(copy), "ssept")
    assert "Only a part of the data is used: 60 users and 25 % of the shards." in text
    assert "movielens-100k has no order in time" in text
    assert "an approximation of the whole catalogue" in text
    assert "ssept has rotary positions and LiGR layers and scores that are cosines" in text


def test_random_weights_say_so_and_nothing_of_pretraining(results):
    text = threats_of(results, "wikitext", random_models=["smollm2-135m-instruct"])
    assert "smollm2-135m-instruct has random weights" in text
    assert "first trained on" not in text


def test_what_cannot_be_found_with_so_few_cases_is_told(results):
    row = tables_of(results, "movie_preference")["tests"].frame.query("run == 'base'")
    hard = row[row["kind"] == "hard"].iloc[0]
    half = (hard["difference_upper"] - hard["difference_lower"]) / 2
    told = f"the untuned model on hard pairs reaches {half:.3f} to either side"
    assert told in threats_of(results, "movie_preference")


def test_few_documents_raters_and_short_texts_are_told(copy):
    for name in ("base", "tuned"):
        path = copy.root / "climate" / name / "documents.parquet"
        pd.read_parquet(path).head(3).to_parquet(path)
    reconfigure(copy.root / "climate/tuned/config.yaml", corpus={"max_test_tokens": 512})
    ratings = copy.root / "climate/rating/ratings.json"
    ratings.write_text(json.dumps(json.loads(ratings.read_text()) | {"raters": 1}))
    text = threats_of(again(copy), "climate")
    assert "Intervals resample 3 test documents, too few for precise intervals." in text
    assert "only the first 512 tokens are scored" in text
    assert "One person has rated the answers" in text


def test_threats_to_the_whole_study(copy):
    note = "The settings were chosen with the test figures in view."
    copy.notes = [note]
    text = of_the_study(copy)
    assert text.startswith(note)
    # The synthetic results of movie_preference were made while files differed from the commit.
    assert f"When 8 of {len(copy.runs)} results were made, files differed" in text
    assert "commits" not in text
    assert "machines" not in text
    tables = [("movie_preference", "tests"), ("ssept", "tests"), ("ssept", "groups")]
    tests = [tables_of(copy, one)[name].frame["p_holm"].notna().sum() for one, name in tables]
    assert f"The report makes {sum(tests)} tests in 3 tables." in text
    change(copy.root / "ssept/ssept/metrics.json", "provenance", commit="f" * 40, versions={"torch": "3"}, hardware={})
    (copy.root / "ssept/retrained/metrics.json").unlink()
    text = of_the_study(again(copy))
    assert "The results were made by 2 commits of the code" in text
    assert "with 2 sets of package versions" in text
    assert "come from 2 machines" in text
    assert f"of {len(copy.runs)} results, 1 is missing, and no comparison includes it" in text


def test_without_settings_the_limits_are_missing(empty):
    for experiment in empty.experiments:
        assert "cannot be said" in threats_of(empty, experiment)


def test_an_original_is_nothing_to_an_experiment_that_reproduces_none(study):
    config = settings("wikitext", "ssept")
    for entry in config["experiments"].values():
        entry.pop("reproduces")
    results = results_of(study, config)
    assert "Other than in the original" not in threats_of(results, "wikitext")
    assert "yes" not in build("machines", results).frame["original"].tolist()


def test_threats_stand_in_every_format(written):
    for form in ("md", "html", "tex"):
        text = (written / f"report.{form}").read_text()
        assert text.index("Threats to validity") < text.index(
            "of the test targets have the time of another interaction"
        )


def test_intervals_of_two_machines_overlap_or_not(copy):
    def agreement():
        frame = build("across_wikitext", again(copy)).frame
        return dict(zip(zip(frame["run"], frame["study"], strict=True), frame["agrees"], strict=True))

    other = copy.root.parent / "server/wikitext/tuned/metrics.json"
    own = json.loads((copy.root / "wikitext/tuned/metrics.json").read_text())["intervals"]
    assert agreement()["tuned", "a server"] == "yes"  # its scores are the same
    high = own["perplexity"][1]
    change(other, "intervals", perplexity=[high, high + 1])
    assert agreement()["tuned", "a server"] == "yes"
    change(other, "intervals", perplexity=[high + 0.001, high + 1])
    assert agreement()["tuned", "a server"] == "no"
    assert pd.isna(agreement()["tuned", "trial"])
