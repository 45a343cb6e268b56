"""One training run of an adapter: from rows of tokens to a finished model, resumable at any moment."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from torch.utils.data import Sampler
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTConfig, SFTTrainer

from frugal.config.language_modeling import LanguageModelingRun
from frugal.config.llm import AdapterRun, LoraSettings, ModelSettings, TrainingSettings
from frugal.hardware import matmul_peak_flops, memory_in_use, peak_device_mb, peak_rss_mb
from frugal.heartbeat import Heartbeat
from frugal.llm.layers import economical_layers
from frugal.llm.loading import load_base_model, load_tokenizer
from frugal.llm.packed import collate, packed_forward
from frugal.training import DeadlineReached, Progress, Seal, last_good_checkpoint, write_history

HISTORY = ["step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "num_input_tokens_seen", "seconds"]
HISTORY += ["rss_mb", "device_mb", "device_utilization"]

Rows = Sequence[dict[str, list[int]]]


class EpochOrder(Sampler):
    """The order of the rows in each epoch, drawn from the seed and the epoch alone.

    So a run that goes on in a later epoch sees the rows that it would have seen, and so does each of its processes;
    the library's samplers start again with the first epoch's order, or with one that no other process has.

    Args:
        lengths: of each row.
        epoch: tells the current epoch, from 0.
        group: rows that are to be of like length; None: any.
    """

    def __init__(self, lengths: Sequence[int], seed: int, epoch: Callable[[], int], group: int | None):
        self.lengths, self.seed, self.epoch, self.group = lengths, seed, epoch, group

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        if self.group is None:
            return iter(torch.randperm(len(self), generator=generator).tolist())
        return iter(get_length_grouped_indices(self.lengths, self.group, generator=generator))


class PackedTrainer(SFTTrainer):
    """TRL's trainer with batches that hold no padding, and a loss that needs no logits of the whole batch."""

    def _get_train_sampler(self, train_dataset=None):
        lengths = [len(row) for row in self.train_dataset["input_ids"]]
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        group = batch if self.args.train_sampling_strategy == "group_by_length" else None
        return EpochOrder(lengths, self.args.data_seed, lambda: int(self.state.epoch or 0), group)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = model(**inputs, num_items_in_batch=num_items_in_batch).loss
        if num_items_in_batch is not None:  # tokens of all processes, whose gradients are averaged
            loss = loss * self.accelerator.num_processes
        return loss


def lora_config(settings: LoraSettings) -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", **settings.model_dump())


def sft_config(
    training: TrainingSettings,
    model: ModelSettings,
    seed: int,
    output_dir: Path | str,
    run_name: str,
    evaluate: bool = False,
    packed: bool = True,
) -> SFTConfig:
    """TRL's configuration for one run; the keys that Frugal's settings share with it pass straight through."""
    own = {"deadline_minutes", "gpus", "nodes", "keep_freed_memory", "loss_chunk_tokens", "eval_steps"}
    own.add("gradient_checkpointing")  # 'selective' is done here
    every = "no" if not evaluate else "steps" if training.eval_steps else "epoch"
    return SFTConfig(
        output_dir=str(output_dir),
        run_name=run_name,
        **training.model_dump(exclude=own),
        gradient_checkpointing=training.gradient_checkpointing is True,
        max_length=model.max_length,
        # The frozen weights are in compute_dtype; autocast lets the float32 adapter join their products.
        bf16=model.compute_dtype == "bfloat16",
        fp16=model.compute_dtype == "float16",
        use_cpu=training.gpus == 0,
        ddp_backend="gloo" if training.gpus == 0 and int(os.environ.get("WORLD_SIZE", 1)) > 1 else None,
        ddp_find_unused_parameters=False,
        seed=seed,
        data_seed=seed,
        save_strategy="steps",
        save_total_limit=2,
        logging_strategy="steps",
        eval_strategy=every,
        eval_steps=training.eval_steps,
        per_device_eval_batch_size=training.per_device_train_batch_size,
        prediction_loss_only=True,
        include_num_input_tokens_seen="all" if packed else "non_padding",
        logging_nan_inf_filter=False,  # a loss that is not a number is to be seen
        disable_tqdm=True,
        dataloader_pin_memory=training.gpus > 0,
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
    packed: bool,
) -> SFTTrainer:
    """The trainer of a run; an adapter is added to ``model`` unless ``lora`` is None."""
    trainer_class = PackedTrainer if packed else SFTTrainer
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(list(rows)),
        eval_dataset=Dataset.from_list(list(validation)) if validation else None,
        processing_class=tokenizer,
        data_collator=collate if packed else None,
        peft_config=None if lora is None else lora_config(lora),
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    for parameter in trainer.model.parameters():
        # TRL casts the adapter of a 4-bit model to bfloat16, and PEFT resumes it in float32: a run that was
        # continued would differ. In float32 both are the same, and small updates are not rounded away.
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for module in trainer.model.modules():
        # Without gradients, as in a validation, bitsandbytes would bring 4-bit weights into a layout for inference,
        # through which no gradient comes back: training would go on and learn nothing.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return trainer


