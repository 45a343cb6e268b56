"""Efficiency: what a row says, and that a mode that fails is a row too."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import measure_efficiency
from frugal.config.recommendation import EfficiencySettings, RecommendationRun
from frugal.errors import FrugalError
from frugal.files import read_json
from frugal.recsys import efficiency, training_record
from frugal.recsys.efficiency import measure, synthetic_split, train_steps, zipf_items
from frugal.recsys.training import build_model, make_batches

MODEL = {"architecture": "sasrec", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16, "max_length": 6}
SETTINGS = {"item_count": 40, "batch_size": 4, "steps": 2}


def run(**model) -> RecommendationRun:
    training = {"per_device_train_batch_size": 4, "precision": "float32"}
    settings = {"dataset": "none", "model": MODEL | model, "loss": {"precision": "float32"}, "training": training}
    return RecommendationRun.model_validate(settings)


def settings(**changes) -> EfficiencySettings:
    sizes = {"small": {}, "wide": {"hidden_size": 16}}
    return EfficiencySettings.model_validate({"sizes": sizes, **SETTINGS, **changes})


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    """One thread, and a matrix-multiply peak of 10^9 operations a second."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(training_record, "native_peak_flops", lambda dtype, device: 1e9)


def test_the_first_items_are_drawn_most():
    # Of two items the second is drawn 2^-0.8 = 0.574 times as often: a share of 0.365.
    items = zipf_items(20_000, 2, np.random.default_rng(0))
    assert items.mean() == pytest.approx(0.365, abs=0.01)


@pytest.mark.parametrize("architecture", ["sasrec", "ssept", "bert4rec"])
def test_every_window_is_full(architecture):
    one = run(architecture=architecture, user_embedding_size=8)
    model = build_model(one.model, 40, 4, seed=1)
    batches = make_batches(model, synthetic_split(4, 6 + model.config.causal, 40, seed=1), one, seed=1)
    assert len(batches) == 1
    for step in range(3):
        batch = batches[step, 0]
        assert batch["input_ids"].shape == (4, 6)
        assert batch["lengths"].tolist() == [6, 6, 6, 6]


def test_a_row_holds_together(monkeypatch):
    monkeypatch.setattr(efficiency, "train_steps", lambda *_: (0.5, 24, 24, 3.0))
    row = measure(run(), settings(), "wide", "float32")
    # Batches of 4 in half a second: 8 samples a second, 12,500 s for 100,000.
    assert row["samples_per_second"] == 8
    assert row["epoch_seconds"] == 12_500
    # Weights of the linear layers: 4 x 16 x 16 for attention, 2 x 16 x 16 around it: 1,536. For 24 positions
    # 6 x 1,536 each, and 3 x 4 x 16 x (6 / 2) for attention: 235,008; for 24 targets 6 x 16 x 40: 92,160.
    assert row["matmul_peak_share"] == pytest.approx((235_008 + 92_160) / 0.5 / 1e9, abs=1e-4)
    assert row["matmul_peak_share"] == 0.0007
    # Items 40 x 16 and 40 biases, positions 6 x 16, last norm 32; of the block 2 norms 64, attention
    # 16 x 48 + 48 and 16 x 16 + 16, feed-forward 16 x 16 + 16 twice.
    assert row["parameters"] == 640 + 40 + 96 + 32 + 64 + 816 + 272 + 544
    assert (row["trainable_share"], row["sequence_length"], row["batch_size"]) == (1, 6, 4)
    assert row["error"] is None
    assert row["peak_device_mb"] is None


@pytest.mark.parametrize("mode", ["bfloat16", "bfloat16+lora", "bfloat16+ilora"])
def test_modes_train_what_they_say(mode):
    row = measure(run(), settings(), "small", mode)
    whole = measure(run(), settings(), "small", "float32")
    assert row["loss"] == pytest.approx(whole["loss"], rel=0.05)
    assert (row["trainable_share"] == 1) == (mode == "bfloat16")
    assert row["parameters"] - whole["parameters"] == (0 if mode == "bfloat16" else row["trainable_parameters"])


def test_training_learns():
    one = run(hidden_dropout_prob=0.0)
    model = build_model(one.model, 40, 4, seed=1)
    batches = make_batches(model, synthetic_split(4, 7, 40, seed=1), one, seed=1)
    losses = [train_steps(model, batches, one.training, 1, 10, "float32", "cpu")[3] for _ in range(2)]
    assert losses[1] < losses[0] < np.log(40) + 0.1


