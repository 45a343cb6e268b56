"""One training run of a recommender: from a split to the best weights, resumable at any moment."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from frugal.config.recommenders import ModelSettings, RecommenderRun, TrainingSettings
from frugal.errors import FrugalError
from frugal.hardware import matmul_peak_flops, memory_in_use, peak_device_mb, peak_rss_mb
from frugal.heartbeat import Heartbeat
from frugal.recsys.adapters import trainable_counts, unwrap
from frugal.recsys.batches import Batches, EpochLoader
from frugal.recsys.evaluation import evaluate
from frugal.recsys.histories import Split
from frugal.recsys.modeling import MODELS, Recommender
from frugal.training import DeadlineReached, Progress, Seal, last_good_checkpoint, write_history

CRITERION = "NDCG@10"
ADVICE = "lower training.learning_rate, or set training.precision to float32"
HISTORY = ["step", "epoch", "loss", "learning_rate", "grad_norm", CRITERION, "HR@10", "target_positions", "seconds"]
HISTORY += ["rss_mb", "device_mb", "device_utilization"]


def build_model(settings: ModelSettings, item_count: int, user_count: int, seed: int) -> Recommender:
    """A model with random weights that depend on the seed."""
    torch.manual_seed(seed)
    model_class = MODELS[settings.architecture]
    known = set(model_class.config_class().to_dict())
    values = {key: value for key, value in settings.model_dump().items() if key in known}
    config = model_class.config_class(
        item_count=item_count,
        user_count=user_count,
        max_position_embeddings=settings.max_length,
        **values,
    )
    return model_class(config)


def training_arguments(
    training: TrainingSettings, seed: int, output_dir: Path | str, run_name: str, steps_per_epoch: int
) -> TrainingArguments:
    """The library's arguments for one run; keys that Frugal's settings share with them pass straight through."""
    own = {"deadline_minutes", "gpus", "nodes", "threads", "precision", "torch_compile", "warmup_ratio", "eval_epochs"}
    own |= {"early_stopping_patience", "profile_steps"}
    every = training.eval_epochs * steps_per_epoch
    return TrainingArguments(
        output_dir=str(output_dir),
        run_name=run_name,
        **training.model_dump(exclude=own),
        warmup_steps=training.warmup_ratio,  # below 1 it is a share of all steps
        bf16=training.precision == "bfloat16",
        fp16=training.precision == "float16",  # with loss scaling
        use_cpu=training.gpus == 0,
        ddp_backend="gloo" if training.gpus == 0 and int(os.environ.get("WORLD_SIZE", 1)) > 1 else None,
        seed=seed,
        data_seed=seed,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=CRITERION,
        greater_is_better=True,
        logging_strategy="steps",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=training.gpus > 0,
    )


class RecommenderTrainer(Trainer):
    """The library's trainer with our batches, our evaluation, and a check of every loss."""

    def __init__(self, *args, split: Split, batches: Batches, evaluation_batch_size: int, **kwargs):
        super().__init__(*args, train_dataset=batches, eval_dataset=batches, **kwargs)
        self.split, self.batches, self.evaluation_batch_size = split, batches, evaluation_batch_size

    def get_train_dataloader(self) -> EpochLoader:
        # Batches are cut into the processes' parts where they are made, so nothing prepares the loader again.
        return EpochLoader(self.batches, pin_memory=self.args.dataloader_pin_memory)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        samples, labelled = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.state.num_input_tokens_seen += int(labelled)  # target positions, of all processes; saved with the state
        return samples, labelled

    def log(self, logs, start_time=None):
        logs |= {"target_positions": self.state.num_input_tokens_seen, **memory_in_use()}
        super().log(logs, start_time)

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            users = ", ".join(map(str, inputs["user_ids"][:5].tolist()))
            raise FrugalError(
                f"{self.args.run_name}: the loss is {loss.item()} in step {self.state.global_step + 1}, in the batch "
                f"of users {users}, ...; {ADVICE}. The last checkpoint is kept."
            )
        return loss

    def floating_point_ops(self, inputs) -> int:
        return 0  # the library's estimate counts all weights anew at every step; `training_flops` is ours

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Validation metrics, over all users, each process scoring its share of them.

        Raises:
            FrugalError: there is no user to validate with, or scores are not numbers.
        """
        recommender = unwrap(self.model)
        recommender.eval()
        started = time.monotonic()
        users = self.split.cases("validation")
        mine = users[self.args.process_index :: self.args.world_size]
        sums = torch.zeros(3)
        if len(mine) or not len(users):  # with fewer users than processes, some have nothing to add
            result = evaluate(
                recommender.score, self.split, "validation", batch_size=self.evaluation_batch_size, users=mine
            )
            sums = torch.tensor([len(mine), *(result.per_user[name].sum() for name in (CRITERION, "HR@10"))])
        if self.args.world_size > 1:
            sums = sums.to(self.args.device)
            torch.distributed.all_reduce(sums)
        count, ndcg, hits = sums.tolist()
        metrics = {f"eval_{CRITERION}": ndcg / count, "eval_HR@10": hits / count}
        self.log({**metrics, "eval_seconds": round(time.monotonic() - started, 3)})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        recommender.train()
        return metrics


class Profile(TrainerCallback):
    """PyTorch's profiler over a few steps, after three that warm up; writes a trace and a table."""

    def __init__(self, folder: Path, steps: int):
        self.folder, self.steps = folder, steps

    def on_train_begin(self, args, state, control, **kwargs):
        self.profiler = torch.profiler.profile(
            schedule=torch.profiler.schedule(wait=2, warmup=1, active=self.steps),
            on_trace_ready=self._write,
            profile_memory=True,
        )
        self.profiler.start()

    def on_step_end(self, args, state, control, **kwargs):
        self.profiler.step()

    def on_train_end(self, args, state, control, **kwargs):
        self.profiler.stop()

    def _write(self, profiler):
        self.folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.folder / "trace.json"))
        table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=40)
        (self.folder / "operators.txt").write_text(table, encoding="utf-8")


