"""The trainer of a language model: TRL's SFTTrainer on batches without padding, and its configuration."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path

import torch
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import PrinterCallback, TrainerCallback
from transformers.pytorch_utils import Conv1D
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer

from frugal.config.llm import ALL_LINEAR, AdapterRun, LoraSettings
from frugal.errors import FrugalError
from frugal.llm.kernels.layers import fused_layers
from frugal.llm.loading import without_adapter
from frugal.llm.packed import IGNORED, collate, forward_arguments, packed_batches
from frugal.private.bitsandbytes import keep_layout
from frugal.private.transformers import length_grouped_indices
from frugal.run.device import LOADER_WORKERS
from frugal.run.emulation import matmuls_in_float32
from frugal.run.hardware import memory_in_use

Rows = Sequence[dict[str, list[int]]]
#: Settings of Frugal that SFTConfig does not have, or that this module sets itself.
OWN_SETTINGS = {"deadline_minutes", "gpus", "nodes", "keep_freed_memory", "loss_chunk_tokens", "eval_steps"}
OWN_SETTINGS |= {"gradient_checkpointing"}
#: A row without a loss token.
NOTHING = {"input_ids": [0], "segment_lengths": [1], "labels": [IGNORED]}


class EpochOrder(Sampler):
    """The order of the rows in each epoch, drawn from the seed and the epoch alone.

    A run that continues in a later epoch sees the same rows as an uninterrupted one, and so does each of its
    processes. The library's samplers repeat the first epoch's order, or draw a different one in each process.

    Args:
        lengths: of each row.
        epoch: returns the current epoch, from 0.
        group: the number of rows that get similar lengths; None: any order.
        multiple: the order is filled up to a multiple of this with ``len(lengths)``, the index of a further row.
    """

    def __init__(
        self, lengths: Sequence[int], seed: int, epoch: Callable[[], int], group: int | None, multiple: int = 1
    ):
        self.lengths, self.seed, self.epoch, self.group = lengths, seed, epoch, group
        self.filler = [len(lengths)] * (-len(lengths) % multiple)

    def __len__(self) -> int:
        return len(self.lengths) + len(self.filler)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        if self.group is None:
            order = torch.randperm(len(self.lengths), generator=generator).tolist()
        else:
            order = length_grouped_indices(self.lengths, self.group, generator)
        return iter([*order, *self.filler])


class PaddedTrainer(SFTTrainer):
    """TRL's trainer, whose losses are means over exactly the loss tokens, of a step and of the validation rows.

    So gradients do not depend on how a step is split into micro-batches and processes, nor does the validation loss
    on the batch size.
    """

    def count_loss_tokens(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The number of tokens in a batch that are predicted; int64, ()."""
        return (batch["labels"][:, 1:] != IGNORED).sum()  # the library shifts the labels by one

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of a step, and the number of their loss tokens, those of other processes included."""
        batches = list(islice(epoch_iterator, num_batches))
        count = torch.as_tensor(sum(self.count_loss_tokens(batch) for batch in batches), device=device)
        return batches, self.accelerator.reduce(count, "sum").clamp(min=1)  # of nothing, the loss is zero

    def evaluation_loop(self, dataloader, *args, metric_key_prefix="eval", **kwargs) -> EvalLoopOutput:
        """The mean loss of all validation tokens; the library's is the mean of the batches' means."""
        self.model.eval()
        total = torch.zeros(2, dtype=torch.float64)
        for batch in dataloader:
            count = self.count_loss_tokens(batch).item()
            loss, _, _ = self.prediction_step(self.model, batch, prediction_loss_only=True)
            total += torch.tensor([loss.item() * count, count])
            self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        loss, count = self.accelerator.reduce(total.to(self.args.device), "sum").tolist()
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": loss / count}, len(self.eval_dataset))


class PackedTrainer(PaddedTrainer):
    """The same on batches that hold no padding, with a loss that needs no logits of the whole batch."""

    loss_is_scaled_for_ga = True  # the library must not divide the loss of `compute_loss` again

    def count_loss_tokens(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (batch["labels"] != IGNORED).sum()  # `collate` has shifted them

    def get_train_dataloader(self) -> DataLoader:
        lengths = [len(row) for row in self.train_dataset["input_ids"]]
        together = self.args.train_batch_size * self.args.world_size
        group = None
        if self.args.train_sampling_strategy == "group_by_length":
            group = together * self.args.gradient_accumulation_steps
        # All processes take equally many batches. The last ones are filled up with a row without a loss token; the
        # library would train on some rows twice.
        nothing = {name: value for name, value in NOTHING.items() if name in self.train_dataset.column_names}
        filler = Dataset.from_list([nothing], features=self.train_dataset.features)
        multiple = together if self.args.world_size > 1 else 1
        loader = DataLoader(
            concatenate_datasets([self.train_dataset, filler]),
            batch_size=self.args.train_batch_size,
            sampler=EpochOrder(lengths, self.args.data_seed, lambda: int(self.state.epoch or 0), group, multiple),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
            num_workers=self.args.dataloader_num_workers,
        )
        return self.accelerator.prepare(loader)

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        # Each process measures its share. The library would repeat rows, so that all shares are equally large.
        rows = self.eval_dataset.select(range(self.args.process_index, len(self.eval_dataset), self.args.world_size))
        return DataLoader(rows, self.args.eval_batch_size, collate_fn=self.data_collator)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = model(**forward_arguments(inputs), num_items_in_batch=num_items_in_batch).loss
        if num_items_in_batch is not None:  # tokens of all processes, whose gradients are averaged
            loss = loss * self.accelerator.num_processes
        return loss


class MemoryHistory(TrainerCallback):
    """Adds the memory in use to every line of the history."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        state.log_history[-1].update(memory_in_use())