def test_a_row_of_the_median_step(monkeypatch):
    # Five steps: the first does not count, the median of 1, 9, 2 and 3 seconds is 2.5.
    clock = iter(np.cumsum([0, 100, 0, 1, 0, 9, 0, 2, 0, 3]).tolist())
    monkeypatch.setattr(efficiency, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    one = run()
    model = build_model(one.model, 40, 4, seed=1)
    batches = make_batches(model, synthetic_split(4, 7, 40, seed=1), one, seed=1)
    seconds, positions, targets, _ = train_steps(model, batches, one.training, 1, 4, "float32", "cpu")
    assert (seconds, positions, targets) == (2.5, 24, 24)


def test_an_emulated_mode_is_measured_over_one_step(monkeypatch):
    asked = []
    monkeypatch.setattr(efficiency, "is_emulated", lambda dtype, device: dtype == "bfloat16")
    monkeypatch.setattr(efficiency, "train_steps", lambda *given: asked.append(given[3:5]) or (0.5, 24, 24, 3.0))
    rows = [measure(run(), settings(), "small", mode) for mode in ("float32", "bfloat16")]
    assert asked == [(1, 2), (0, 1)]
    assert [row["emulated"] for row in rows] == [False, True]


def test_float16_needs_a_gpu():
    with pytest.raises(FrugalError, match="GPU"):
        measure(run(), settings(), "small", "float16")


def test_a_loss_that_is_no_number_is_an_error(monkeypatch):
    monkeypatch.setattr(efficiency, "train_steps", lambda *_: (0.5, 24, 24, float("nan")))
    with pytest.raises(FrugalError, match="the loss is nan"):
        measure(run(), settings(), "small", "float32")


def as_json(**changes) -> dict:
    return {"run": run().model_dump(), "efficiency": settings(**changes).model_dump()}


def test_what_fails_in_the_process_becomes_a_row(monkeypatch):
    monkeypatch.setattr(measure_efficiency, "keep_freed_memory", lambda: None)

    def out_of_memory(*_):
        raise torch.OutOfMemoryError("no memory left\nand a second line")

    monkeypatch.setattr(efficiency, "train_steps", out_of_memory)
    row = measure_efficiency.measure_here(as_json(), "small", "bfloat16")
    assert row["error"] == "OutOfMemoryError: no memory left"
    assert row["loss"] is row["parameters"] is None


def test_a_failed_row_has_the_columns_of_a_good_one(monkeypatch):
    good = measure(run(), settings(), "small", "float32")
    assert set(measure_efficiency.failed("small", "float32", "x")) == set(good)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "not finished after 0.005 minutes"),
    ],
)
def test_a_process_that_dies_becomes_a_row(monkeypatch, tmp_path, code, error):
    script = tmp_path / "child.py"
    script.write_text(code)
    monkeypatch.setattr(measure_efficiency, "__file__", str(script))
    row = measure_efficiency.measure_apart("{}", "small", "float32", timeout_minutes=0.005 if "sleep" in code else 20)
    assert error in row["error"]


def test_the_script_writes_every_size_and_mode(tmp_path):
    output = tmp_path / "measurements.json"
    script = Path(measure_efficiency.__file__)
    command = [sys.executable, str(script), "--settings", json.dumps(as_json(sizes={"a": {}}, modes=["float32"]))]
    subprocess.run([*command, "--output", str(output)], check=True, stderr=subprocess.PIPE)
    written = read_json(output)
    (row,) = written["rows"]
    assert (row["size"], row["mode"], row["error"]) == ("a", "float32", None)
    assert row["peak_rss_mb"] > 50
    assert written["epoch_samples"] == 100_000
    assert {"hardware", "versions"} <= set(written)


def test_settings_that_are_wrong_are_named(tmp_path):
    wrong = as_json()
    wrong["efficiency"]["stepz"] = 3
    script = Path(measure_efficiency.__file__)
    command = [sys.executable, str(script), "--settings", json.dumps(wrong), "--output", str(tmp_path / "m.json")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "stepz" in result.stderr
    assert "Traceback" not in result.stderr
