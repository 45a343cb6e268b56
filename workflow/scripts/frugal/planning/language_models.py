"""The jobs of experiments with language models: trainings of adapters, and evaluations with and without them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugal.config.backends import uses_unsloth
from frugal.config.devices import Device
from frugal.config.study import Experiment, Study
from frugal.kinds import BASE
from frugal.llm.memory import needs
from frugal.llm.memory.estimate import CUDA_CONTEXT_MB, MB, adapter_sizes, base_parameters, estimate, frozen_bytes
from frugal.llm.memory.plan import sequence_length
from frugal.llm.memory.shapes import model_shape
from frugal.planning.amounts import Unplannable, corpus, example_tokens, window_tokens
from frugal.planning.flops import FORWARD, WITH_BACKWARD, language_model_flops
from frugal.planning.work import NF4_SLOWDOWN, Job, Work, dtype_on, family, language_model_slowdown, on_device
from frugal.run.device import with_compute_dtype

#: CPU threads that a training asks Snakemake for.
THREADS = 8
#: Bytes on disk of each trained weight: the adapter, and two checkpoints with AdamW's states.
BYTES_A_TRAINED_WEIGHT = 4 + 2 * (4 + 8)


@dataclass(frozen=True)
class Amounts:
    """Tokens of a run: what it trains, validates, reads to score, and generates.

    Attributes:
        rows: of the training, an epoch.
        output_share: of the training tokens that go through the output layer.
        scored: tokens with logits in the evaluation.
        read_batches: of the evaluation's forward passes.
        generated: new tokens of all answers, and steps in which a batch of them is made.
    """

    rows: float
    tokens: float
    output_share: float
    validation: float
    read: float
    scored: float
    read_batches: float
    generated: float
    generation_steps: float


def amounts(study: Study, name: str, variant: str, run: Any, vocabulary: int, root: Path) -> Amounts:
    """Counts of one run; without a data set's size there are none.

    Raises:
        Unplannable: the size of the data set is not known.
    """
    settings = run.evaluation
    if hasattr(run, "corpus"):
        principal = study.experiments[name].principal if variant == BASE else variant
        blocks = root / "data/blocks" / study.name / name / principal / "blocks.json"
        part = corpus(run, vocabulary, blocks, root / "data/prepared" / run.dataset / "summary.json")
        rows = math.ceil(part.train / run.corpus.block_length)
        prompts, new = len(run.prompts.texts), run.prompts.max_new_tokens
        read = window_tokens(run, part)
        batches = read / (settings.batch_size * settings.context_length)
        generated = prompts * new, new * bool(prompts)
        return Amounts(rows, part.train, 1.0, part.validation, read, part.test, batches, *generated)
    each, pairs = example_tokens(run, vocabulary), run.pairs
    examples = pairs.train_examples
    asked = pairs.test_easy_examples + pairs.test_hard_examples  # in both orders, which begin alike
    answers, new = settings.generated_examples, settings.max_new_tokens
    return Amounts(
        rows=examples,
        tokens=examples * (each.prompt + each.answer),
        output_share=each.loss / (each.prompt + each.answer),
        validation=0,
        read=asked * (2 * each.prompt - each.common) + answers * each.prompt,
        scored=2 * asked,
        read_batches=2 * asked / settings.batch_size,
        generated=answers * new,
        generation_steps=math.ceil(answers / settings.batch_size) * new,
    )


def jobs(study: Study, experiment: Experiment, device: Device, cores: int, root: Path) -> list[Job]:
    """The trainings and evaluations of an experiment, on a device.

    Args:
        cores: of the CPU, where the device is one.
        root: the working directory of Snakemake.
    """
    found = []
    for variant, run in experiment.runs.items():
        name = f"{experiment.name}/{variant}"
        stages = ["evaluation"] if variant == BASE else ["training", "evaluation"]
        after = {"training": (), "evaluation": ((name, "training"),) if variant != BASE else ()}
        about = {"name": name, "kind": experiment.kind.name, "family": family(run)}
        try:
            shape = model_shape(run.base_model, study.models[run.base_model], root / "data/models")
            if shape is None:
                raise Unplannable(f"the shape of {run.base_model} is not known before it is fetched: snakemake models")
            if run.model.quantization == "int8" and device.kind == "gpu":
                raise Unplannable("model.quantization is int8, which runs on a CPU: set it to 'nf4' or 'none'")
            if uses_unsloth(run) and variant != BASE and device.kind == "cpu":
                raise Unplannable("backend is unsloth, which needs a GPU: set it to 'transformers'")
            dtype = dtype_on(run.model.compute_dtype, device, "model.compute_dtype")
            run = with_compute_dtype(on_device(run, device), dtype)
            counts = amounts(study, experiment.name, variant, run, shape.vocab_size, root)
        except Unplannable as problem:
            found += [Job(stage=stage, after=after[stage], problem=str(problem), **about) for stage in stages]
            continue
        about["weights"] = base_parameters(shape)
        for stage in stages:
            make = _training if stage == "training" else _evaluation
            parts = make(shape, run, counts, dtype, device, cores, variant != BASE)
            found.append(Job(stage=stage, after=after[stage], **about, **parts))
    return found


def training_work(shape: Any, run: Any, counts: Amounts, dtype: str, devices: int = 1) -> Work:
    """What a training computes, its validations included.

    Args:
        devices: GPUs that share it.
    """
    training = run.training
    batch, accumulation = training.per_device_train_batch_size * devices, training.gradient_accumulation_steps
    batches = math.ceil(counts.rows / batch)
    steps = math.ceil(batches / accumulation) * training.num_train_epochs
    epochs = training.num_train_epochs
    if training.max_steps > 0:
        epochs, steps = training.max_steps * accumulation / batches, training.max_steps
    tokens = counts.tokens * epochs
    flops = language_model_flops(shape, tokens, tokens * counts.output_share, WITH_BACKWARD)
    if counts.validation:
        times = steps // training.eval_steps if getattr(training, "eval_steps", None) else epochs
        flops += times * language_model_flops(shape, counts.validation, counts.validation, FORWARD)
    launches = batches * epochs * shape.num_hidden_layers
    return Work({dtype: flops}, language_model_slowdown(run), launches)


def _training(shape, run, counts, dtype, device, cores, _adapter) -> dict[str, Any]:
    gpu = device.kind == "gpu"
    devices = run.training.gpus * run.training.nodes if gpu else min(THREADS, cores)
    batch = run.training.per_device_train_batch_size
    step = estimate(shape, run, batch_size=batch, sequence_length=sequence_length(run), device="cuda") if gpu else None
    return {
        "devices": devices,
        "work": training_work(shape, run, counts, dtype, devices if gpu else 1),
        "memory_mb": step.total if gpu else needs.training_mb(shape, run),
        "disk_mb": BYTES_A_TRAINED_WEIGHT * sum(adapter_sizes(shape, run.lora)) / MB,
    }


def _evaluation(shape, run, counts, dtype, device, cores, adapter) -> dict[str, Any]:
    gpu = device.kind == "gpu"
    memory = needs.evaluation_mb(shape, _counted_on_cpu(run, counts) if gpu else run, adapter)
    threads = run.evaluation.threads if hasattr(run.evaluation, "threads") else THREADS
    flops = language_model_flops(shape, counts.read + counts.generated, counts.scored + counts.generated, FORWARD)
    batches = counts.read_batches + counts.generation_steps
    read = counts.generation_steps * frozen_bytes(shape, run.model)
    slowdown = NF4_SLOWDOWN if run.model.quantization == "nf4" else 1.0
    return {
        "devices": 1 if gpu else min(threads, cores),
        # A forward pass launches about a third of a step's kernels.
        "work": Work({dtype: flops}, slowdown, batches * shape.num_hidden_layers / 3, read),
        "memory_mb": memory - needs.EVALUATION_MB + CUDA_CONTEXT_MB if gpu else memory,
    }


def _counted_on_cpu(run: Any, counts: Amounts) -> Any:
    """The run as its evaluation's tensors on a GPU are counted: prompts of twice their mean length, and no `gpus`."""
    model = run.model
    if not hasattr(run, "corpus"):
        longest = math.ceil(2 * counts.tokens / counts.rows)
        model = model.model_copy(update={"max_length": min(model.max_length, longest)})
    return run.model_copy(update={"model": model, "training": run.training.model_copy(update={"gpus": 0})})
