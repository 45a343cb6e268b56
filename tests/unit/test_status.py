"""What files say of a run's state, and what a training writes for it."""

import json
import os
import platform
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

import show_status
from frugal.config.study import read_study
from frugal.files import read_json, write_json, write_text
from frugal.run import heartbeat
from frugal.run.heartbeat import Heartbeat
from frugal.run.status import Status, baselines_done, newest_progress, paths_of, status_of

STUDY = read_study("config/smoke.yaml")
NOW = 1_800_000_000.0
RECORD = {"steps": 8, "final_loss": 5.25, "seconds": 75.0, "peak_rss_mb": 2048.0, "peak_device_mb": None}


@pytest.fixture
def paths(tmp_path):
    """The files of one training."""
    return {paths.name: paths for paths in paths_of(STUDY, tmp_path)}["climate/tuned"]


@pytest.fixture
def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def news(paths, key="1234", **changes):
    """What a training says of itself."""
    said = {"host": platform.node(), "pid": os.getpid(), "job": None, "at": NOW - 5, "step": 3, "steps": 8}
    said |= {"loss": 5.5, "seconds_left": 62.0, "rss_mb": 1536.0, **changes}
    write_json(paths.checkpoints / key / "progress.json", said)
    os.utime(paths.checkpoints / key / "progress.json", (said["at"], said["at"]))


def log(paths, text, age=5.0):
    write_text(paths.log, text)
    os.utime(paths.log, (NOW - age, NOW - age))


def test_the_files_of_all_kinds_of_runs(tmp_path):
    named = {paths.name: paths for paths in paths_of(STUDY, tmp_path)}
    assert [*named][:4] == [f"movie_preference/{name}" for name in ("base", "tuned", "always_a", "next_film")]
    assert named["movie_preference/base"].log is None
    logs = {name: paths.log.relative_to(tmp_path).as_posix() for name, paths in named.items() if paths.log}
    assert logs["movie_preference/tuned"] == "logs/smoke/train_movie_preference/tuned/training.log"
    assert logs["wikitext/tuned"] == "logs/smoke/train_wikitext/tuned/training.log"
    assert logs["bert4rec/bert4rec seed 2"] == "logs/smoke/train_bert4rec/bert4rec/2.log"
    assert named["bert4rec/bert4rec seed 2"].checkpoints == tmp_path / "checkpoints/smoke/bert4rec/bert4rec-2"
    assert named["bert4rec/bert4rec seed 2"].metrics == tmp_path / "results/smoke/bert4rec/bert4rec/metrics.json"


def test_waiting_and_starting(paths):
    assert status_of(paths, NOW) == Status("climate/tuned", "waiting")
    log(paths, "loading\n")
    assert status_of(paths, NOW) == Status("climate/tuned", "starting", str(paths.log))


def test_running(paths):
    log(paths, "climate/tuned: step 3/8\n")
    news(paths)
    assert status_of(paths, NOW) == Status(
        "climate/tuned", "running", str(paths.log), 3, 8, 5.5, seconds=62.0, memory_mb=1536.0
    )
    news(paths, at=NOW - 7200)  # this machine knows that the process lives, however long a step takes
    assert status_of(paths, NOW).state == "running"


def test_memory_and_use_of_a_gpu(paths):
    news(paths, device_mb=20480.0, device_utilization=97)
    status = status_of(paths, NOW)
    assert (status.device_mb, status.device_utilization) == (20480.0, 97)
    assert show_status.cells(status)[2:7] == ["3/8", "5.5000", "1:02 left", "1.5 GB", "20.0 GB 97 %"]


def test_of_another_machine_there_is_only_when_it_wrote(paths, gone):
    news(paths, host="node17", pid=gone)
    assert status_of(paths, NOW).state == "running"
    news(paths, host="node17", pid=gone, at=NOW - 1200)
    status = status_of(paths, NOW)
    assert (status.state, status.remark) == ("silent", "node17 has written nothing for 20 minutes")
    assert status.seconds is None


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("", "interrupted"),
        ("stopped by training.deadline_minutes: saved at step 3 of 8; run again to continue", "interrupted"),
        ("error: Snakemake was killed, and this job ends with it", "interrupted"),
        ("error: interrupted; run the same command again to continue", "interrupted"),
        ("error: climate/tuned: the loss is nan at step 3; lower training.learning_rate", "failed"),
        ("torch.OutOfMemoryError: CUDA out of memory.", "failed"),
    ],
)
def test_a_training_that_ended_before_its_end(paths, gone, words, state):
    news(paths, pid=gone)
    log(paths, f"climate/tuned: step 3/8  loss 5.5\n{words}\n", age=4)
    status = status_of(paths, NOW)
    assert (status.state, status.remark, status.step) == (state, words, 3)


