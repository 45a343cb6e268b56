"""Searches in process, on users who walk through the items in circles: trials, interruptions, test data."""

import csv
import json
import math
import re
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml
from transformers import TrainerCallback, TrainerControl, TrainerState

import leave_out_test
import search_settings
from frugal.config.base import plain
from frugal.config.recommendation import RecommendationRun
from frugal.config.search import Domain, SearchSettings
from frugal.config.study import load_study
from frugal.errors import FrugalError
from frugal.files import files_below
from frugal.kinds import RECOMMENDATION
from frugal.recsys import search
from frugal.recsys.histories import Histories, leave_one_out
from frugal.recsys.shards import read_split, write_shards
from frugal.recsys.training import build_model, train_recommender

ITEMS = 12
RATE, SIZE = "training.learning_rate", "model.hidden_size"
RUN = {
    "dataset": "circles",
    "model": {"num_hidden_layers": 1, "intermediate_size": 16, "max_length": 6, "hidden_dropout_prob": 0.1},
    "loss": {"precision": "float32"},
    "training": {"num_train_epochs": 2, "per_device_train_batch_size": 8, "logging_steps": 2, "precision": "float32"},
}
SEARCH = {"trials": 3, "seed": 4, "space": {RATE: {"low": 0.001, "high": 0.1, "log": True}, SIZE: [4, 8]}}


def split(users=24, seed=None):
    """User u begins at item u and goes on one by one, 8 to 11 items long; with a seed, test targets are any items."""
    histories = [[(user + step) % ITEMS for step in range(8 + user % 4)] for user in range(users)]
    if seed is not None:
        rng = np.random.default_rng(seed)
        histories = [[*history[:-1], int(rng.integers(ITEMS))] for history in histories]
    numbers = np.repeat(np.arange(users), [len(history) for history in histories])
    return leave_one_out(Histories.from_pairs(numbers, np.concatenate(histories), users), ITEMS)


@pytest.fixture
def shards(tmp_path):
    write_shards(split(), tmp_path / "shards", 2, {"split": {}})
    leave_out_test.leave_out_test(tmp_path / "shards", tmp_path / "view")
    return tmp_path / "view"


@pytest.fixture
def searching(tmp_path, monkeypatch):
    """Runs the script in this process; returns the rows of trials.csv, without their seconds."""
    monkeypatch.setattr(search_settings, "choose_device", lambda gpus: "cpu")
    monkeypatch.setattr(search_settings, "hide_unused", lambda adapter: None)
    monkeypatch.setattr(search_settings, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(search_settings, "imports", nullcontext)

    def run(shards, name="one", **changes):
        folder = tmp_path / name / "shop" / "books" / "sasrec" / "search"
        settings = plain(RecommendationRun.model_validate(RUN), RECOMMENDATION.stages["training"])
        given = json.dumps({"run": settings, "search": SEARCH | changes})
        options = {"settings": given, "sequences": shards, "checkpoints": tmp_path / name / "kept", "output": folder}
        arguments = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        monkeypatch.setattr(sys, "argv", ["search_settings.py", *arguments])
        assert search_settings.main() is None
        with open(folder / "trials.csv", encoding="utf-8") as stream:
            return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]

    run.folder = lambda name: tmp_path / name / "shop" / "books" / "sasrec" / "search"
    return run


class Steps(TrainerCallback):
    """Records the steps of a training, and interrupts it after one of them."""

    def __init__(self, last=None):
        self.last, self.seen = last, []

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(state.global_step)
        if state.global_step == self.last:
            raise KeyboardInterrupt


