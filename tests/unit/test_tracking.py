"""Trackers write into the working directory, hold what they should, and never a token."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

import log_runs
from frugal.errors import FrugalError
from frugal.files import write_json, write_text
from frugal.run import mlflow_store as run_log
from frugal.run import tracking

INSTALL = "install envs/trackers.txt, or run `make test-trackers`"
#: What a careless tracker could let out.
SECRETS = {"HF_TOKEN": "hf_PlantedByATest0123456789", "WANDB_API_KEY": "0123456789abcdef" * 2 + "deadbeef"}


def installed(package):
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: {INSTALL}")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty working directory; what a test or the library sets in the environment is taken back."""
    kept = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    yield tmp_path
    for name in set(os.environ) - set(kept):
        del os.environ[name]


RUN = Path("results/smoke/climate/tuned")
SEED = Path("results/smoke/ssept/retrain/seeds/1")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (RUN, "smoke/climate/tuned"),
        (SEED, "smoke/ssept/retrain/seeds/1"),
        (Path("/elsewhere") / SEED, "smoke/ssept/retrain/seeds/1"),
        (Path("mine"), "mine"),  # a script that was called by hand
        (Path(), ""),
    ],
)
def test_a_run_has_the_name_of_its_folder(folder, name):
    assert tracking.run_name(folder) == name


def test_trackers_write_here_and_nowhere_else(monkeypatch):
    tracking.prepare(["tensorboard", "wandb"], SEED, Path("checkpoints/1234"))
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "logs/tensorboard/smoke/ssept/retrain/seeds/1"
    assert os.environ["WANDB_MODE"] == "offline"
    assert (os.environ["WANDB_DIR"], os.environ["WANDB_PROJECT"]) == ("logs", "frugal-smoke")
    assert Path("logs").is_dir()
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_the_environment_has_the_last_word(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "/elsewhere")
    tracking.prepare(["tensorboard", "wandb"], RUN, Path("checkpoints/1234"))
    assert os.environ["WANDB_MODE"] == "online"
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "/elsewhere"


def test_no_tracker_leaves_nothing():
    before = dict(os.environ)
    tracking.prepare([], RUN, Path("checkpoints/1234"))
    assert dict(os.environ) == before
    assert list(Path().iterdir()) == []


# A training of the tiny model, as the scripts do it.


@pytest.fixture
def train(tiny_model_folder, make_run):
    from frugal.llm.loading import load_base_model, load_tokenizer
    from frugal.llm.training import train_adapter
    from frugal.preference.prompts import encode_example
    from frugal.run.checkpoints import DeadlineReached

    def run_training(tracker, **changes):
        settings = {"report_to": [tracker], "save_steps": 1, "max_steps": 2}
        run = make_run(training={**settings, **changes}, model={"max_length": 64})
        model, tokenizer = load_base_model(tiny_model_folder, run.model, "cpu"), load_tokenizer(tiny_model_folder)
        record = {"instruction": "Choose.", "input": "", "output": "Option A."}
        rows = [encode_example(tokenizer, record, 64) for _ in range(8)]
        tracking.prepare(run.training.report_to, RUN, Path("checkpoints/1234"))
        try:
            train_adapter(model, tokenizer, rows, run, Path("checkpoints/1234"), "climate/tuned")
        except DeadlineReached:
            return

    return run_training


def no_secret_in(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        for name, secret in SECRETS.items():
            assert secret.encode() not in content, f"{path} holds {name}"


@installed("tensorboard")
def test_tensorboard(train, workplace):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train("tensorboard")
    events = EventAccumulator(f"logs/tensorboard/{tracking.run_name(RUN)}")
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]
    no_secret_in(workplace)


