"""Training runs on a synthetic world: users walk through the items in circles, so the next item can be learnt."""

import copy
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from frugal.config.base import plain
from frugal.config.recommendation import EvaluationSettings, RecommendationRun
from frugal.config.study import dump_yaml
from frugal.errors import FrugalError
from frugal.recsys.histories import Histories, leave_one_out
from frugal.recsys.losses import SampledSoftmax
from frugal.recsys.modeling import load_recommender
from frugal.recsys.shards import write_shards
from frugal.recsys.trainer import RecommenderTrainer
from frugal.recsys.training import build_model, resolve_precision, train_recommender
from frugal.recsys.training_record import history_csv, training_flops
from frugal.run.checkpoints import DeadlineReached
from frugal.run.device import Capabilities

ITEMS = 12
SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"
#: Runs a training script in which the deadline has come on the second process's clock, and never comes on the others'.
ONE_CLOCK_IS_AHEAD = """
import os, runpy, sys
sys.argv.pop(0)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
from frugal.run.libraries import hide_unused
hide_unused("none")
from frugal.run.checkpoints import Progress
Progress.deadline = property(lambda self: 0 if os.environ["RANK"] == "1" else 1e9, lambda self, value: None)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def split():
    """24 users; user u begins at item u and goes on one by one, 8 to 11 items long."""
    histories = [[(user + step) % ITEMS for step in range(8 + user % 4)] for user in range(24)]
    users = np.repeat(np.arange(24), [len(history) for history in histories])
    return leave_one_out(Histories.from_pairs(users, np.concatenate(histories), 24), ITEMS)


def make_run(architecture="sasrec", training=None, loss=None, **sections):
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16, "max_length": 6}
    model = {"architecture": architecture, **shape, "user_embedding_size": 4, **sections.pop("model", {})}
    defaults = {"num_train_epochs": 4, "per_device_train_batch_size": 8, "learning_rate": 0.01, "logging_steps": 2}
    # The type is never left to the machine.
    training = {**defaults, "precision": "float32", **(training or {})}
    loss = {"precision": "float32", **(loss or {})}
    return RecommendationRun.model_validate(
        {"dataset": "synthetic", "seeds": [1], "model": model, "loss": loss, "training": training, **sections}
    )


def train(split, run, folder, seed=1, **options):
    model = build_model(run.model, split.item_count, split.user_count, seed)
    return train_recommender(model, split, run, seed, folder, "test", **options)


class StopAt(TrainerCallback):
    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            self.action(model)


def interrupt(_):
    raise KeyboardInterrupt


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def assert_close(first, second):
    """The same but for rounding, which Adam can make a thousand times larger where gradients are small."""
    second = second.state_dict()
    for name, weight in first.state_dict().items():
        if name.endswith("query_key_value.bias"):
            # The softmax does not change when all keys move alike: the keys' bias sees rounding only.
            (query, _, value), (query_too, _, value_too) = weight.chunk(3), second[name].chunk(3)
            weight, second[name] = torch.cat((query, value)), torch.cat((query_too, value_too))
        torch.testing.assert_close(weight, second[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("architecture", ["sasrec", "ssept", "bert4rec"])
def test_what_goes_round_in_circles_is_learnt(split, tmp_path, architecture):
    settings = {"num_train_epochs": 30, "early_stopping_patience": 30, "learning_rate": 0.02}
    run = make_run(architecture, settings, model={"positions": "rotary", "hidden_size": 16, "hidden_dropout_prob": 0})
    trainer, record = train(split, run, tmp_path)
    # Seen items are left out, so chance is 10 of what is left: the rank of the target is what tells.
    assert record["final_loss"] < 0.8 * np.log(ITEMS)
    assert record["best_validation_NDCG@10"] > 0.7
    assert record["epochs"] == 30
    assert record["trainable_share"] == 1
    assert record["target_positions"] > 30 * 24
    text = history_csv(trainer)
    assert text.splitlines()[0].startswith("step,epoch,loss,learning_rate,grad_norm,NDCG@10,HR@10,target_positions")


@pytest.mark.parametrize("architecture", ["ssept", "bert4rec"])
def test_interrupted_and_continued_equals_uninterrupted(split, tmp_path, architecture):
    """Dropout, masks, replaced ids and windows are all drawn again as they would have been."""
    run = make_run(architecture)
    whole, _ = train(split, run, tmp_path / "whole")
    steps = whole.state.max_steps // 4
    with pytest.raises(KeyboardInterrupt):
        train(split, run, tmp_path / "pieces", callbacks=[StopAt(2 * steps + 1, interrupt)])
    pieces, record = train(split, run, tmp_path / "pieces")
    assert same(whole.model, pieces.model)
    assert record["target_positions"] == whole.state.num_input_tokens_seen


@pytest.mark.parametrize("limit", ["deadline", "walltime"])
def test_stopped_in_time_after_every_step_equals_uninterrupted(split, tmp_path, monkeypatch, limit):
    run = make_run(training={"deadline_minutes": 1e-6} if limit == "deadline" else {})
    whole, _ = train(split, make_run(), tmp_path / "whole")
    if limit == "walltime":
        monkeypatch.setattr("frugal.run.checkpoints.seconds_left", lambda: 50)
    for _ in range(whole.state.max_steps):
        try:
            pieces, record = train(split, run, tmp_path / "pieces")
            break
        except DeadlineReached:
            continue
    assert same(whole.model, pieces.model)
    assert record["steps"] == whole.state.max_steps


def test_training_stops_early_and_keeps_the_best(split, tmp_path):
    # A learning rate of next to nothing: the second validation is no better than the first.
    run = make_run(training={"learning_rate": 1e-12, "num_train_epochs": 9, "early_stopping_patience": 2})
    _, record = train(split, run, tmp_path)
    assert record["epochs"] == 3
    assert record["stopped_early"]
    assert record["best_epoch"] == 1


def poison(model):
    with torch.no_grad():
        model.item_embedding.weight.fill_(float("nan"))


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(split, tmp_path):
    run = make_run()
    steps = train(split, run, tmp_path / "whole")[0].state.max_steps // 4
    with pytest.raises(FrugalError, match=rf"the loss is nan in step {steps + 3}, in the batch of users \d+, .*kept"):
        train(split, run, tmp_path / "run", callbacks=[StopAt(steps + 2, poison)])
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == [f"checkpoint-{steps}"]


def test_accumulated_batches_equal_one_large_batch(split, tmp_path):
    """All rows of an epoch are one step either way, and the loss is a mean over all their positions."""
    exact = {"model": {"hidden_dropout_prob": 0}, "loss": {"precision": "float32"}}
    whole = make_run(training={"per_device_train_batch_size": 64}, **copy.deepcopy(exact))
    half = {"per_device_train_batch_size": 20, "gradient_accumulation_steps": 3}
    parts = make_run(training=half, **exact)
    first, second = train(split, whole, tmp_path / "whole")[0], train(split, parts, tmp_path / "parts")[0]
    assert first.state.max_steps == second.state.max_steps == 4
    assert_close(first.model, second.model)


@pytest.mark.parametrize("name", ["sampled_softmax", "in_batch_softmax", "gbce"])
def test_losses_over_samples_learn_too(split, tmp_path, name):
    run = make_run(training={"num_train_epochs": 20}, loss={"name": name, "negatives": 6})
    _, record = train(split, run, tmp_path)
    assert record["best_validation_NDCG@10"] > 0.6


def timed(split):
    """``split`` with a day between two items of a user."""
    whole = split.train.followed_by(split.validation).followed_by(split.test)
    times = 86_400 * (np.arange(len(whole.items)) - np.repeat(whole.offsets[:-1], whole.lengths))
    return leave_one_out(dataclasses.replace(whole, times=times), ITEMS)


@pytest.mark.parametrize(("layers", "positions"), [("ligr", "rotary"), ("hstu", "relative"), ("hstu", "time")])
def test_other_layers_learn_too_and_continue(split, tmp_path, layers, positions):
    model = {"layers": layers, "positions": positions, "hidden_size": 16}
    options = {"training": {"num_train_epochs": 20}, "data": {"times": positions == "time"}, "model": model}
    run, split = make_run(**options), timed(split) if positions == "time" else split
    whole, record = train(split, run, tmp_path / "whole")
    assert record["best_validation_NDCG@10"] > 0.6
    steps = whole.state.max_steps // 20
    with pytest.raises(KeyboardInterrupt):
        train(split, run, tmp_path / "pieces", callbacks=[StopAt(2 * steps + 1, interrupt)])
    assert same(whole.model, train(split, run, tmp_path / "pieces")[0].model)


def test_bfloat16(split, tmp_path):
    _, record = train(split, make_run(training={"precision": "bfloat16"}), tmp_path)
    assert np.isfinite(record["final_loss"])


def test_the_profiler_leaves_a_trace(split, tmp_path):
    train(split, make_run(training={"profile_steps": 2}), tmp_path / "run", profile=tmp_path / "profile")
    assert json.loads((tmp_path / "profile/trace.json").read_text())["traceEvents"]
    assert "aten::" in (tmp_path / "profile/operators.txt").read_text()


def test_nothing_to_learn_from(tmp_path):
    alone = leave_one_out(Histories.from_pairs(np.arange(5), np.arange(5), 5), 5)
    with pytest.raises(FrugalError, match="test: no user has two items to learn from; use more data"):
        train(alone, make_run(), tmp_path)


def test_nothing_to_validate_with(tmp_path):
    pairs = leave_one_out(Histories.from_pairs(np.repeat(np.arange(5), 2), np.arange(10), 5), 10)
    with pytest.raises(FrugalError, match="test: no user has a validation item"):
        train(pairs, make_run(), tmp_path)


def test_a_catalogue_of_one_item(tmp_path):
    same_item = Histories.from_pairs(np.repeat(np.arange(4), 5), np.zeros(20, dtype=int), 4)
    _, record = train(leave_one_out(same_item, 1), make_run(), tmp_path)
    assert record["best_validation_NDCG@10"] == 1  # there is nothing else to recommend
    assert record["final_loss"] == pytest.approx(0, abs=1e-6)


def test_operations_by_hand(split):
    """One block of width 8: 3*8*8 + 8*8 + 2*8*16 = 512 weights in products; 12 items of width 8."""
    model = build_model(make_run().model, ITEMS, 24, 1)
    # 10 positions and 10 targets, 4 positions long: 10 * (2*512*3 + 3*(4*8*4/2)) + 10 * 2*8*12*3.
    assert training_flops(model, 10, 10, 4, True) == {"blocks": 10 * (3072 + 192), "loss": 5760}
    # With 4 targets, the 8*8 + 2*8*16 = 320 weights behind the last attention multiply 4 positions only.
    assert training_flops(model, 10, 4, 4, True)["blocks"] == 6 * (10 * 192 + 4 * 320) + 10 * 192
    # A frozen backbone has no gradients of its own weights.
    assert training_flops(model, 10, 10, 4, False) == {"blocks": 10 * (2048 + 192), "loss": 3840}
    model.criterion = SampledSoftmax(5)
    assert training_flops(model, 10, 10, 4, True)["loss"] == 10 * 2 * 8 * 6 * 3


@pytest.mark.parametrize(
    ("native", "width", "training", "loss", "expected"),
    [
        (False, 64, "auto", "auto", ("float32", "float32")),
        (False, 512, "auto", "auto", ("float32", "float32")),
        (True, 64, "auto", "auto", ("float32", "bfloat16")),
        (True, 512, "auto", "auto", ("bfloat16", "bfloat16")),
        (True, 64, "float32", "float32", ("float32", "float32")),
        (True, 64, "bfloat16", "auto", ("bfloat16", "bfloat16")),
    ],
)
def test_types_on_a_cpu(monkeypatch, native, width, training, loss, expected):
    cpu = Capabilities("a CPU", native_bfloat16=native, native_int8=native)
    monkeypatch.setattr("frugal.run.device.cpu_capabilities", lambda: cpu)
    monkeypatch.setattr("frugal.recsys.training.cpu_capabilities", lambda: cpu)
    run = make_run(model={"hidden_size": width}, training={"precision": training}, loss={"precision": loss})
    resolved, choice = resolve_precision(run, "cpu")
    assert (resolved.training.precision, resolved.loss.precision) == expected
    assert choice.dtype == expected[0]


def test_types_on_a_gpu_without_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    run = make_run(training={"precision": "auto"}, loss={"precision": "auto"})
    resolved, choice = resolve_precision(run, "cuda:0")
    assert (resolved.training.precision, resolved.loss.precision) == ("float16", "float16")
    assert choice.reason == "auto: Tesla T4 has no bfloat16 (compute capability 7.5)"


def validate(split, rank=0, world_size=1):
    """What one process's trainer reports of a validation, without the trainer's own setting up."""
    trainer = SimpleNamespace(
        model=build_model(make_run().model, split.item_count, split.user_count, 1),
        split=split,
        evaluation=EvaluationSettings(batch_size=8),
        args=SimpleNamespace(process_index=rank, world_size=world_size, device=torch.device("cpu")),
        callback_handler=SimpleNamespace(on_evaluate=lambda *_: None),
        state=None,
        control=None,
        log=lambda _: None,
    )
    return RecommenderTrainer.evaluate(trainer)


def with_validation_of(split, users):
    """``split`` in which only the first ``users`` are validated with."""
    return dataclasses.replace(split, validation=split.validation.select(split.validation.users < users))


def test_a_process_without_validation_users_adds_nothing(split, monkeypatch):
    few = with_validation_of(split, 2)
    alone, shares = validate(few), []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda sums: shares.append(sums.clone()))
    for rank in (0, 1):
        validate(few, rank, 3)
    # The third process has no user; the others' sums come from them.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda sums: sums.add_(sum(shares)))
    assert validate(few, 2, 3) == pytest.approx(alone)
    assert 0 < alone["eval_NDCG@10"] < 1


def test_validation_of_nobody_is_an_error_in_every_process(split, monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", None)
    for rank in (0, 1):
        with pytest.raises(FrugalError, match="no user has both a history and a validation item"):
            validate(with_validation_of(split, 0), rank, 2)


def test_two_processes_equal_one(split, tmp_path, launch):
    """torchrun with two gloo processes on the CPU: the same global batches, so the same run but for rounding.

    The two stop together after their first step, although one clock alone says so, and go on when run again.
    """
    write_shards(split, tmp_path / "shards", 2, {})
    ahead = tmp_path / "ahead.py"
    ahead.write_text(ONE_CLOCK_IS_AHEAD)
    results = {}
    for processes, batch_size in ((1, 8), (2, 4)):
        exact = {"model": {"hidden_dropout_prob": 0}, "loss": {"precision": "float32"}}
        run = make_run(training={"per_device_train_batch_size": batch_size}, **exact)
        folder = tmp_path / str(processes) / "variant"
        folder.mkdir(parents=True)
        (folder / "training.yaml").write_text(dump_yaml(plain(run)))
        options = {
            "--config": folder / "training.yaml",
            "--seed": "1",
            "--sequences": tmp_path / "shards",
            "--checkpoints": folder / "checkpoints",
            "--model": folder / "seeds/1/model",
            "--history": folder / "history.csv",
            "--training": folder / "training.json",
        }
        command = [SCRIPTS / "train_bert4rec.py", *(word for option in options.items() for word in option)]
        if processes > 1:
            result = launch([ahead, *command], processes)
            assert result.returncode != 0
            assert "stopped by another process: saved at step 1 of" in result.stderr
            (checkpoint,) = (folder / "checkpoints").glob("*/checkpoint-*")
            assert checkpoint.name == "checkpoint-1"
            assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
        result = launch(command, processes)
        assert result.returncode == 0, result.stderr
        assert ("training continues at step 1" in result.stderr) == (processes > 1)
        record = json.loads((folder / "training.json").read_text())
        results[processes] = load_recommender(folder / "seeds/1/model"), record
    (one, record), (two, record_of_two) = results[1], results[2]
    for name in ("steps", "target_positions", "best_epoch"):
        assert record[name] == record_of_two[name], name
    assert record["final_loss"] == pytest.approx(record_of_two["final_loss"], rel=1e-4)
    assert record["best_validation_NDCG@10"] == pytest.approx(record_of_two["best_validation_NDCG@10"], abs=1e-3)
    assert_close(one, two)
