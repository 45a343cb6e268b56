"""What is made of Snakemake's output and notes: failures by job, log and setting, and the record."""

from pathlib import Path

import pytest

from frugal.config.study import read_study
from frugal.files import write_json, write_text
from frugal.rehearsal.mapping import Change
from frugal.rehearsal.record import markdown, setting, summary
from frugal.rehearsal.run import Failure, JobTime, Outcome, failed_jobs, job_times, remove
from frugal.rehearsal.study import Rehearsal

FULL = Path("config/full.yaml")
PRINTED = """[Tue Dec  1 11:44:03 2026]
Error in rule train_language_model:
    message: None
    jobid: 31
    input: results/rehearsal-full/wikitext/dora/settings/training.yaml
    output: results/rehearsal-full/wikitext/dora/adapter, results/rehearsal-full/wikitext/dora/history.csv
    log: logs/rehearsal-full/train_wikitext/dora/training.log (check log file(s) for error details)
    shell:
        python workflow/scripts/train_wikitext.py
        (command exited with non-zero exit code)
Logfile logs/rehearsal-full/train_wikitext/dora/training.log:
error: no such layer
[Tue Dec  1 11:44:09 2026]
Error in rule fetch:
    jobid: 2
    output: data/raw/rehearsal-movielens-1m
    log: logs/fetch/rehearsal-movielens-1m.log (check log file(s) for error details)

Error in rule fetch:
    jobid: 2
    output: data/raw/rehearsal-movielens-1m
    log: logs/fetch/rehearsal-movielens-1m.log (check log file(s) for error details)
"""
DORA = Failure(
    "train_language_model",
    "results/rehearsal-full/wikitext/dora/adapter",
    "logs/rehearsal-full/train_wikitext/dora/training.log",
)
FETCH = Failure("fetch", "data/raw/rehearsal-movielens-1m", "logs/fetch/rehearsal-movielens-1m.log")
CONFIG = {
    "datasets": {"rehearsal-movielens-1m": {"sources": [{"url": "http://127.0.0.1/x", "file": "rehearsal-ml-1m.zip"}]}},
    "models": {
        "rehearsal-llama-3-8b": {"sources": [{"hub": "meta/llama", "revision": "0123456789abcdef" * 2 + "0" * 8}]}
    },
}
CHANGES = [Change("experiments.wikitext.training.gpus", 1, 0, "GPU settings to the CPU")]


def outcome(code: int = 0, failures: tuple[Failure, ...] = (), jobs: tuple[JobTime, ...] = ()) -> Outcome:
    rehearsal = Rehearsal("rehearsal-full", CONFIG, CHANGES, {"movielens-1m": "url, movielens-dat"}, ["NCCL."])
    return Outcome(rehearsal, code, list(failures), list(jobs), began=100.0, seconds=75.0, unanswered=["GET /x"])


@pytest.fixture(scope="module")
def study():
    return read_study(FULL)


def test_each_failed_job_is_found_once():
    assert list(failed_jobs(PRINTED.splitlines(keepends=True))) == [DORA, FETCH]
    assert list(failed_jobs(["Error: no rule", "1 of 2 steps (50%) done"])) == []


@pytest.mark.parametrize(
    ("output", "key"),
    [
        (DORA.output, 'experiments.wikitext.variants.dora {"lora": {"use_dora": true}}'),
        ("data/blocks/rehearsal-full/climate/tuned/train.parquet", "experiments.climate.variants.tuned {}"),
        ("results/rehearsal-full/climate/ladder/measurements.json", "experiments.climate"),
        ("results/rehearsal-full/report/report.md", None),
        (FETCH.output, "dataset: movielens-1m"),
        ("data/models/rehearsal-llama-3-8b", "base_model: llama-3-8b"),
    ],
)
def test_an_output_belongs_to_a_setting(study, output, key):
    assert setting(output, outcome(), study) == key


def test_a_failure_names_job_error_log_and_setting(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(DORA.log, "step 1\nerror: no such layer\ncontinuing\n")
    printed = summary(outcome(1, (DORA, FETCH)), study, FULL)
    assert printed.splitlines()[2] == "  - NCCL."
    assert (
        "FAILED: train_language_model\n  error: no such layer\n"
        "  log: logs/rehearsal-full/train_wikitext/dora/training.log\n"
        "  output: results/rehearsal-full/wikitext/dora/adapter\n"
        '  setting: config/full.yaml: experiments.wikitext.variants.dora {"lora": {"use_dora": true}}\n'
    ) in printed
    assert "FAILED: fetch\n  error: the job left no log\n" in printed
    assert printed.endswith("The rehearsal of 'full' failed after 1:15; the same command continues it.")
    assert "ended before a job failed (exit code 1)" in summary(outcome(1), study, FULL)
    assert summary(outcome(0), study, FULL).endswith("The rehearsal of 'full' passed: 0 jobs, 1:15.")


def test_the_record_has_settings_and_times(study):
    jobs = (JobTime("fetch", "data/raw/rehearsal-x", 99.0, 1.25), JobTime("train_wikitext", "a", 101.0, 12.0))
    text = markdown(outcome(0, jobs=jobs), study, FULL)
    assert "| experiments.wikitext.training.gpus | 1 | 0 |" in text
    assert "| train_wikitext | a | 12.0 |" in text
    assert "1 of them were finished by an earlier start of this rehearsal." in text
    assert "- NCCL." in text
    assert "## Asked of the network, and not there\n\n- GET /x\n" in text


def test_times_come_from_snakemakes_notes_on_the_outputs_of_a_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw, results = Path("data/raw/rehearsal-movielens-1m"), Path("results/rehearsal-full/wikitext/tuned")
    noted = {
        raw: ("fetch", 10.0, 12.5, "a.log"),
        results / "adapter": ("train_language_model", 20.0, 24.0, "b.log"),
        results / "history.csv": ("train_language_model", 20.5, 25.0, "b.log"),
        Path("data/raw/movielens-1m"): ("fetch", 1.0, 2.0, "c.log"),
    }
    monkeypatch.setattr("frugal.rehearsal.run.noted_outputs", lambda _: [(path, path.name) for path in noted])
    for path, (rule, start, end, log) in noted.items():
        path.mkdir(parents=True)
        notes = {"rule": rule, "starttime": start, "endtime": end, "log": [log]}
        write_json(Path(".snakemake/metadata") / path.name, notes)
    assert list(job_times(outcome().rehearsal)) == [
        JobTime("fetch", str(raw), 10.0, 2.5),
        JobTime("train_language_model", str(results / "adapter"), 20.0, 5.0),
    ]


def test_only_a_rehearsals_own_files_are_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = ["results/rehearsal-full/a", "data/raw/rehearsal-movielens-1m/a", "data/downloads/rehearsal-ml-1m.zip"]
    own += ["data/downloads/meta--llama--0123456789ab/config.json", "logs/rehearsal-full/a"]
    others = ["results/full/a", "data/raw/movielens-1m/a", "data/downloads/ml-1m.zip"]
    for file in (*own, *others):
        write_text(file, "x")
    remove(outcome().rehearsal)
    assert not any(map(Path.exists, map(Path, own)))
    assert all(map(Path.exists, map(Path, others)))
