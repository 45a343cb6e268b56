"""The study as a whole: what it cost, its machines, other studies beside it, its abstract and its threats."""

import json
import shutil

import pytest
import yaml
from made_up.study import markdown_of

from frugal.config.study import load_study
from frugal.config.yaml_files import read_yaml
from frugal.errors import FrugalError
from frugal.report.contents import TABLES
from frugal.report.render import SECTIONS
from frugal.report.results import Results
from frugal.report.study import section, threats
from frugal.report.study.layouts import TITLES
from frugal.report.study.others import check_others, compared_experiments, found_runs
from frugal.report.study.tables import build


def results_of(root, synthetic, **changes) -> Results:
    results = root / "results"
    options = {"efficiency": ["bert4rec"], "ladder": ["climate"], "compare": {"a server": results / "server"}}
    return Results(results / "trial", "trial", synthetic.runs, root / "data", **options | changes)


@pytest.fixture
def results(study, synthetic) -> Results:
    return results_of(study, synthetic)


@pytest.fixture
def copy(study, synthetic, tmp_path) -> Results:
    """The same study where files may be changed."""
    shutil.copytree(study / "results", tmp_path / "results", ignore=shutil.ignore_patterns("report"))
    shutil.copytree(study / "data", tmp_path / "data")
    return results_of(tmp_path, synthetic)


def change(path, part: str, **values) -> None:
    record = json.loads(path.read_text())
    record[part] |= values
    path.write_text(json.dumps(record))


def reconfigure(path, **parts) -> None:
    settings = yaml.safe_load(path.read_text())
    for name, value in parts.items():
        settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(settings))


def tables_of(results: Results, experiment: str) -> dict:
    return {name: SECTIONS[experiment].build(name, results) for name in TABLES[experiment]}


def threats_of(results: Results, experiment: str, random_models=()) -> str:
    return " ".join(threats.of_experiment(results, experiment, tables_of(results, experiment), random_models))


def of_the_study(results: Results, notes=()) -> str:
    experiments = ("movie_preference", "ssept")
    return " ".join(threats.of_the_study(results, {one: tables_of(results, one) for one in experiments}, notes))


# What training cost, and where.


def test_costs_of_all_experiments_by_hand(results):
    table = build("efficiency", results)
    rows = {(row[0].value, row[1].value): [cell.value for cell in row[2:]] for row in table.rows()}
    # 312.5 s and 90 s; recommenders have two seeds.
    assert rows["Movie preference", "tuned"] == [
        "1",
        "139,399,488",
        "4,884,480",
        "3.50",
        "5.21",
        "292",
        "2,346",
        "21.4",
    ]
    assert rows["SSE-PT", "ssept"] == ["2", "128,000", "1,000", "0.55", "1.50", "5,678", "900", "21.0"]
    assert "device" not in [column.name for column in table.columns]  # all the same
    assert not any(cell.best for row in table.rows() for cell in row)


def test_devices_are_shown_where_they_differ(copy, synthetic):
    hardware = {"processor": "Other", "cores": 8, "memory_mb": 1024, "gpus": []}
    change(copy.root / "ssept/ssept/metrics.json", "provenance", hardware=hardware)
    table = build("efficiency", results_of(copy.root.parents[1], synthetic))
    assert "device" in [column.name for column in table.columns]


def test_machines_stand_beside_those_of_the_originals(results):
    frame = build("machines", results).frame
    here = frame[frame["study"] == "trial"].iloc[0]
    assert here[["processor", "cores", "memory_gb", "gpus"]].tolist() == ["Test CPU @ 2 GHz", 2, 16, "none"]
    assert here["results"] == len(results.runs)
    assert frame[frame["study"] == "a server"]["gpus"].tolist() == ["A GPU"]
    originals = frame[frame["original"] == "yes"].set_index("experiments")["gpus"]
    assert originals.to_dict() == {
        "Movie preference": "RTX 3090, 24 GB", "SSE-PT": "not named", "BERT4Rec": "A100, V100 and L4",
        "Wikipedia text": "T4 of Google Colab", "Climate documents": "H100",
    }  # fmt: skip


# Other studies.