def test_trials_are_recorded_and_the_best_is_a_recipe(shards, searching, monkeypatch):
    rows = searching(shards)
    assert [(row["trial"], row["state"], row["seed"], row["error"]) for row in rows] == [
        (str(number), "complete", "4", "") for number in (1, 2, 3)
    ]
    assert len({row[RATE] for row in rows}) == 3
    assert {row[SIZE] for row in rows} <= {"4", "8"}
    best = max(rows, key=lambda row: float(row["NDCG@10"]))
    folder = searching.folder("one")
    found = yaml.safe_load((folder / "best.yaml").read_text())
    assert found["found"]["run"] == "shop/books/sasrec"
    assert found["found"]["trial"] == int(best["trial"])
    assert found["found"]["validation"]["NDCG@10"] == round(float(best["NDCG@10"]), 6)
    assert found["found"]["trials"] == {"complete": 3, "pruned": 0, "failed": 0}
    assert found["found"]["search"]["space"][RATE] == {"low": 0.001, "high": 0.1, "log": True}
    assert found["settings"]["training"]["learning_rate"] == float(best[RATE])
    assert found["settings"]["model"]["layers"] == "transformer"  # defaults too
    assert {"gpus", "threads", "precision"}.isdisjoint(found["settings"]["training"])
    with open(folder / "validations.csv", encoding="utf-8") as stream:
        validations = list(csv.DictReader(stream))
    assert [(row["trial"], float(row["epoch"])) for row in validations] == [
        (str(trial), epoch) for trial in (1, 2, 3) for epoch in (1, 2)
    ]
    of_best = [row for row in validations if row["trial"] == best["trial"]]
    assert max(float(row["NDCG@10"]) for row in of_best) == float(best["NDCG@10"])

    # The best trial is the training of a run with its recipe, and reaches the same figure there.
    variants = {"sasrec": {"recipe": str(folder / "best.yaml")}}
    machine = {"loss": RUN["loss"], "training": {"precision": "float32"}}
    books = {"kind": "recommendation", "title": "Books", "dataset": "movielens-100k", "variants": variants, **machine}
    run = load_study({"study": "s", "experiments": {"books": books}}, "f.yaml").experiments["books"].runs["sasrec"]
    whole = split()
    model = build_model(run.model, whole.item_count, whole.user_count, 4)
    _, record = train_recommender(model, whole, run, 4, folder.parent / "again", "again")
    assert record["best_validation_NDCG@10"] == float(best["NDCG@10"])

    # A larger budget continues; nothing is trained anew.
    trained = []
    monkeypatch.setattr(search, "train_recommender", lambda *args, **kwargs: trained.append(args) or 1 / 0)
    assert searching(shards) == rows
    assert trained == []
    with pytest.raises(ZeroDivisionError):
        searching(shards, trials=4)
    assert len(trained) == 1


def test_an_interrupted_search_has_the_trials_of_one_that_was_not(shards, searching, monkeypatch):
    # Past the ten random trials of TPE, so that those before decide what comes next; only some are trained.
    monkeypatch.setattr(search, "train_recommender", quickly)
    whole = searching(shards, "whole", trials=14)
    calls = []

    def stopped(model, split, run, seed, checkpoints, name, **options):
        calls.append(name)
        if len(calls) in (2, 12):
            raise KeyboardInterrupt
        return quickly(model, split, run, seed, checkpoints, name, **options)

    monkeypatch.setattr(search, "train_recommender", stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            searching(shards, "pieces", trials=14)
    assert searching(shards, "pieces", trials=14) == whole
    assert len(calls) == 16
    assert len({row[RATE] for row in whole}) == 14
    # Another seed has others.
    monkeypatch.setattr(search, "train_recommender", quickly)
    assert searching(shards, "other", trials=2, seed=5) != whole[:2]


def test_a_journal_that_was_cut_goes_on_and_a_damaged_one_is_named(shards, searching, monkeypatch):
    monkeypatch.setattr(search, "train_recommender", quickly)
    rows = searching(shards)
    (journal,) = searching.folder("one").parents[3].glob("kept/*/journal.log")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-5])  # the end of the third trial
    assert searching(shards) == rows
    assert len(searching(shards, trials=4)) == 4
    journal.write_bytes(b"{\n" + whole)
    with pytest.raises(FrugalError, match=r"journal\.log: damaged: .*; delete it, and the search begins anew"):
        searching(shards)


def quickly(model, split, run, seed, checkpoints, name, callbacks=()):
    """In place of a training: a validation that is best at a learning rate of .01."""
    value = 1 / (1 + abs(math.log10(run.training.learning_rate) + 2)) + model.config.hidden_size / 100
    state = SimpleNamespace(log_history=[{"eval_NDCG@10": value, "eval_HR@10": value, "epoch": 1.0, "step": 1}])
    return SimpleNamespace(state=state), {"epochs": 1.0, "seconds": 1.0}


def test_the_trial_under_way_goes_on_from_its_checkpoint(shards, searching, monkeypatch):
    whole = searching(shards, "whole", trials=1)
    train = search.train_recommender
    # Two epochs of six steps, with a checkpoint after each.
    for steps, seen in ((Steps(last=8), [1, 2, 3, 4, 5, 6, 7, 8]), (Steps(), [7, 8, 9, 10, 11, 12])):

        def watched(*args, callbacks, steps=steps):
            return train(*args, callbacks=[*callbacks, steps])

        monkeypatch.setattr(search, "train_recommender", watched)
        with pytest.raises(KeyboardInterrupt) if steps.last else nullcontext():
            assert searching(shards, "pieces", trials=1) == whole
        assert steps.seen == seen
    assert not list(searching.folder("pieces").parents[3].glob("kept/*/trial-*"))


