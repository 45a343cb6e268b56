"""What DVC versions beside the results: the record of their jobs, the files that a stage needs, what DVC shows."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from snakemake.persistence import MetadataRecord
from snakemake.persistence.file import FilePersistence

import run_stage
from frugal.config.study import load_study, read_study
from frugal.errors import FrugalError
from frugal.files import read_json, write_json
from frugal.report.contents import describe, result_files
from frugal.versioning.code import _without_comments, stage_code
from frugal.versioning.jobs import record_jobs, restore_jobs
from frugal.versioning.overview import write_overview
from frugal.versioning.stages import RULES, VersionedStudy

SMOKE = Path(__file__).parents[2] / "config/smoke.yaml"
REPORT_SCRIPTS = ("make_tables", "plot_figures", "write_report", "write_study", "compile_report")
MODEL = "results/smoke/ssept/ssept/seeds/1/model"
METRICS = "results/smoke/ssept/ssept/metrics.json"
LONG = f"results/smoke/{'long_' * 40}/metrics.json"


class Workspace:
    """A folder in which Snakemake has made files."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / ".snakemake").mkdir(parents=True)
        self.notes = FilePersistence(path=folder / ".snakemake")

    def write(self, path: str, content: str) -> Path:
        """Write an output; one without a suffix is a folder, with the file that Snakemake puts into it."""
        file = self.folder / path
        if file.suffix:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            return file
        file.mkdir(parents=True, exist_ok=True)
        (file / "model.safetensors").write_text(content)
        (file / ".snakemake_timestamp").touch()
        return file / ".snakemake_timestamp"

    def make(self, path: str, content: str, params: str, ended: float = 1.7e9) -> None:
        """Write an output as a job of Snakemake does."""
        os.utime(self.write(path, content), (ended, ended))
        self.notes._write_record(path, MetadataRecord(rule="train", params=[params], endtime=ended))

    def params(self, path: str) -> list[str] | None:
        self.notes._clear_cache()
        record = self.notes._read_record(path)
        return record and record.params


@pytest.fixture
def recorded(tmp_path, monkeypatch) -> Path:
    """The record of three jobs."""
    workspace = Workspace(tmp_path / "here")
    for number, path in enumerate((MODEL, METRICS, LONG)):
        workspace.make(path, f"content {number}", f"settings {number}", 1.7e9 + number)
    workspace.make("results/full/ssept/metrics.json", "", "another study")
    monkeypatch.chdir(workspace.folder)
    record_jobs(Path("jobs.json"), [Path("results/smoke")])
    return workspace.folder / "jobs.json"


@pytest.fixture
def elsewhere(tmp_path, recorded, monkeypatch) -> Workspace:
    """A clone, into which the files have come with new times and without notes."""
    workspace = Workspace(tmp_path / "elsewhere")
    for number, path in enumerate((MODEL, METRICS, LONG)):
        workspace.write(path, f"content {number}")
    monkeypatch.chdir(workspace.folder)
    return workspace


def test_a_record_holds_the_jobs_of_its_folders(recorded):
    jobs = read_json(recorded)
    assert set(jobs) == {MODEL, METRICS, LONG}
    assert jobs[METRICS]["notes"]["params"] == ["settings 1"]


def test_files_from_elsewhere_get_their_notes_and_times_back(recorded, elsewhere):
    assert set(restore_jobs(recorded)) == {MODEL, METRICS, LONG}
    assert [elsewhere.params(path) for path in (MODEL, METRICS, LONG)] == [
        ["settings 0"],
        ["settings 1"],
        ["settings 2"],
    ]
    times = [(elsewhere.folder / path).stat().st_mtime for path in (f"{MODEL}/.snakemake_timestamp", METRICS, LONG)]
    assert times == [1.7e9, 1.7e9 + 1, 1.7e9 + 2]
    assert restore_jobs(recorded) == []


def test_other_content_is_no_business_of_the_record(recorded, elsewhere):
    (elsewhere.folder / MODEL / "model.safetensors").write_text("other weights")
    (elsewhere.folder / METRICS).unlink()
    assert restore_jobs(recorded) == [LONG]
    assert elsewhere.params(MODEL) is None


def test_what_was_made_here_keeps_its_notes_until_something_replaces_it(recorded, elsewhere):
    elsewhere.make(METRICS, "content 1", "newer settings", 1.75e9)
    assert METRICS not in restore_jobs(recorded)
    assert elsewhere.params(METRICS) == ["newer settings"]
    os.utime(elsewhere.folder / METRICS)
    assert restore_jobs(recorded) == [METRICS]
    assert elsewhere.params(METRICS) == ["settings 1"]


def test_no_file_gets_a_time_to_come(recorded, elsewhere):
    jobs = read_json(recorded)
    jobs[METRICS]["notes"]["endtime"] = time.time() + 3600
    write_json(recorded, jobs)
    restore_jobs(recorded)
    assert (elsewhere.folder / METRICS).stat().st_mtime <= time.time()


def test_a_record_that_is_none(tmp_path):
    assert restore_jobs(tmp_path / "absent.json") == []
    for text in ("[", "[]", '{"a": {}}', '{"a": 1}'):
        (tmp_path / "jobs.json").write_text(text)
        with pytest.raises(FrugalError, match=r"jobs\.json: not a record of jobs"):
            restore_jobs(tmp_path / "jobs.json")


def test_what_a_study_trains():
    study = VersionedStudy(read_study(SMOKE))
    models = set(map(str, study.trained_models()))
    assert "results/smoke/movie_preference/always_a/adapter" in models
    assert {"results/smoke/bert4rec/bert4rec/seeds/1/model", "results/smoke/bert4rec/bert4rec/seeds/2/model"} <= models
    assert not [path for path in models if "base" in path]
    assert len(models) == 3 + 2 + 5 + 2 + 1