def test_the_next_attempt_begins(paths, gone):
    news(paths, pid=gone, at=NOW - 3600)
    log(paths, "", age=20)
    assert status_of(paths, NOW).state == "starting"
    log(paths, "", age=3600)
    assert status_of(paths, NOW).state == "interrupted"


def test_an_error_before_the_first_step(paths):
    log(paths, "error: data/blocks/train.parquet: cannot be read\n")
    status = status_of(paths, NOW)
    assert (status.state, status.remark) == ("failed", "error: data/blocks/train.parquet: cannot be read")
    log(paths, "loading\n", age=3600)
    assert status_of(paths, NOW).state == "interrupted"


def test_trained_and_finished(paths):
    news(paths)  # left behind
    log(paths, "done\n")
    write_json(paths.results / "training.json", RECORD)
    done = Status("climate/tuned", "trained", str(paths.log), 8, 8, 5.25, seconds=75.0, memory_mb=2048.0)
    assert status_of(paths, NOW) == done
    write_json(paths.metrics, {})
    assert status_of(paths, NOW).state == "finished"
    assert show_status.cells(done)[2:5] == ["8/8", "5.2500", "1:15"]


def test_the_newest_news_count(paths):
    news(paths, key="old", at=NOW - 500, step=7)
    news(paths, key="new", at=NOW - 5, step=1)
    assert newest_progress(paths.checkpoints)["step"] == 1


def test_baselines(tmp_path):
    write_json(tmp_path / "results/smoke/ssept/baseline_markov/metrics.json", {})
    assert baselines_done(STUDY, tmp_path) == (1, 14)


def test_the_script(tmp_path, monkeypatch, capsys):
    shutil.copytree("config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    paths = {paths.name: paths for paths in paths_of(STUDY)}["climate/tuned"]
    log(paths, "error: no\n")
    monkeypatch.setattr(sys, "argv", ["show_status.py", "--configfile", "config/smoke.yaml"])
    show_status.main()
    text = capsys.readouterr().out
    assert "climate/tuned               failed" in text
    assert f"{paths.log}\n    error: no\n" in text
    last = text.splitlines()[-1]
    assert last.startswith("16 runs: 1 failed, 15 waiting; 0 of 14 baselines scored; report: not written yet")
    monkeypatch.setattr(sys, "argv", ["show_status.py", "--configfile", "config/smoke.yaml", "--json"])
    show_status.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["state"] for line in lines} == {"failed", "waiting"}


class Clock:
    """Time that passes when a test says so."""

    seconds = 0.0

    def monotonic(self):
        return self.seconds

    def time(self):
        return NOW + self.seconds


@pytest.fixture
def beating(tmp_path, monkeypatch):
    """A heartbeat, a function that tells it of an event, its clock and its file."""
    clock, beat = Clock(), Heartbeat()
    monkeypatch.setattr(heartbeat, "time", clock)
    arguments = SimpleNamespace(output_dir=str(tmp_path))

    def tell(event, step, first=True, **more):
        state = SimpleNamespace(global_step=step, max_steps=8, is_world_process_zero=first)
        getattr(beat, f"on_{event}")(arguments, state, None, **more)

    return tell, clock, tmp_path / "progress.json"


def test_a_training_says_where_it_is(beating, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    tell, clock, file = beating
    tell("train_begin", 2)
    said = read_json(file)
    assert (said["pid"], said["host"], said["job"]) == (os.getpid(), platform.node(), "17")
    assert (said["step"], said["steps"], said["loss"], said["seconds_left"]) == (2, 8, None, None)
    clock.seconds = 4
    tell("step_end", 3)
    assert read_json(file)["step"] == 2  # not at every step
    tell("log", 4, logs={"loss": 5.5})
    said = read_json(file)
    assert (said["step"], said["loss"], said["at"]) == (4, 5.5, NOW + 4)
    assert said["seconds_left"] == 4 / 2 * 4
    assert said["rss_mb"] > 0
    clock.seconds = 10
    tell("step_end", 5)
    assert (read_json(file)["step"], read_json(file)["loss"]) == (5, 5.5)
    clock.seconds = 20
    tell("prediction_step", 5)
    assert read_json(file)["at"] == NOW + 20
    tell("log", 6, logs={"eval_loss": 1.0})
    assert read_json(file)["step"] == 5


def test_the_first_process_speaks_for_all(beating):
    tell, _, file = beating
    tell("train_begin", 0, first=False)
    assert not file.exists()


def test_what_cannot_be_said_ends_no_training(beating, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    tell, _, file = beating
    tell("train_begin", 0)
    tell("log", 1, logs={"loss": float("nan")})
    assert read_json(file)["step"] == 0
    monkeypatch.setattr(heartbeat, "write_json", full)
    tell("train_begin", 2)
    assert read_json(file)["step"] == 0
