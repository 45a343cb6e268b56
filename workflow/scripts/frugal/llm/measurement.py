"""Figures of a language model's training: sizes, FLOPs, and the speed and memory of a few steps."""

import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peft.tuners.lora import LoraLayer
from transformers import TrainerCallback

from frugal.config.language_modeling import LanguageModelingRun
from frugal.llm.loading import load_base_model, load_tokenizer
from frugal.llm.packed import IGNORED, collate
from frugal.llm.trainer import Rows, linear_layers, make_trainer, sft_config, training_mode
from frugal.run.hardware import peak_device_mb, peak_rss_mb, synchronize
from frugal.run.matmul_peak import native_peak_flops


def training_flops(model, tokens: int, loss_tokens: int, all_weights: bool = False) -> int:
    """FLOPs to train on ``tokens`` tokens, ``loss_tokens`` of which contribute to the loss.

    For each token and each weight of the decoder layers: 2 forward, 2 backward, and 2 more if the weights themselves
    are trained. The output layer counts for loss tokens only. Attention, norms, the adapter's own matmuls and
    recomputation by gradient checkpointing are not counted.
    """
    output = model.get_output_embeddings().weight
    shape = model.config
    head = shape.vocab_size * shape.hidden_size
    tied = output is model.get_input_embeddings().weight
    adapter = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    # num_parameters counts a 4-bit weight once, where numel() would count its packed bytes.
    layers = model.num_parameters() - adapter - head * (1 if tied else 2)
    return (6 if all_weights else 4) * (layers * tokens + head * loss_tokens)


def count_loss_tokens(rows: Rows) -> int:
    """The number of tokens in the rows that are predicted: all labelled ones but the first of each segment."""
    return sum(int((collate([row])["labels"] != IGNORED).sum()) for row in rows)


def parameter_counts(model) -> dict[str, int | float]:
    """Numbers of weights, and the share of them that is trained."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = model.num_parameters()
    return {"trainable_parameters": trainable, "parameters": total, "trainable_share": trainable / total}


def adapted_modules(model) -> dict[str, int]:
    """The number of modules with an adapter, by their name: {"q_proj": 16, ...}."""
    names = (name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, LoraLayer))
    return dict(sorted(Counter(names).items()))


def linear_modules(model) -> dict[str, int]:
    """The number of linear layers but the output layer, with an adapter or not, by their name."""
    return dict(sorted(Counter(path.rpartition(".")[2] for path in linear_layers(model)).items()))


def adapter_mb(model) -> float:
    """MB (2^20 bytes) that a run saves: the trained weights, in their dtypes."""
    return round(sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad) / 2**20, 2)


class StepClock(TrainerCallback):
    """The time at which training began and at which each step ended on its device, in seconds."""

    def __init__(self):
        self.times: list[float] = []

    def on_train_begin(self, args, state, control, **kwargs):
        synchronize()
        self.times.append(time.perf_counter())

    on_step_end = on_train_begin


def train_for_measurement(
    model_folder: Path, blocks: Rows, run: LanguageModelingRun, method: str, steps: int
) -> dict[str, Any]:
    """Train for a few steps as `frugal.llm.training` does, and report speed and memory; nothing is saved.

    Call it in a separate process: peak memory is that of the whole process.

    Args:
        blocks: the rows of ``steps`` batches.
        method: 'full' trains all weights, 'lora' an adapter.
        steps: the first one pays for allocation and is not timed, unless it is the only one.
    """
    device = "cuda:0" if run.training.gpus else "cpu"
    model = load_base_model(model_folder, run.model, device)
    if method == "full":
        model.requires_grad_(True)
    changes = {"max_steps": steps, "warmup_steps": 0, "logging_steps": 1, "report_to": []}
    run = run.model_copy(update={"training": run.training.model_copy(update=changes)})
    clock = StepClock()
    lora = run.lora if method == "lora" else None
    with TemporaryDirectory() as folder:  # the trainer creates its folder, though nothing is saved
        arguments = sft_config(run, Path(folder), "measurement")
        arguments.save_strategy = "no"
        trainer = make_trainer(model, load_tokenizer(model_folder), blocks, None, lora, arguments, [clock])
        with training_mode(trainer, run):
            trainer.train()
    batch = run.training.per_device_train_batch_size * run.training.gradient_accumulation_steps
    first = 1 if steps > 1 else 0
    timed = blocks[first * batch : steps * batch]
    seconds = clock.times[-1] - clock.times[first]
    tokens = sum(len(block["input_ids"]) for block in timed)
    # Before the matmul peak is measured, which takes memory too.
    peak_rss, peak_device = peak_rss_mb(), peak_device_mb()
    base = trainer.model.get_base_model() if method == "lora" else trainer.model
    flops = training_flops(base, tokens, count_loss_tokens(timed), method == "full")
    peak_flops = native_peak_flops(run.model.compute_dtype, device)
    return {
        "seconds": round(seconds, 3),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 2),
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        **parameter_counts(trainer.model),
        "adapter_mb": adapter_mb(trainer.model),
        "peak_rss_mb": round(peak_rss, 1),
        "peak_device_mb": peak_device,
        "matmul_peak_share": round(flops / seconds / peak_flops, 4),
    }