def train_recommender(
    model: torch.nn.Module,
    split: Split,
    run: RecommenderRun,
    seed: int,
    checkpoints: Path,
    run_name: str,
    profile: Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple[RecommenderTrainer, dict[str, Any]]:
    """Train ``model`` on ``split``, from the last good checkpoint in ``checkpoints`` if there is one.

    Training stops after num_train_epochs, or when the validation NDCG@10 has not risen for
    early_stopping_patience validations; the weights of the best one are kept.

    Args:
        model: a recommender, with an adapter or without.
        checkpoints: a folder of this run's own, kept between attempts.
        profile: where profile_steps steps are profiled to.
        callbacks: more of the library's callbacks.

    Returns:
        The trainer, whose model has the best weights, and the training record.

    Raises:
        DeadlineReached: the run's time was up first; a checkpoint holds the state.
        FrugalError: there is nothing to train on or to validate with, or the loss is no longer a number.
    """
    training = run.training
    torch.set_num_threads(training.threads)
    recommender = unwrap(model)
    recommender.negatives = run.loss.negatives if run.loss.name == "sampled_softmax" else None
    recommender.loss_dtype = loss_dtype(run.loss.precision, training)
    if training.torch_compile:
        recommender.compile_blocks()
    batches = make_batches(recommender, split, run, seed)
    if len(batches) == 0:
        raise FrugalError(f"{run_name}: no user has two items to learn from; use more data")
    if len(split.cases("validation")) == 0:
        raise FrugalError(f"{run_name}: no user has a validation item; use more data, or users with longer histories")
    steps_per_epoch = -(-len(batches) // training.gradient_accumulation_steps)
    progress = Progress(run_name, training.deadline_minutes, unit="target positions", advice=ADVICE)
    callbacks = [progress, Seal(), Heartbeat(), EarlyStoppingCallback(training.early_stopping_patience), *callbacks]
    if training.profile_steps and profile is not None:
        callbacks.append(Profile(profile, training.profile_steps))
    trainer = RecommenderTrainer(
        model=model,
        args=training_arguments(training, seed, checkpoints, run_name, steps_per_epoch),
        callbacks=callbacks,
        split=split,
        batches=batches,
        evaluation_batch_size=run.evaluation.batch_size,
    )
    trainer.remove_callback(PrinterCallback)  # `Progress` prints in its place
    with trainer.args.main_process_first(local=False):  # one process sets a broken checkpoint aside
        resume = last_good_checkpoint(checkpoints, trainer.args.world_size)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if progress.stopped_by:
        trainer.accelerator.wait_for_everyone()  # torchrun kills the others, who may still save, when one leaves
        raise DeadlineReached(progress.stopped_by, trainer.state)
    return trainer, training_record(trainer, progress, seed, steps_per_epoch)


def loss_dtype(precision: str, training: TrainingSettings) -> torch.dtype:
    """The type of the loss's matrix products: as told, or 16 bits where training or the processor has them."""
    if precision == "auto":
        precision = training.precision
        if precision == "float32" and training.gpus == 0 and multiplies_in_16_bits():
            precision = "bfloat16"
    return getattr(torch, precision)


def multiplies_in_16_bits() -> bool:
    """Whether this processor's 16-bit products are faster than those in float32: by matrix units or by AVX-512."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def make_batches(model: Recommender, split: Split, run: RecommenderRun, seed: int) -> Batches:
    """The batches of one process: torchrun tells which it is, and of how many."""
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    return Batches(
        split.train,
        model.config.max_position_embeddings,
        run.training.per_device_train_batch_size * world_size,
        seed,
        causal=model.config.causal,
        mask_token_id=getattr(model.config, "mask_token_id", None),
        mask_probability=run.model.mask_probability,
        rank=int(os.environ.get("RANK", 0)),
        world_size=world_size,
    )


def training_flops(
    model: Recommender, positions: float, targets: float, mean_length: float, trainable: bool
) -> dict[str, float]:
    """Floating-point operations of training on so many positions, padding not counted: of the blocks, of the loss.

    2 for each weight of a matrix product and position forward, the same backward for the inputs' gradient,
    and once more for the weights' own where these are trained; attention has no weights, and always both.
    Attention multiplies queries with keys and probabilities with values: 4 x width for each pair of
    positions that see each other, half of all pairs in causal models.
    """
    config = model.config
    everywhere = sum(module.weight.numel() for module in model.blocks.modules() if isinstance(module, torch.nn.Linear))
    # What follows attention in the last block is computed for the target positions only.
    at_targets = config.width * (config.width + 2 * config.intermediate_size)
    weights = positions * (everywhere - at_targets) + targets * at_targets
    pairs = mean_length * (0.5 if config.causal else 1)
    attention = 4 * config.width * pairs * config.num_hidden_layers
    items = config.item_count if model.negatives is None else model.negatives + 1
    output = config.hidden_size * items + (config.width**2 if getattr(config, "output_projection", False) else 0)
    passes = 3 if trainable else 2
    return {"blocks": 2 * weights * passes + positions * attention * 3, "loss": targets * 2 * output * passes}


def matmul_share(flops: dict[str, float], seconds: float, precision: str, loss_precision: str, device: str) -> float:
    """The share of ``seconds`` that the same operations take as large matrix products in the same types."""
    # A CPU reaches its peak on matrices of this size too, and every training measures it.
    size = 1024 if device == "cpu" else 2048
    peaks = {dtype: matmul_peak_flops(dtype, device, size) for dtype in {precision, loss_precision}}
    return (flops["blocks"] / peaks[precision] + flops["loss"] / peaks[loss_precision]) / seconds


def training_record(trainer: RecommenderTrainer, progress: Progress, seed: int, steps_per_epoch: int) -> dict[str, Any]:
    """What a finished run reports about its training."""
    state, training, model = trainer.state, trainer.args, unwrap(trainer.model)
    batches, history = trainer.batches, state.log_history
    evaluating = sum(entry.get("eval_seconds", 0) for entry in history)
    seconds = progress.seconds - evaluating
    epochs = state.global_step / steps_per_epoch
    targets = state.num_input_tokens_seen
    counts = trainable_counts(trainer.model)
    device = "cpu" if training.use_cpu else "cuda"
    dtype = "bfloat16" if training.bf16 else "float16" if training.fp16 else "float32"
    whole = counts["trainable_share"] == 1
    flops = training_flops(model, epochs * batches.positions, targets, batches.mean_length, whole)
    share = matmul_share(flops, seconds, dtype, str(model.loss_dtype).removeprefix("torch."), device)
    return {
        "seed": seed,
        "steps": state.global_step,
        "epochs": round(epochs, 2),
        "best_epoch": round((state.best_global_step or state.global_step) / steps_per_epoch, 2),
        "stopped_early": state.global_step < state.max_steps,
        "seconds": round(progress.seconds, 2),
        "epoch_seconds": round(seconds / epochs, 3),
        "samples_per_second": round(epochs * batches.rows / seconds, 2),
        "target_positions": targets,
        "target_positions_per_second": round(targets / seconds, 1),
        **model.parameter_counts(),
        **counts,
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "peak_device_mb": peak_device_mb(),
        "loss_precision": str(model.loss_dtype).removeprefix("torch."),
        "matmul_peak_share": round(share / training.world_size, 4),
        "final_loss": next(entry["loss"] for entry in reversed(history) if "loss" in entry),
        f"best_validation_{CRITERION}": state.best_metric,
    }


def history_csv(trainer: RecommenderTrainer) -> str:
    """Losses and validation metrics as CSV; a row has those of its step, and the memory in use."""
    rows = ({name.removeprefix("eval_"): value for name, value in entry.items()} for entry in trainer.state.log_history)
    return write_history((row for row in rows if "loss" in row or CRITERION in row), HISTORY)