@contextmanager
def ready(trainer: SFTTrainer, training: TrainingSettings, settings: ModelSettings, packed: bool) -> Iterator[None]:
    """What holds while a trainer trains: the types of products, what is recomputed, and how batches are read."""
    base = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    mixed = settings.compute_dtype != "float32"
    with (
        disable_input_dtype_casting(trainer.model, active=mixed),  # see loading.mixed_precision
        economical_layers(base, training.gradient_checkpointing) if packed else nullcontext(),
        packed_forward(base, training.loss_chunk_tokens) if packed else nullcontext(),
    ):
        yield


def train_adapter(
    model,
    tokenizer,
    rows: Rows,
    lora: LoraSettings | None,
    training: TrainingSettings,
    model_settings: ModelSettings,
    seed: int,
    checkpoints: Path,
    run_name: str,
    validation: Rows | None = None,
    packed: bool = True,
) -> tuple[SFTTrainer, dict[str, Any]]:
    """Train an adapter on ``model``, from the last good checkpoint in ``checkpoints`` if there is one.

    Args:
        model: a causal language model; an adapter is added unless ``lora`` is None (then it has one).
        rows: what `frugal.llm.packed.collate` reads.
        checkpoints: a folder of this run's own, kept between attempts.
        validation: rows whose loss is measured on the way.
        packed: batches without padding; False leaves batches and loss to TRL, for a model that unsloth patched.

    Returns:
        The trainer, and the training record: steps, seconds, speed, memory, losses.

    Raises:
        DeadlineReached: the run's time was up first; a checkpoint holds the state.
        FrugalError: the loss is no longer a number.
    """
    progress = Progress(run_name, training.deadline_minutes)
    arguments = sft_config(training, model_settings, seed, checkpoints, run_name, bool(validation), packed)
    callbacks = [progress, Seal(), Memory(), Heartbeat()]
    trainer = make_trainer(model, tokenizer, rows, validation, lora, arguments, callbacks, packed)
    with trainer.args.main_process_first(local=False):  # one process sets a broken checkpoint aside
        resume = last_good_checkpoint(checkpoints, trainer.args.world_size)
    with ready(trainer, training, model_settings, packed):
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if progress.stopped_by:
        trainer.accelerator.wait_for_everyone()  # torchrun kills the others, who may still save, when one leaves
        raise DeadlineReached(progress.stopped_by, trainer.state)
    return trainer, training_record(trainer, progress, rows, training, model_settings)


def load_for_run(folder: Path, run: AdapterRun, device: str) -> tuple[Any, Any, LoraSettings | None]:
    """A run's base model and tokenizer; with unsloth the adapter is on the model, and the third is None."""
    if run.backend == "unsloth":
        from frugal.llm.unsloth_backend import load_for_training

        checkpointing = run.training.gradient_checkpointing
        return *load_for_training(str(folder), run.model, run.lora, checkpointing, run.seed), None
    return load_base_model(folder, run.model, device), load_tokenizer(folder), run.lora