def test_each_run_stands_beside_itself(results):
    assert section.table_names(results) == ["efficiency", "machines", "across_ssept", "across_wikitext"]
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
    tables = {name: build(name, results) for name in section.table_names(results)}
    ndcg = f"{results.find('ssept', 'ssept').metrics['NDCG@10']:.4f}"
    perplexity = f"{results.find('wikitext', 'tuned').metrics['perplexity']:.2f}"
    speed = "30 times the speed in training (A GPU against Test CPU @ 2 GHz, 2 cores)"
    assert section.comparisons(results, tables) == [
        f"SSE-PT, ssept, a server against trial: {speed}; NDCG@10 {ndcg} against {ndcg}, with the same settings.",
        f"Wikipedia text, tuned, a server against trial: {speed}; Perplexity {perplexity} against {perplexity}, with "
        "other settings.",
    ]


def test_runs_are_found_in_the_same_order_everywhere(tmp_path):
    for run in (
        "ssept/b",
        "ssept/a",
        "ssept/baseline_z",
        "wikitext/base",
        "wikitext/a",
        "unknown/x",
        "ssept/efficiency",
    ):
        (tmp_path / run).mkdir(parents=True)
        if run != "ssept/efficiency":
            (tmp_path / run / "metrics.json").write_text("{}")
    assert found_runs(tmp_path) == ["ssept/baseline_z", "ssept/a", "ssept/b", "wikitext/base", "wikitext/a"]
    assert compared_experiments({"x": tmp_path}) == ["ssept", "wikitext"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "other: .*elsewhere: holds no results, that is no <experiment>/<run>/metrics.json"),
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
        check_others({"other": str(folder)}, tmp_path / "own")


def test_a_study_is_not_compared_with_itself(study):
    trial = study / "results" / "trial"
    with pytest.raises(FrugalError, match=r"report\.compare\.other: .*: there is no such folder"):
        check_others({"other": str(study / "nowhere")}, trial)
    with pytest.raises(FrugalError, match="this is the study itself"):
        check_others({"other": str(study / "results" / ".." / "results" / "trial")}, trial)
    with pytest.raises(FrugalError, match="this study is called trial itself"):
        check_others({"trial": str(study / "results" / "server")}, trial)
    assert len(check_others({"other": str(study / "results" / "server")}, trial)) == 4 + 3  # a rule has no settings


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


def test_no_other_study_is_said(study, synthetic, written):
    alone = results_of(study, synthetic, compare={})
    assert section.table_names(alone) == ["efficiency", "machines"]
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
    assert "write-ups state 111 numbers" in abstract
    for title in ("BERT4Rec", "Language model on climate documents"):
        assert f"**{title}.**" in abstract


def test_an_abstract_without_results_says_missing(synthetic, tmp_path):
    empty = Results(tmp_path, "trial", synthetic.runs, tmp_path)
    sections = [{"title": "SSE-PT", "headline": "How well the principal model ranks is missing."}]
    tables = {"efficiency": build("efficiency", empty)}
    found = section.abstract(empty, sections, tables, ["The claims."])
    assert found["opening"] == "What was trained and what it cost is missing."
    assert found["claims"] == "The claims."


# Threats to validity.


def test_threats_follow_from_the_settings(results):
    movies = threats_of(results, "movie_preference")
    assert "There is one seed (1): intervals tell what other test users might give" in movies
    assert "the data are movielens-100k, not movielens-1m; the model is smollm2-135m-instruct, not llama-3-8b" in movies
    assert (
        "Nothing records whether the text that smollm2-135m-instruct was first trained on holds movielens-100k"
        in movies
    )
    assert "Free answers were asked for 4 questions" in movies
    ssept = threats_of(results, "ssept")
    assert "Models were trained with 2 seeds: the standard deviations over them are rough." in ssept
    assert "In movielens-100k, 415 of 943 users have several last interactions at one time" in ssept
    assert "models learn from other users' later interactions" in ssept
    assert "ssept has rotary positions and scores that are cosines" in ssept
    assert "1 of 2 trainings of ssept used up their epochs" in ssept
    assert "Only a part of the data" not in ssept
    wikitext = threats_of(results, "wikitext")
    assert "Intervals resample 12 test documents." in wikitext
    assert "Nobody has rated" not in wikitext
    assert "was measured once, over 4 steps" in threats_of(results, "climate")
    assert "memory ladder" not in wikitext