def test_test_targets_do_not_matter(shards, searching, tmp_path, monkeypatch):
    """The shards of a search are the same bytes whatever the test targets are, and where there are none at all."""
    write_shards(split(seed=1), tmp_path / "other", 2, {"split": {}})
    assert read_split(tmp_path / "other").test.items.tolist() != split().test.items.tolist()
    for name, source in (("garbage", "other"), ("removed", "shards")):
        if name == "removed":
            shutil.rmtree(tmp_path / "shards" / "evaluation")
        arguments = ["--sequences", str(tmp_path / source), "--output", str(tmp_path / f"view-{name}")]
        monkeypatch.setattr(sys, "argv", ["leave_out_test.py", *arguments])
        leave_out_test.main()
        assert contents(tmp_path / f"view-{name}") == contents(shards)
    rows = searching(shards, trials=2)
    assert searching(tmp_path / "view-garbage", "garbage", trials=2) == rows
    whole, view = split(), read_split(shards)
    assert view.train.items.tolist() == whole.train.items.tolist()
    assert view.validation.items.tolist() == whole.validation.items.tolist()
    assert len(view.test.items) == 0


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in files_below(folder)}


def test_shards_with_test_targets_are_refused(shards, searching, tmp_path):
    write_shards(split(), tmp_path / "other", 2, {"split": {}})
    with pytest.raises(FrugalError, match=r"other: holds test targets, which a search must not read"):
        searching(tmp_path / "other")
    assert not searching.folder("one").exists()


def test_the_rule_of_a_search_is_given_no_other_data():
    text = Path("rules/search.smk").read_text()
    (inputs,) = re.findall(r"rule search_settings:.*?    input:\n(.*?)    output:", text, re.DOTALL)
    assert inputs.split() == ["sequences=without_test,", "machine=ancient(machine),"]
    assert re.findall(r"data/sequences[^\"]*", text) == ["data/sequences/{name}/{key}"]  # of what leaves out the test
    (given,) = re.findall(r"def without_test.*?\n    return (.*?)\n", Path("rules/inputs.smk").read_text(), re.DOTALL)
    assert given == 'sequences(wildcards).replace("data/sequences/", "data/search/", 1)'


def test_repeats_are_counted_without_the_test(tmp_path):
    # Of user 0 the validation item repeats, of user 1 the test item.
    histories = Histories.from_pairs(np.repeat([0, 1], 4), np.array([0, 1, 0, 2, 3, 4, 5, 3]), 2)
    write_shards(leave_one_out(histories, 6), tmp_path / "shards", 1, {"split": {}})
    leave_out_test.leave_out_test(tmp_path / "shards", tmp_path / "view")
    assert (read_split(tmp_path / "shards").repeats, read_split(tmp_path / "view").repeats) == (2, 1)
    assert (tmp_path / "view" / "catalogue.json").is_file()
    assert "evaluation" not in json.loads((tmp_path / "view" / "summary.json").read_text())["rows"]


def test_missing_shards_are_named(tmp_path):
    with pytest.raises(FrugalError, match=r"shards/summary\.json: cannot be read.*partition_interactions again"):
        leave_out_test.leave_out_test(tmp_path / "shards", tmp_path / "view")
    write_shards(split(), tmp_path / "shards", 2, {"split": {}})
    (tmp_path / "shards" / "validation" / "part_001.npz").unlink()
    with pytest.raises(FrugalError, match=r"validation/part_001\.npz: the shard is missing"):
        leave_out_test.leave_out_test(tmp_path / "shards", tmp_path / "view")
    assert not (tmp_path / "view").exists()


