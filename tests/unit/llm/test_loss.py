"""The loss of a step and of a validation: a sum over loss tokens, divided by exactly their number."""

from contextlib import nullcontext

import pytest
import torch
from transformers import TrainerCallback

from frugal.errors import FrugalError
from frugal.llm.loading import load_base_model, load_tokenizer
from frugal.llm.packed import IGNORED
from frugal.llm.trainer import EpochOrder, make_trainer, sft_config, training_mode
from frugal.llm.training import train_adapter

generator = torch.Generator().manual_seed(0)
#: Four blocks of 16 tokens, of which 15 are predicted: 60 loss tokens.
EVEN = [{"input_ids": torch.randint(256, (16,), generator=generator).tolist()} for _ in range(4)]
#: 4, 15, 1 and 2 loss tokens: 22.
UNEVEN = [
    {"input_ids": EVEN[0]["input_ids"][:5], "labels": EVEN[0]["input_ids"][:5]},
    {"input_ids": EVEN[1]["input_ids"], "labels": EVEN[1]["input_ids"]},
    {"input_ids": EVEN[2]["input_ids"][:9], "labels": [IGNORED] * 8 + EVEN[2]["input_ids"][8:9]},
    {"input_ids": EVEN[3]["input_ids"][:12], "labels": [IGNORED] * 10 + EVEN[3]["input_ids"][10:12]},
]


class FirstGradients(TrainerCallback):
    """The gradients of the first step, by the names of their weights."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients = {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


@pytest.fixture
def trainer_of(tiny_model_folder, make_run, tmp_path):
    """Makes a trainer of the tiny model for one step, and the context that it trains in."""

    def make(rows, batch, accumulated, packed=True, validation=None, callbacks=()):
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated, "max_steps": 1}
        run = make_run(training={**sizes, "max_grad_norm": 1e9})
        model, tokenizer = load_base_model(tiny_model_folder, run.model, "cpu"), load_tokenizer(tiny_model_folder)
        torch.manual_seed(0)
        arguments = sft_config(run, tmp_path, "test", evaluate=validation is not None)
        if not packed:
            arguments.dataset_kwargs, arguments.remove_unused_columns = None, True
        trainer = make_trainer(model, tokenizer, rows, validation, run.lora, arguments, callbacks, packed)
        return trainer, training_mode(trainer, run) if packed else nullcontext()

    return make


def mean_loss(model, rows, count):
    """The mean over loss tokens by the library's model, one row after another without padding."""
    total = 0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row.get("labels", row["input_ids"]))[1:]
        logits = model(input_ids=ids).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / count


@pytest.mark.parametrize("packed", [True, False])
def test_a_step_is_the_same_for_every_split_into_micro_batches(trainer_of, packed):
    trainer, _ = trainer_of(UNEVEN, 4, 1)
    expected = mean_loss(trainer.model, UNEVEN, 22)
    expected.backward()
    gradients = {name: w.grad for name, w in trainer.model.named_parameters() if w.grad is not None}
    for batch, accumulated in ((4, 1), (1, 4), (3, 2)):
        first = FirstGradients()
        trainer, mode = trainer_of(UNEVEN, batch, accumulated, packed, callbacks=[first])
        with mode:
            trainer.train()
        assert trainer.state.log_history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)
        assert first.gradients.keys() == gradients.keys()
        for name, gradient in first.gradients.items():
            torch.testing.assert_close(gradient, gradients[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("batch", "batches"), [(4, 1), (2, 2), (1, 4)])
def test_sixty_tokens_are_sixty(trainer_of, batch, batches):
    trainer, _ = trainer_of(EVEN, batch, batches)
    _, count = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), batches, "cpu")
    assert count.item() == 60


@pytest.mark.parametrize("packed", [True, False])
def test_the_validation_loss_does_not_depend_on_the_batch_size(trainer_of, packed):
    trainer, _ = trainer_of(UNEVEN, 1, 1)
    with torch.no_grad():
        expected = mean_loss(trainer.model.eval(), UNEVEN, 22).item()
    for batch in (1, 3):
        trainer, mode = trainer_of(UNEVEN, batch, 1, packed, validation=UNEVEN)
        with mode:
            assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_processes_share_a_last_batch_that_is_too_small():
    # 5 rows for 2 processes that take 2 at a time: 3 places are left, for the row behind the last one.
    order = EpochOrder([9] * 5, seed=0, epoch=lambda: 0, group=None, multiple=4)
    assert len(order) == 8
    assert sorted(order) == [0, 1, 2, 3, 4, 5, 5, 5]
    assert list(order)[5:] == [5, 5, 5]
    assert len(EpochOrder([9] * 4, seed=0, epoch=lambda: 0, group=2, multiple=4)) == 4


def test_rows_without_a_loss_token_are_left_out(tiny_model_folder, make_run, tmp_path, capsys):
    run = make_run(training={"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1})
    model, tokenizer = load_base_model(tiny_model_folder, run.model, "cpu"), load_tokenizer(tiny_model_folder)
    empty = {"input_ids": [1, 2, 3], "segment_lengths": [1, 1, 1]}
    block = {"input_ids": [4, 5, 6], "segment_lengths": [3]}
    with pytest.raises(FrugalError, match="test: no training row has a loss token"):
        train_adapter(model, tokenizer, [empty], run, tmp_path, "test")
    with pytest.raises(FrugalError, match="test: no validation row has a loss token"):
        train_adapter(model, tokenizer, [block], run, tmp_path, "test", validation=[empty])
    _, record = train_adapter(model, tokenizer, [empty, block, empty, block], run, tmp_path, "test")
    assert (record["steps"], record["examples"], record["examples_without_loss"]) == (2, 2, 2)
    assert "test: 2 of 4 training rows have no loss token and are left out" in capsys.readouterr().err
