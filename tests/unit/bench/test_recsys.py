"""The benchmark against RecTools: its data, its order of runs, its arithmetic, and our side of it."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import recsys
from bench.recsys import plan, shop_lengths, summarise, summarise_run, synthetic_histories
from frugal.config.recommendation import EfficiencySettings, RecommendationRun
from frugal.config.study import dump_yaml
from frugal.errors import FrugalError
from frugal.files import read_json, write_text


@given(st.lists(st.integers(1, 9), min_size=3, max_size=20), st.integers(0, 9))
def test_synthetic_histories_have_their_lengths_and_every_item(lengths, seed):
    item_count = sum(lengths) // 2
    histories = synthetic_histories(np.array(lengths), item_count, np.random.default_rng(seed))
    assert histories.lengths.tolist() == lengths
    assert set(histories.items) == set(range(item_count))


def test_lengths_are_those_of_a_shop():
    lengths = shop_lengths(20_000, np.random.default_rng(0))
    assert lengths.min() == 5
    assert lengths.max() <= 51
    # 4 + geometric with mean 5; one of 30,000 is cut.
    assert lengths.mean() == pytest.approx(9, abs=0.15)


@pytest.fixture
def interactions(tmp_path):
    """Two users in the wrong order of time: user 0 had 3, 1, 2, and user 1 had 0, 4."""
    frame = pd.DataFrame({"user": [0, 1, 0, 1, 0], "item": [1, 4, 2, 0, 3], "timestamp": [20, 9, 30, 5, 10]})
    frame.to_parquet(tmp_path / "interactions.parquet")
    return tmp_path / "interactions.parquet"


def test_each_last_item_is_the_target(interactions, tmp_path, monkeypatch):
    monkeypatch.setattr(recsys, "ITEMS", 1000)
    recsys.write_data(tmp_path, interactions)
    data = np.load(tmp_path / "100k.npz", allow_pickle=False)
    assert data["users"].tolist() == [0, 0, 1]
    assert data["items"].tolist() == [3, 1, 0]
    assert dict(zip(data["test_users"].tolist(), data["test_items"].tolist(), strict=True)) == {0: 2, 1: 4}
    assert data["item_count"] == 5
    full = np.load(tmp_path / "60k_full_length.npz", allow_pickle=False)
    assert set(np.bincount(full["users"])) == {51}


RESULT = {
    "steps": [[10, 100], [20, 300], [30, 500], [40, 900]],
    "epochs": [[20, 0.05, 0.1], [40, 0.08, 0.2]],
    "peak_rss_mb": 512.04,
}


def test_the_first_steps_warm_up():
    # After half of the steps, which end at 20 s and 300 positions: 600 positions in 20 s.
    assert summarise_run(RESULT, 0.5, None) == {"positions_per_second": 30, "peak_rss_mb": 512.0}


def test_time_to_quality_ends_at_the_first_epoch_that_is_good_enough():
    reached = summarise_run(RESULT, 0.25, 0.05)
    assert (reached["reached"], reached["seconds"], reached["epochs"], reached["HR@10"]) == (True, 20, 1, 0.1)
    never = summarise_run(RESULT, 0.25, 0.09)
    assert (never["reached"], never["seconds"], never["epochs"], never["NDCG@10"]) == (False, 40, 2, 0.08)


def row(task, number, system, **figures):
    return {"task": task, "round": number, "system": system, **figures}


def test_ratios_are_medians_over_rounds():
    runs = []
    # Throughputs 2, 5 and 3 times as high: the median is 3; the ratio of medians would be 20 / 10 = 2.
    for number, (ours, theirs) in enumerate([(20, 10), (15, 3), (90, 30)]):
        runs.append(row("60k", number, "frugal", positions_per_second=ours, peak_rss_mb=10))
        runs.append(row("60k", number, "rectools", positions_per_second=theirs, peak_rss_mb=40))
    runs.append(row("time_to_quality", 0, "frugal", seconds=10, reached=True))
    runs.append(row("time_to_quality", 0, "rectools", seconds=40, reached=False))
    medians = summarise(runs)
    assert medians["throughput_ratio_60k"] == 3
    assert medians["peak_memory_ratio"] == 0.25
    assert medians["time_to_quality_ratio"] == 0.25
    assert medians["rectools_reached_quality"] == [False]
    assert medians["throughput_ratio_100k"] is None
    assert medians["throughput_ratio_60k_sampled"] is None


def test_quality_that_is_not_reached_gives_no_ratio():
    runs = [
        row("time_to_quality", 0, "frugal", seconds=10, reached=False),
        row("time_to_quality", 0, "rectools", seconds=40, reached=True),
    ]
    assert summarise(runs)["time_to_quality_ratio"] is None


def test_the_two_take_turns_and_train_alike():
    runs = plan({"recipe": True}, 2, ["time_to_quality", "60k"])
    assert [(run["round"], run["system"]) for run in runs] == [
        *[(0, "frugal"), (0, "rectools"), (1, "rectools"), (1, "frugal")],
        *[(0, "frugal"), (0, "rectools"), (0, "frugal_sampled")],
        *[(1, "frugal_sampled"), (1, "rectools"), (1, "frugal")],
    ]
    assert all(run["settings"]["threads"] == 2 for run in runs)
    quality, speed = runs[0]["settings"], runs[4]["settings"]
    assert quality["run"] == {"recipe": True}
    assert quality["data"] == "100k"
    # Our batches differ in length, so 48 of them are averaged; RecTools' 12 are all alike.
    assert speed["run"]["training"]["max_steps"] == 48
    assert runs[5]["system"] == "rectools"
    assert runs[5]["settings"]["max_steps"] == 12
    assert "loss" not in speed["run"]


def test_our_side_reports_steps_and_epochs(tmp_path):
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(12), 5)
    data = {"users": users, "items": rng.integers(0, 9, 60), "item_count": 9}
    np.savez(tmp_path / "data.npz", **data, test_users=np.arange(12), test_items=rng.integers(0, 9, 12))
    model = {**recsys.SAME_MODEL["model"], "hidden_size": 8, "max_length": 8}
    training = {"per_device_train_batch_size": 6, "num_train_epochs": 3, "logging_steps": 1, "precision": "float32"}
    settings = {"data": str(tmp_path / "data.npz"), "output": str(tmp_path / "out.json"), "seed": 1, "target": None}
    settings["run"] = {"dataset": "bench", "model": model, "loss": {"precision": "float32"}, "training": training}
    (tmp_path / "settings.json").write_text(pd.Series(settings).to_json())
    command = [sys.executable, "-m", "bench.recsys", "--train", str(tmp_path / "settings.json")]
    subprocess.run(command, check=True, capture_output=True)
    result = read_json(tmp_path / "out.json")
    # 12 users of 5 items have 4 targets each: 48 an epoch, in two batches of six.
    assert [positions for _, positions in result["steps"]] == [24, 48, 72, 96, 120, 144]
    seconds = [second for second, *_ in result["steps"]]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert len(result["epochs"]) == 3
    assert all(0 <= ndcg <= hits <= 1 for _, ndcg, hits in result["epochs"])


def test_a_study_without_the_recipe_is_named(tmp_path):
    study = {"kind": "recommendation", "title": "B", "dataset": "movielens-100k", "variants": {"small": {}}}
    for name in ("bert4rec", "books"):
        write_text(tmp_path / "study.yaml", dump_yaml({"study": "mine", "experiments": {name: study}}))
        with pytest.raises(FrugalError, match=r"study\.yaml: experiments\.bert4rec\.variants has no 'sasrec'"):
            recsys.read_recipe(str(tmp_path / "study.yaml"))


def test_every_run_of_ours_has_settings_that_are_valid():
    fixed = [run["settings"]["run"] for run in plan({}, 1, list(recsys.SPEED)) if run["system"] != "rectools"]
    assert len(fixed) == 5
    for settings in (*fixed, recsys.LARGE["run"]):
        assert RecommendationRun.model_validate(settings).training.gpus == 0


def test_the_large_model_has_85_million_weights():
    efficiency = EfficiencySettings.model_validate(recsys.LARGE["efficiency"])
    model = RecommendationRun.model_validate(recsys.LARGE["run"]).model
    # Items 63,002 x 768; 5 blocks of 4 x 768^2 + 2 x 768 x 3072 weights: 48.4 + 35.4 million, and a little more.
    weights = (efficiency.item_count + 1) * model.hidden_size
    weights += model.num_hidden_layers * (4 * model.hidden_size**2 + 2 * model.hidden_size * model.intermediate_size)
    assert weights == pytest.approx(84e6, rel=0.01)