def test_a_failed_trial_is_recorded_and_the_search_goes_on(shards, searching, monkeypatch):
    numbers = iter(range(1, 100))

    def failing(*args, **options):
        match next(numbers):
            case 1:
                raise FrugalError("the loss is nan in step 3\nmore")
            case 2:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB")
            case _:
                return quickly(*args, **options)

    monkeypatch.setattr(search, "train_recommender", failing)
    rows = searching(shards)
    assert [(row["state"], row["error"]) for row in rows] == [
        ("failed", "the loss is nan in step 3"),
        ("failed", "CUDA out of memory. Tried to allocate 20 MiB"),
        ("complete", ""),
    ]
    assert rows[0]["NDCG@10"] == ""
    numbers = iter([1] * 100)
    with pytest.raises(FrugalError, match=r"none of the 20 trials could be trained to its end; the first: the loss is"):
        searching(shards, "failed", trials=50)
    assert not searching.folder("failed").exists()

    def broken(*args, **options):
        raise RuntimeError("a fault of the code")

    monkeypatch.setattr(search, "train_recommender", broken)
    with pytest.raises(RuntimeError, match="a fault of the code"):
        searching(shards, "broken")


def test_values_that_do_not_fit_each_other_fail_without_training(shards, searching, monkeypatch):
    monkeypatch.setattr(search, "train_recommender", quickly)
    space = {"model.hidden_size": [8, 9], "model.num_attention_heads": [2, 3]}
    rows = searching(shards, space=space, trials=12)
    refused = [row for row in rows if row["state"] == "failed"]
    assert 0 < len(refused) < 12
    for row in rows:
        assert (int(row["model.hidden_size"]) % int(row["model.num_attention_heads"]) != 0) == (
            row["state"] == "failed"
        )
    assert refused[0]["error"].startswith("num_attention_heads")


def test_a_trial_below_the_median_is_pruned(tmp_path):
    settings = SearchSettings.model_validate(SEARCH | {"pruning": "median"})
    study = search.open_study(tmp_path, settings)
    space = search.distributions(settings.space)
    for value in (0.2, 0.3, 0.4, 0.5, 0.6):  # the median is .4
        params = {RATE: 0.01, SIZE: 4}
        study.add_trial(
            optuna.trial.create_trial(
                value=value, params=params, distributions=space, intermediate_values={1: value, 2: value}
            )
        )

    def ends(value, epoch, step, history=()):
        reporter = search.Reporter(study.ask(space), prunes=True)
        state = TrainerState(global_step=step, max_steps=8, epoch=epoch, log_history=list(history))
        reporter.on_train_begin(None, state, TrainerControl())
        control = reporter.on_evaluate(None, state, TrainerControl(), metrics={"eval_NDCG@10": value, "eval_HR@10": 1})
        assert control.should_training_stop == reporter.pruned
        return reporter.pruned

    assert ends(0.39, 1.0, 4)
    assert not ends(0.41, 1.0, 4)
    assert not ends(0.39, 2.0, 8)  # there is nothing left to save
    # A training that continues knows what it had reached before.
    before = [{"eval_NDCG@10": 0.45, "eval_HR@10": 1, "epoch": 1.0, "step": 4}, {"loss": 1.0, "epoch": 1.0, "step": 4}]
    assert not ends(0.1, 2.0, 6, before)
    assert ends(0.1, 2.0, 6)


def test_a_pruned_trial_is_never_the_best():
    records = [
        {"trial": 1, "state": "complete", "NDCG@10": 0.1},
        {"trial": 2, "state": "pruned", "NDCG@10": 0.9},
        {"trial": 3, "state": "complete", "NDCG@10": 0.2},
        {"trial": 4, "state": "complete", "NDCG@10": 0.2},
        {"trial": 5, "state": "failed"},
    ]
    assert search.best_of(records)["trial"] == 3


@pytest.mark.parametrize(
    ("budget", "seconds", "over"),
    [
        ({"trials": 2}, [10.0], False),
        ({"trials": 2}, [10.0, 10.0], True),
        ({"hours": 0.01}, [35.9], False),
        ({"hours": 0.01}, [30.0, 6.0], True),
        ({"hours": 1, "trials": 2}, [30.0, 6.0], True),
    ],
)
def test_budgets(budget, seconds, over):
    settings = SearchSettings.model_validate({"space": SEARCH["space"], **budget})
    assert search.spent(settings, [{"seconds": one, "state": "complete"} for one in seconds]) == over


def test_spaces_in_optuna_s_terms():
    space = {
        "a": Domain(choices=["x", None, True]),
        "b": Domain(low=1, high=9, step=2),
        "c": Domain(low=1, high=9, log=True),
        "d": Domain(low=0.1, high=1),
    }
    assert search.distributions(space) == {
        "a": optuna.distributions.CategoricalDistribution(["x", None, True]),
        "b": optuna.distributions.IntDistribution(1, 9, step=2),
        "c": optuna.distributions.IntDistribution(1, 9, log=True),
        "d": optuna.distributions.FloatDistribution(0.1, 1.0),
    }