def test_random_models_are_not_fetched():
    study = VersionedStudy(read_study(SMOKE))
    assert study.targets("data") == [
        "data",
        "models",
        "data/raw/climate-chapters",
        "data/raw/movielens-100k",
    ]
    laptop = VersionedStudy(read_study(SMOKE.with_name("config.yaml")))
    assert "data/raw/smollm2-135m-instruct" in laptop.targets("data")


def test_a_study_without_some_kinds():
    books = {"kind": "recommendation", "title": "Books", "dataset": "movielens-100k", "seeds": [3]}
    study = VersionedStudy(load_study({"study": "mine", "experiments": {"books": books}}, "mine.yaml"))
    assert list(map(str, study.outputs("train"))) == ["data/sequences", "results/mine/books"]
    assert list(map(str, study.trained_models())) == ["results/mine/books/tuned/seeds/3/model"]
    assert study.targets("data") == ["data", "models", "data/raw/movielens-100k"]
    assert {"books", "train_recommender"} <= set(study.rules("train"))
    assert "books" not in study.rules("report")


def test_every_missing_model_and_card_is_named(tmp_path, monkeypatch):
    study = VersionedStudy(read_study(SMOKE))
    monkeypatch.chdir(tmp_path)
    for folder in study.trained_models():
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
        (folder.parent / "README.md").touch()
    study.check_models()
    Path("results/smoke/climate/tuned/README.md").unlink()
    Path("results/smoke/bert4rec/ilora/seeds/1/model/model.safetensors").unlink()
    with pytest.raises(FrugalError) as error:
        study.check_models()
    assert [line.strip() for line in str(error.value).splitlines()[1:3]] == [
        "results/smoke/bert4rec/ilora/seeds/1/model",
        "results/smoke/climate/tuned/README.md",
    ]


def test_results_of_earlier_code_lack_files(tmp_path, monkeypatch):
    study = VersionedStudy(read_study(SMOKE))
    described = describe(study.study)
    monkeypatch.chdir(tmp_path)
    for name in described["experiments"]:
        for file in result_files(described, name):
            path = Path("results/smoke") / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    study.check_results()
    for file in ("beyond.json", "groups.parquet"):
        (Path("results/smoke/ssept/ssept") / file).unlink()
    with pytest.raises(FrugalError, match=r"^results/smoke/ssept/ssept/beyond\.json: missing \(and 1 more\), and a"):
        study.check_results()


def test_overview(tmp_path):
    for path, history in (
        ("ssept/ssept/seeds/2/history.csv", "step,epoch,loss,NDCG@10\n1,0.5,4.0,\n2,1.0,,0.1\n"),
        ("climate/tuned/history.csv", "step,epoch,loss,eval_loss\n1,0.5,3.0,\n2,1.0,2.0,2.5\n"),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(history)
    record = {"metrics": {"perplexity": 30.5}, "intervals": {"perplexity": [30, 31]}, "provenance": {"seed": 1}}
    write_json(tmp_path / "climate/tuned/metrics.json", record)
    write_json(tmp_path / "dvc/metrics/climate/of_a_variant_that_is_gone.json", {})

    write_overview(tmp_path, ["ssept", "climate"])
    metrics = {str(path.relative_to(tmp_path)): json.loads(path.read_text()) for path in tmp_path.glob("dvc/**/*.json")}
    assert metrics == {"dvc/metrics/climate/tuned.json": {"perplexity": 30.5}}
    loss = pd.read_csv(tmp_path / "dvc/plots/loss.csv")
    assert loss["run"].tolist() == ["ssept, seed 2", "tuned", "tuned"]
    assert loss["loss"].tolist() == [4.0, 3.0, 2.0]
    ndcg = pd.read_csv(tmp_path / "dvc/plots/validation_ndcg.csv")
    assert ndcg.values.tolist() == [["ssept", "ssept, seed 2", 2, 1.0, 0.1]]
    assert len(pd.read_csv(tmp_path / "dvc/plots/validation_loss.csv")) == 1


def test_without_a_clone_the_message_has_the_command(monkeypatch):
    def dvc(*arguments, **_):
        assert arguments[0] in ("pull", "data")
        return SimpleNamespace(returncode=255, stderr="ERROR: /x is not a git repository\n")

    monkeypatch.setattr(run_stage, "dvc", dvc)
    with pytest.raises(FrugalError, match=r"`\.venv/bin/dvc config --local core\.no_scm true` lets DVC do without git"):
        run_stage.pull(VersionedStudy(read_study(SMOKE)))


def test_the_code_of_a_stage():
    code = {stage: stage_code(VersionedStudy(read_study(SMOKE)), stage) for stage in RULES}
    scripts = {stage: {Path(name).name for name in hashes if name.endswith(".py")} for stage, hashes in code.items()}
    assert scripts["data"] == {"prepare_interactions.py", "prepare_documents.py", "prepare_model.py"}
    assert {"train_ssept.py", "train_climate.py", "measure_memory.py", "evaluate_preference.py"} <= scripts["train"]
    assert scripts["report"] == {f"{name}.py" for name in REPORT_SCRIPTS}
    assert code["report"].keys() - code["train"].keys() >= {"sections", "templates"}


def test_comments_of_rules_are_not_their_code():
    text = 'rule a:\n    # Why.\n    input:\n        "b#c",\n\n# The next\n'
    assert _without_comments(text) == ["rule a:", "    input:", '        "b#c",']