def test_threats_that_do_not_hold_are_not_told(copy, synthetic):
    model = {"positions": "learned", "score": "dot"}
    changed = copy.root / "ssept/ssept/config.yaml"
    reconfigure(changed, dataset="movielens-20m", seeds=[1], model=model, data={"split": "global_time"})
    reconfigure(copy.root / "wikitext/tuned/config.yaml", dataset="wikitext-2-raw", base_model="llama-3.2-1b")
    again = results_of(copy.root.parents[1], synthetic)
    shutil.copytree(again.data / "prepared/movielens-100k", again.data / "prepared/movielens-20m")
    ssept, wikitext = threats_of(again, "ssept"), threats_of(again, "wikitext")
    for text in ("Other than in the original", "rotary", "cosines", "later interactions", "2 seeds"):
        assert text not in ssept, text
    assert "Models were trained with 1 seed: no spread over seeds is known." in ssept
    assert "Other than in the original" not in wikitext


def test_data_of_which_a_part_is_used_or_that_have_no_order_are_told(copy, synthetic):
    reconfigure(copy.root / "ssept/ssept/config.yaml", data={"max_users": 60, "fraction": 0.25})
    reconfigure(copy.root / "ssept/ssept/config.yaml", loss={"name": "sampled_softmax"})
    summary = copy.data / "prepared/movielens-100k/summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"ordered": False}))
    text = threats_of(results_of(copy.root.parents[1], synthetic), "ssept")
    assert "Only a part of the data is used: 60 users and 25 % of the shards." in text
    assert "movielens-100k has no order in time" in text
    assert "an approximation of the whole catalogue" in text


def test_random_weights_say_so_and_nothing_of_pretraining(results):
    text = threats_of(results, "wikitext", random_models=["smollm2-135m-instruct"])
    assert "smollm2-135m-instruct has random weights" in text
    assert "first trained on" not in text


def test_what_cannot_be_found_with_so_few_cases_is_told(results):
    row = SECTIONS["movie_preference"].build("movie_preference_tests", results).frame.query("run == 'base'")
    hard = row[row["kind"] == "hard"].iloc[0]
    half = (hard["difference_upper"] - hard["difference_lower"]) / 2
    told = f"the untuned model on hard pairs reaches {half:.3f} to either side"
    assert told in threats_of(results, "movie_preference")


def test_few_documents_raters_and_short_texts_are_told(copy, synthetic):
    import pandas as pd

    for name in ("base", "tuned"):
        path = copy.root / "climate" / name / "documents.parquet"
        pd.read_parquet(path).head(3).to_parquet(path)
    reconfigure(copy.root / "climate/tuned/config.yaml", corpus={"max_test_tokens": 512})
    ratings = copy.root / "climate/rating/ratings.json"
    ratings.write_text(json.dumps(json.loads(ratings.read_text()) | {"raters": 1}))
    text = threats_of(results_of(copy.root.parents[1], synthetic), "climate")
    assert "Intervals resample 3 test documents, and of so few they are rough." in text
    assert "only the first 512 tokens are scored" in text
    assert "One person has rated the answers" in text


def test_threats_to_the_whole_study(copy, synthetic):
    notes = ["The settings were chosen with the test figures in view."]
    text = of_the_study(copy, notes)
    assert text.startswith(notes[0])
    # The made-up results of movie_preference were made while files differed from the commit.
    assert f"When 8 of {len(copy.runs)} results were made, files differed" in text
    assert "commits" not in text
    assert "machines" not in text
    tests = [
        tables_of(copy, one)[f"{one}_tests"].frame["p_holm"].notna().sum() for one in ("movie_preference", "ssept")
    ]
    assert f"The report makes {sum(tests)} tests in 2 tables." in text
    change(copy.root / "ssept/ssept/metrics.json", "provenance", commit="f" * 40, versions={"torch": "3"}, hardware={})
    (copy.root / "ssept/retrained/metrics.json").unlink()
    text = of_the_study(results_of(copy.root.parents[1], synthetic))
    assert "The results were made by 2 commits of the code" in text
    assert "with 2 sets of package versions" in text
    assert "come from 2 machines" in text
    assert f"of {len(copy.runs)} results, 1 is missing, and no comparison includes it" in text


def test_without_settings_the_limits_are_missing(synthetic, tmp_path):
    empty = Results(tmp_path, "trial", synthetic.runs, tmp_path)
    for experiment in TITLES:
        assert "cannot be said" in threats_of(empty, experiment)


def test_threats_stand_in_every_format(written):
    for form in ("md", "html", "tex"):
        text = (written / f"report.{form}").read_text()
        assert text.index("Threats to validity") < text.index("several last interactions at one time")