class Memory(TrainerCallback):
    """Adds the memory in use to every line of the history."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        state.log_history[-1].update(memory_in_use())


def training_flops(model, tokens: int, learnt: int, all_weights: bool = False) -> int:
    """Floating-point operations that training on ``tokens`` needs, of which the next one is learnt for ``learnt``.

    2 for each weight of the layers and token forward, 2 backward, and 2 more where the weights themselves are
    trained; the output layer's for the learnt tokens only. Attention, norms, the adapter's own and what
    gradient checkpointing does again are not counted.
    """
    output = model.get_output_embeddings().weight
    shape = model.config
    head = shape.vocab_size * shape.hidden_size
    tied = output is model.get_input_embeddings().weight
    added = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    # num_parameters counts a 4-bit weight once, where numel() would count its packed bytes.
    layers = model.num_parameters() - added - head * (1 if tied else 2)
    return (6 if all_weights else 4) * (layers * tokens + head * learnt)


def learnt_tokens(rows: Rows) -> int:
    """Tokens of the rows that are predicted: all labelled ones but the first of each segment."""
    return sum(int((collate([row])["labels"] >= 0).sum()) for row in rows)


def training_record(
    trainer: SFTTrainer,
    progress: Progress,
    rows: Rows,
    training: TrainingSettings,
    model: ModelSettings,
) -> dict[str, Any]:
    """What a finished run reports about its training."""
    history, tokens = trainer.state.log_history, trainer.state.num_input_tokens_seen
    losses = [entry["loss"] for entry in history if "loss" in entry]
    validated = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    whole = progress.seconds
    seconds = whole - sum(entry.get("eval_runtime", 0) for entry in history)
    share = learnt_tokens(rows) / sum(len(row["input_ids"]) for row in rows)
    peak = matmul_peak_flops(model.compute_dtype, "cpu" if training.gpus == 0 else "cuda")
    base = trainer.model.get_base_model()
    flops = training_flops(base, tokens, int(tokens * share)) / trainer.args.world_size
    return {
        "steps": trainer.state.global_step,
        "examples": len(rows),
        "tokens": tokens,
        "seconds": round(whole, 3),
        "tokens_per_second": round(tokens / seconds, 2),
        **parameter_counts(trainer.model),
        "adapter_mb": adapter_mb(trainer.model),
        "per_device_train_batch_size": training.per_device_train_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "effective_batch_size": trainer.args.train_batch_size
        * training.gradient_accumulation_steps
        * trainer.args.world_size,
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "peak_device_mb": peak_device_mb(),
        "matmul_peak_share": round(flops / seconds / peak, 4),
        "final_loss": losses[-1],
        "final_eval_loss": validated[-1] if validated else None,
        "best_eval_loss": min(validated, default=None),
    }


def parameter_counts(model) -> dict[str, int | float]:
    """Numbers of weights, and the share that is trained."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = model.num_parameters()
    return {"trainable_parameters": trainable, "parameters": total, "trainable_share": trainable / total}


def adapter_mb(model) -> float:
    """MB (2^20 bytes) of what a run saves: the trained weights, in the types that they have."""
    return round(sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad) / 2**20, 2)


def history_csv(trainer: SFTTrainer) -> str:
    """Losses as CSV: a row has the training loss or, where it was measured, the validation loss of its step."""
    rows = (entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry)
    return write_history(rows, HISTORY)


class StepClock(TrainerCallback):
    """When each step ended; the first entry is when training began."""

    def __init__(self):
        self.times: list[float] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.times.append(time.perf_counter())

    def on_step_end(self, args, state, control, **kwargs):
        self.times.append(time.perf_counter())


def train_for_measurement(
    model_folder: Path, blocks: Rows, run: LanguageModelingRun, method: str, steps: int
) -> dict[str, Any]:
    """Train for a few steps as `train_adapter` does, and report speed and memory; nothing is saved.

    Call it in a process of its own: peak memory is that of the whole process.

    Args:
        blocks: as many as ``steps`` batches hold.
        method: 'full' trains all weights, 'lora' an adapter.
        steps: the first one, which pays for allocation, counts for speed only where it is the only one.
    """
    device = "cuda:0" if run.training.gpus else "cpu"
    model = load_base_model(model_folder, run.model, device)
    if method == "full":
        model.requires_grad_(True)
    training = run.training.model_copy(
        update={"max_steps": steps, "warmup_steps": 0, "logging_steps": 1, "report_to": []}
    )
    clock = StepClock()
    lora = run.lora if method == "lora" else None
    # Nothing is saved, but the trainer makes its folder.
    with TemporaryDirectory() as folder:
        arguments = sft_config(training, run.model, run.seed, Path(folder), "measurement")
        arguments.save_strategy = "no"
        trainer = make_trainer(model, load_tokenizer(model_folder), blocks, None, lora, arguments, [clock], packed=True)
        with ready(trainer, training, run.model, packed=True):
            trainer.train()
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps
    first = 1 if steps > 1 else 0
    counted = blocks[first * batch : steps * batch]
    seconds = clock.times[-1] - clock.times[first]
    tokens = sum(len(block["input_ids"]) for block in counted)
    peak_rss = peak_rss_mb()  # before the peak of matrix products is measured, which takes memory too
    base = trainer.model.get_base_model() if method == "lora" else trainer.model
    flops = training_flops(base, tokens, learnt_tokens(counted), method == "full")
    peak = matmul_peak_flops(run.model.compute_dtype, device)
    return {
        "seconds": round(seconds, 3),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 2),
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        **parameter_counts(trainer.model),
        "adapter_mb": adapter_mb(trainer.model),
        "peak_rss_mb": round(peak_rss, 1),
        "peak_device_mb": peak_device_mb(),
        "matmul_peak_share": round(flops / seconds / peak, 4),
    }
