"""`make adopt`: what is compared, and what is refused before anything is trained or marked."""

import subprocess
from pathlib import Path

import pytest

import adopt_results
from frugal.config.base import plain
from frugal.config.study import dump_yaml, load_study, read_study
from frugal.errors import FrugalError
from frugal.files import write_json, write_text

CHANGED = {"training": {"learning_rate": 0.1}}
BOOKS = {"kind": "recommendation", "title": "Books", "dataset": "movielens-100k", "seeds": [3]}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A finished study of one experiment."""
    study = load_study({"study": "mine", "experiments": {"books": BOOKS}}, "mine.yaml")
    folder = tmp_path / "results/mine/books/tuned"
    write_text(folder / "config.yaml", dump_yaml(plain(study.experiments["books"].runs["tuned"])))
    write_json(folder / "metrics.json", {"provenance": {"commit": "abc"}})
    monkeypatch.chdir(tmp_path)
    return study


def test_one_short_run_of_each_kind():
    smoke = read_study("config/smoke.yaml")
    assert sorted(adopt_results.short_runs(list(smoke.experiments.values()))) == [
        "results/smoke/movie_preference/tuned/adapter",
        "results/smoke/movie_preference/tuned/predictions.parquet",
        "results/smoke/ssept/ssept/predictions.parquet",
        "results/smoke/ssept/ssept/seeds/1/model",
        "results/smoke/wikitext/tuned/adapter",
        "results/smoke/wikitext/tuned/documents.parquet",
    ]


def test_the_settings_have_to_be_those_of_the_results(study):
    adopt_results.check_settings(study)
    Path("results/mine/books/tuned/config.yaml").write_text(
        dump_yaml(plain(study.experiments["books"].shared) | CHANGED)
    )
    with pytest.raises(FrugalError, match=r"books/tuned/config.yaml: other settings than the study's now"):
        adopt_results.check_settings(study)
    Path("results/mine/books/tuned/config.yaml").unlink()
    with pytest.raises(FrugalError, match=r"books/tuned/config.yaml: not there; .* make report"):
        adopt_results.check_settings(study)


def test_a_number_of_gpus_may_have_become_auto(study):
    """The results stay those of the device that made them; `auto` is never more than one GPU."""
    experiment = study.experiments["books"]
    auto = {"study": "mine", "experiments": {"books": BOOKS | {"training": {"gpus": "auto"}}}}
    present = load_study(auto, "mine.yaml")
    path = Path("results/mine/books/tuned/config.yaml")
    for gpus in ("auto", 0, 1):
        settings = plain(experiment.shared)
        write_text(path, dump_yaml(settings | {"training": settings["training"] | {"gpus": gpus}}))
        adopt_results.check_settings(present)
    for change in ({"training": settings["training"] | {"gpus": 2}}, {"seeds": [4]}):
        write_text(path, dump_yaml(settings | change))
        with pytest.raises(FrugalError, match="other settings than the study's now"):
            adopt_results.check_settings(present)


def test_settings_beside_adopted_results_are_written_anew(study, monkeypatch):
    """The files that are there, by the rules that write them, and the report's contents: nothing else may run."""
    calls = []
    monkeypatch.setattr(adopt_results, "snakemake", lambda *arguments, options: calls.append((arguments, options)))
    write_text(Path("results/mine/books/tuned/settings/training.yaml"), "kind: recommendation\n")
    adopt_results.rewrite_settings(study, "2", Path("mine.yaml"))
    folder = "results/mine/books/tuned"
    ((_, cores, file, *targets), options) = calls[0]
    assert (cores, file, options) == ("2", Path("mine.yaml"), ["--allowed-rules", "write_run_config", "describe_study"])
    assert targets == [f"{folder}/config.yaml", f"{folder}/settings/training.yaml", "results/mine/study.yaml"]


def test_results_name_the_commit_of_their_code(study):
    assert adopt_results.former_commits(study) == {"abc"}
    for commit in ("unknown", "abc+changes"):
        write_json(Path("results/mine/books/tuned/metrics.json"), {"provenance": {"commit": commit}})
        with pytest.raises(FrugalError, match=r"made by code that was not committed"):
            adopt_results.former_commits(study)


def test_one_different_bit_is_named():
    adopt_results.check_equal({"a": b"1", "b": b"2"}, {"a": b"1", "b": b"2"}, "abc")
    for present in ({"a": b"1", "b": b"3"}, {"a": b"1"}, {"a": b"1", "b": b"2", "c": b""}):
        with pytest.raises(
            FrugalError, match=r"does not train what abc trained; not equal: [bc]\. Nothing was adopted"
        ):
            adopt_results.check_equal({"a": b"1", "b": b"2"}, present, "abc")


def test_changes_are_committed_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FrugalError, match=r"git status .*not a git repository"):
        adopt_results.git("status", "--porcelain")
    subprocess.run(["git", "init", "--quiet"], check=True)
    assert adopt_results.git("status", "--porcelain") == ""
