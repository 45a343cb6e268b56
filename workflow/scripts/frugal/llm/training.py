"""One training run of an adapter: from records to a finished folder, resumable at any moment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from frugal.config.llm import LoraSettings, ModelSettings, TrainingSettings
from frugal.hardware import matmul_peak_flops, peak_device_mb, peak_rss_mb
from frugal.training import DeadlineReached, Progress, last_good_checkpoint, write_history


def lora_config(settings: LoraSettings) -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", **settings.model_dump())


def sft_config(
    training: TrainingSettings, model: ModelSettings, seed: int, output_dir: Path | str, run_name: str
) -> SFTConfig:
    """TRL's configuration for one run; the keys that Frugal's settings share with it pass straight through."""
    shared = training.model_dump(exclude={"deadline_minutes", "gpus"})
    return SFTConfig(
        output_dir=str(output_dir),
        run_name=run_name,
        **shared,
        max_length=model.max_length,
        # The frozen weights are in compute_dtype; autocast lets the float32 adapter join their products.
        bf16=model.compute_dtype == "bfloat16",
        fp16=model.compute_dtype == "float16",
        use_cpu=training.gpus == 0,
        seed=seed,
        data_seed=seed,
        save_strategy="steps",
        save_total_limit=2,
        logging_strategy="steps",
        eval_strategy="no",
        include_num_input_tokens_seen="non_padding",
        logging_nan_inf_filter=False,  # a loss that is not a number is to be seen
        disable_tqdm=True,
        dataloader_pin_memory=training.gpus > 0,
    )


def train_adapter(
    model,
    tokenizer,
    examples: Sequence[dict[str, list[int]]],
    lora: LoraSettings | None,
    training: TrainingSettings,
    model_settings: ModelSettings,
    seed: int,
    checkpoints: Path,
    run_name: str,
    trainer_class: type[SFTTrainer] = SFTTrainer,
) -> tuple[SFTTrainer, dict[str, Any]]:
    """Train an adapter on ``model``, from the last good checkpoint in ``checkpoints`` if there is one.

    Args:
        model: a causal language model; an adapter is added unless ``lora`` is None (then it has one).
        examples: `input_ids` and `labels` of each example, in tokens; -100 is not scored.
        checkpoints: a folder of this run's own, kept between attempts.

    Returns:
        The trainer, and the training record: steps, seconds, speed, memory, loss history.

    Raises:
        DeadlineReached: the deadline came first; a checkpoint holds the state.
        FrugalError: the loss is no longer a number.
    """
    progress = Progress(run_name, training.deadline_minutes)
    trainer = trainer_class(
        model=model,
        args=sft_config(training, model_settings, seed, checkpoints, run_name),
        train_dataset=Dataset.from_list(list(examples)),
        processing_class=tokenizer,
        peft_config=None if lora is None else lora_config(lora),
        callbacks=[progress],
    )
    trainer.remove_callback(PrinterCallback)  # `Progress` prints in its place
    for parameter in trainer.model.parameters():
        # TRL casts the adapter of a 4-bit model to bfloat16, and PEFT resumes it in float32: a run that was
        # continued would differ. In float32 both are the same, and small updates are not rounded away.
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    resume = last_good_checkpoint(checkpoints)
    mixed = model_settings.compute_dtype != "float32"
    with disable_input_dtype_casting(trainer.model, active=mixed):  # see loading.mixed_precision
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if progress.stopped_early:
        raise DeadlineReached(f"step {trainer.state.global_step} of {trainer.state.max_steps}")
    return trainer, training_record(trainer, progress, examples, training, model_settings)


def training_record(
    trainer: SFTTrainer,
    progress: Progress,
    examples: Sequence[dict[str, list[int]]],
    training: TrainingSettings,
    model: ModelSettings,
) -> dict[str, Any]:
    """What a finished run reports about its training."""
    parameters = [p for p in trainer.model.parameters() if p.requires_grad]
    # num_parameters counts a 4-bit weight once, where numel() would count its packed bytes.
    total = trainer.model.num_parameters()
    trainable = sum(p.numel() for p in parameters)
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    tokens = trainer.state.num_input_tokens_seen
    device = "cpu" if training.gpus == 0 else "cuda"
    peak = matmul_peak_flops(model.compute_dtype, device)
    return {
        "steps": trainer.state.global_step,
        "examples": len(examples),
        "tokens": tokens,
        "seconds": round(progress.seconds, 2),
        "tokens_per_second": round(tokens / progress.seconds, 2),
        "trainable_parameters": trainable,
        "parameters": total,
        "trainable_share": trainable / total,
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "peak_device_mb": peak_device_mb(),
        # 2 operations per weight and token forward, 2 backward: frozen weights need no gradient of their own.
        "matmul_peak_share": round(4 * (total - trainable) * tokens / progress.seconds / peak, 4),
        "final_loss": history[-1]["loss"],
    }


def history_csv(trainer: SFTTrainer) -> str:
    """The loss history as CSV: step, epoch, loss, learning_rate, grad_norm, num_input_tokens_seen, seconds."""
    columns = ["step", "epoch", "loss", "learning_rate", "grad_norm", "num_input_tokens_seen", "seconds"]
    return write_history((entry for entry in trainer.state.log_history if "loss" in entry), columns)