@installed("wandb")
@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_offline(train, workplace):
    import wandb

    train("wandb")
    wandb.finish()
    (run,) = Path("logs/wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))
    no_secret_in(workplace)


@pytest.fixture
def store(workplace):
    """A client of the store that trainings and `log_runs.py` write to."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking.store_uri())


def runs_of(store, study="smoke"):
    experiment = store.get_experiment_by_name(study).experiment_id
    return {run.info.run_name: run for run in store.search_runs([experiment])}


@installed("mlflow")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_continues_the_run_of_an_interrupted_training(train, store, workplace):
    train("mlflow", deadline_minutes=1e-9)
    (first,) = runs_of(store).values()
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TAGS"):
        os.environ.pop(name, None)
    train("mlflow")
    (run,) = runs_of(store).values()
    assert run.info.run_id == first.info.run_id
    assert run.data.tags[tracking.RUN] == "climate/tuned"
    assert sorted({point.step for point in store.get_metric_history(run.info.run_id, "loss")}) == [1, 2]
    no_secret_in(workplace)
    write_finished_run(RUN, {"accuracy": 0.5})
    assert run_log.log_study(Path("results/smoke"), tracking.store_uri()) == {"logged": 1, "there": 0}
    (run,) = runs_of(store).values()  # it is completed
    assert run.info.run_id == first.info.run_id
    assert run.data.metrics["accuracy"] == 0.5
    assert run.data.params["lora.r"] == "2"


# Finished runs, from their files.


def write_finished_run(folder, metrics, training=None, config=True):
    if config:
        write_text(folder / "config.yaml", yaml.safe_dump({"seed": 1, "lora": {"r": 2}, "training": {"gpus": 0}}))
    if metrics is not None:
        intervals = {name: [0.0, 1.0] for name in metrics}
        write_json(folder / "metrics.json", {"metrics": metrics, "intervals": intervals, "training": training})
    if training:
        write_json(folder / "training.json", training)
        write_text(folder / "history.csv", "step,loss,eval_loss\n1,5.5,\n2,5.25,5.0\n")


@pytest.fixture
def results():
    """A study of a language model, a recommender with two seeds, and a baseline."""
    study = Path("results/smoke")
    write_finished_run(RUN, {"accuracy": 0.5}, {"steps": 2, "final_loss": 5.25, "peak_device_mb": None, "whole": True})
    (RUN / "adapter").mkdir()
    (RUN / "adapter/adapter_model.safetensors").write_bytes(b"weights")
    write_finished_run(study / "ssept/ssept", {"NDCG@10": 0.1})
    for seed in (1, 2):
        write_finished_run(study / f"ssept/ssept/seeds/{seed}", None, {"steps": 2, "final_loss": 5.0}, config=False)
    write_finished_run(study / "ssept/baseline_markov", {"NDCG@10": 0.05}, config=False)
    return study


def test_numbers_of_a_run(results):
    assert run_log.final_metrics(RUN) == {
        "accuracy": 0.5,
        "accuracy.low": 0.0,
        "accuracy.high": 1.0,
        "training.steps": 2.0,
        "training.final_loss": 5.25,
    }
    assert list(run_log.history(RUN / "history.csv")) == [("loss", 5.5, 1), ("loss", 5.25, 2), ("eval_loss", 5.0, 2)]
    assert run_log.flat({"a": {"b": {"c": 1}}, "d": [2]}) == {"a.b.c": 1, "d": [2]}
    assert set(run_log.final_metrics(results / "ssept/baseline_markov")) == {
        "NDCG_at_10",
        "NDCG_at_10.low",
        "NDCG_at_10.high",
    }


def test_every_finished_run_is_found_before_its_seeds(results):
    found = [folder.relative_to(results).as_posix() for folder in run_log.run_folders(results)]
    names = ["climate/tuned", "ssept/baseline_markov", "ssept/ssept", "ssept/ssept/seeds/1", "ssept/ssept/seeds/2"]
    assert found == names


@installed("mlflow")
@pytest.mark.filterwarnings("ignore")
def test_the_store_holds_every_run(results, store, workplace):
    uri = tracking.store_uri()
    assert run_log.log_study(results, uri) == {"logged": 5, "there": 0}
    runs = runs_of(store)
    assert set(runs) == {folder.relative_to(results).as_posix() for folder in run_log.run_folders(results)}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    tuned = runs["climate/tuned"]
    assert tuned.data.params == {"seed": "1", "lora.r": "2", "training.gpus": "0"}
    assert tuned.data.metrics["accuracy.high"] == 1.0
    losses = {point.step: point.value for point in store.get_metric_history(tuned.info.run_id, "loss")}
    assert losses == {1: 5.5, 2: 5.25}
    artifacts = {file.path for file in store.list_artifacts(tuned.info.run_id)}
    assert artifacts == {"adapter", "config.yaml", "history.csv", "metrics.json", "training.json"}
    seed = runs["ssept/ssept/seeds/2"]
    assert seed.data.params["seed"] == "2"
    assert seed.data.tags["mlflow.parentRunId"] == runs["ssept/ssept"].info.run_id
    no_secret_in(workplace)

    assert run_log.log_study(results, uri) == {"logged": 0, "there": 5}
    write_finished_run(RUN, {"accuracy": 0.75})
    assert run_log.log_study(results, uri) == {"logged": 1, "there": 4}
    assert runs_of(store)["climate/tuned"].data.metrics["accuracy"] == 0.75
    assert len(runs_of(store)) == 5


@installed("mlflow")
@pytest.mark.filterwarnings("ignore")
def test_a_large_file_stays_where_it_is(results, store, monkeypatch):
    monkeypatch.setattr(run_log, "LARGEST_ARTIFACT", 6)
    run_log.log_study(results, tracking.store_uri())
    run = runs_of(store)["climate/tuned"]
    assert "adapter/adapter_model.safetensors" in run.data.tags["frugal.left_out"]
    assert store.list_artifacts(run.info.run_id) == []


def test_a_study_without_results_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["log_runs.py", "--results", "results/none"])
    with pytest.raises(FrugalError, match=r"results/none: holds no finished run; run the study first"):
        log_runs.main()


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="mlflow is installed")
def test_without_mlflow_the_error_says_what_to_install(results, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["log_runs.py", "--results", str(results)])
    with pytest.raises(FrugalError, match=r"mlflow is not installed: pip install --no-deps -r envs/trackers\.txt"):
        log_runs.main()


MLFLOW = Path(__file__).parents[2] / ".venv-mlflow/bin/mlflow"


@pytest.mark.skipif(not MLFLOW.exists(), reason="MLflow's pages are not installed here: `make test-trackers`")
def test_the_documented_command_opens_the_store(results, monkeypatch):
    """`make mlflow`, whose commands are read from the Makefile, shows all runs."""
    repository = MLFLOW.parents[2]
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    (show,) = re.findall(r"^\t\S*/(mlflow ui .*)$", makefile, re.MULTILINE)
    subprocess.run(
        [MLFLOW.with_name("python"), repository / "workflow/scripts/log_runs.py", "--results", results], check=True
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(MLFLOW), *show.split()[1:], "--port", str(port)],
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        answer = asked(port, "experiments/search", {"max_results": 10}, process)
        ids = [experiment["experiment_id"] for experiment in answer["experiments"] if experiment["name"] == "smoke"]
        found = asked(port, "runs/search", {"experiment_ids": ids}, process)["runs"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
            assert "MLflow" in page.read().decode()
    finally:
        os.killpg(process.pid, 15)
        process.wait()
    assert len(found) == 5


def asked(port, what, question, process):
    """The server's answer, once it is up."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/{what}",
        data=json.dumps(question).encode(),
        headers={"Content-Type": "application/json"},
    )
    while True:
        try:
            with urllib.request.urlopen(request) as answer:
                return json.loads(answer.read())
        except OSError:
            assert process.poll() is None, "the server has ended"
            time.sleep(0.5)


def test_pins_do_not_contradict_the_lock():
    repository = Path(__file__).parents[2]
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)", (repository / "envs/requirements.txt").read_text(), re.MULTILINE))
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (repository / "envs/trackers.txt").read_text(), re.MULTILINE))
    pages = dict(re.findall(r"^([\w.-]+)==(\S+)$", (repository / "envs/peers/mlflow.txt").read_text(), re.MULTILINE))
    assert all(lock[name] == pins[name] for name in pins.keys() & lock.keys())
    assert pins["mlflow-skinny"] == pages["mlflow"]  # both open the same store