def lora_config(settings: LoraSettings, transposed: bool = False) -> LoraConfig:
    """PEFT's configuration; ``transposed``: the model's linear layers keep (inputs, outputs), as GPT-2's do."""
    return LoraConfig(task_type="CAUSAL_LM", fan_in_fan_out=transposed, **settings.model_dump())


def linear_layers(model) -> list[str]:
    """The paths of a model's linear layers but its output layer: those that can get an adapter, or have one."""
    head = model.get_output_embeddings()
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D, LoraLayer)) and module is not head
        if not any(part == "base_layer" or part.startswith("lora_") for part in path.split("."))
    ]


def check_targets(model, targets: Sequence[str]) -> None:
    """Check that a model has linear layers of every name that gets an adapter; PEFT leaves out what is not there.

    Args:
        targets: names, or ends of paths such as mlp.down_proj; [ALL_LINEAR] fits every model.

    Raises:
        FrugalError: it has none of one name; names the linear layers that it has.
    """
    if list(targets) == [ALL_LINEAR]:
        return
    paths = linear_layers(model)
    missing = [name for name in targets if not any(f".{path}".endswith(f".{name}") for path in paths)]
    if missing:
        linear = sorted({path.rpartition(".")[2] for path in paths})
        raise FrugalError(
            f"lora.target_modules: {type(model).__name__} has no {', '.join(missing)} that can get an adapter; set it "
            f"to names of its linear layers, {', '.join(linear)}, or to {ALL_LINEAR}"
        )


def sft_config(run: AdapterRun, output_dir: Path | str, run_name: str, evaluate: bool = False) -> SFTConfig:
    """TRL's configuration of a run; settings that have the same name there are passed through."""
    training, model, packed = run.training, run.model, run.backend == "transformers"
    evaluation = "no" if not evaluate else "steps" if training.eval_steps else "epoch"
    return SFTConfig(
        output_dir=str(output_dir),
        run_name=run_name,
        **training.model_dump(exclude=OWN_SETTINGS),
        gradient_checkpointing=training.gradient_checkpointing is True,  # 'selective' is done by fused_layers
        max_length=model.max_length,
        # The frozen weights are in compute_dtype; autocast casts the float32 adapter to it for each matmul.
        bf16=model.compute_dtype == "bfloat16",
        fp16=model.compute_dtype == "float16",
        use_cpu=training.gpus == 0,
        ddp_backend="gloo" if training.gpus == 0 and int(os.environ.get("WORLD_SIZE", 1)) > 1 else None,
        ddp_find_unused_parameters=False,
        seed=run.seed,
        data_seed=run.seed,
        save_strategy="steps",
        save_total_limit=2,
        logging_strategy="steps",
        eval_strategy=evaluation,
        eval_steps=training.eval_steps,
        per_device_eval_batch_size=training.per_device_train_batch_size,
        prediction_loss_only=True,
        include_num_input_tokens_seen="all" if packed else "non_padding",
        logging_nan_inf_filter=False,  # so that a loss that is not a number stops the run
        disable_tqdm=True,
        dataloader_pin_memory=training.gpus > 0,
        dataloader_num_workers=LOADER_WORKERS if training.gpus else 0,
        remove_unused_columns=not packed,
        dataset_kwargs={"skip_prepare_dataset": True} if packed else None,
    )


def make_trainer(
    model,
    tokenizer,
    rows: Rows,
    validation: Rows | None,
    lora: LoraSettings | None,
    arguments: SFTConfig,
    callbacks: Sequence[TrainerCallback],
    packed: bool = True,
) -> SFTTrainer:
    """The trainer of a run.

    Args:
        lora: the adapter to add to ``model``; None: the model has one, or all its weights are trained.
        packed: batches without padding; False leaves batches and loss to TRL, for a model that unsloth patched.

    Raises:
        FrugalError: the model has no module of a name in lora.target_modules.
    """
    if lora is not None:
        check_targets(model, lora.target_names)
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    trainer_class = PackedTrainer if packed else PaddedTrainer
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(list(rows)),
        eval_dataset=Dataset.from_list(list(validation)) if validation else None,
        processing_class=tokenizer,
        data_collator=collate if packed else None,
        peft_config=None if lora is None else lora_config(lora, transposed),
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    for parameter in trainer.model.parameters():
        # TRL casts the adapter of a 4-bit model to bfloat16, and PEFT resumes it in float32, so a continued run
        # would differ. In float32 both are the same, and small updates are not rounded away.
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    keep_layout(trainer.model)
    return trainer


@contextmanager
def training_mode(trainer: SFTTrainer, run: AdapterRun) -> Iterator[None]:
    """Within it, the trainer's model has the dtypes of its matmuls, the layers and the loss that training needs."""
    base = without_adapter(trainer.model)
    mixed, packed = run.model.compute_dtype != "float32", run.backend == "transformers"
    with (
        matmuls_in_float32(trainer.args.device.type, run.model.compute_dtype),
        disable_input_dtype_casting(trainer.model, active=mixed),  # see loading.mixed_precision
        fused_layers(base, run.training.gradient_checkpointing) if packed else nullcontext(),
        packed_batches(base, run.training.loss_chunk_tokens) if packed else nullcontext(),
    ):
        yield
