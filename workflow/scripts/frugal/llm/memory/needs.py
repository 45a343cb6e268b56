"""Memory that the jobs of language models declare to Snakemake before they run.

`estimate.py` estimates a training step. A job is a whole process: it also loads, saves and, with
training.keep_freed_memory, keeps the memory that earlier steps have freed. These additions were measured with
SmolLM2-135M and with the tiny model of the smoke study. The constants err on the high side, because a job that takes
more than it has declared can bring down the others.

With compute_dtype 'auto' the dtype is chosen where the job runs, so the larger one counts: float32 on a CPU.
"""

from typing import Any

from frugal.config.language_modeling import LadderSettings
from frugal.llm.memory.estimate import (
    BITSANDBYTES_MB,
    MB,
    adapter_sizes,
    base_parameters,
    compute_bytes,
    estimate,
    frozen_bytes,
    projections,
)
from frugal.llm.memory.ladder import climb
from frugal.llm.memory.plan import on_cpu, sequence_length
from frugal.run.resources import CUDA_HOST_MB

#: MB of a process that has imported torch and transformers, and read or copied a small model.
TORCH_MB = 450
#: MB of a training process beside weights and activations: the libraries, trainer, checkpoints and model card.
TRAINING_MB = 700
#: The same for an evaluation.
EVALUATION_MB = 600
#: MB of the process that starts the ladder's measurements.
LADDER_PARENT_MB = 370
#: Between a rung's estimate and its measured peak: 2 to 8 % on the laptop study's ladder.
RUNG_MARGIN = 1.1
#: Factor on activations and logits if a process keeps freed memory instead of returning it to the system: in training,
#: and in evaluation.
KEPT = 1.45
KEPT_IN_EVALUATION = 1.3
#: Generation with an adapter leaves gaps in the heap too small for the growing key-value cache, even if
#: training.keep_freed_memory is false (glibc 2.36). Their size, as the number of cached tokens in each row.
LEFT_TOKENS = 3000
#: As in `frugal.llm.perplexity`, which cannot be imported without torch.
POSITIONS_AT_ONCE = 256
#: As in `frugal.llm.adapter_check`: tokens that all have logits.
CHECK_TOKENS = 256
#: Tokens of a pair's answer with its reasoning, or of an item's title: the tokens that have logits.
ANSWER_TOKENS = 64


def training_mb(shape: Any, run: Any) -> float:
    """MB (2^20 bytes) of a run's training, in all of its processes.

    Args:
        shape: of the base model, see `frugal.llm.memory.shapes.model_shape`.
        run: settings with the sections `model`, `lora` and `training`.
    """
    if run.training.gpus:
        return run.training.gpus * gpu_host_mb(shape)
    run = on_cpu(run)
    step = estimate(
        shape,
        run,
        batch_size=run.training.per_device_train_batch_size,
        sequence_length=sequence_length(run),
    )
    logits = step.logits
    if not hasattr(run, "corpus"):  # only the answer of a pair has logits
        logits *= min(1.0, ANSWER_TOKENS / sequence_length(run))
    passing = step.activations + logits
    kept = KEPT if run.training.keep_freed_memory else 1.0
    states = step.weights + step.gradients + step.optimizer
    return TRAINING_MB + bitsandbytes_mb(run) + states + kept * passing


def evaluation_mb(shape: Any, run: Any, adapter: bool = True) -> float:
    """MB (2^20 bytes) of a run's evaluation, with its adapter or of the base model.

    Beside the weights, the highest of four moments: the file that weights are converted from; the logits of the text
    that an adapter is checked on; the activations of one layer and the logits in memory at once; generation with its
    key-value cache.
    """
    if run.training.gpus:
        return gpu_host_mb(shape)
    run = on_cpu(run)
    model, number = run.model, compute_bytes(run.model)
    hidden, inner, vocabulary = shape.hidden_size, shape.intermediate_size, shape.vocab_size
    queries, keys = projections(shape)["q_proj"][1], projections(shape)["k_proj"][1]
    corpus = hasattr(run, "corpus")
    batch = run.evaluation.batch_size
    length = run.evaluation.context_length if corpus else model.max_length
    tokens = batch * length

    weights = frozen_bytes(shape, model) + 4 * adapter * sum(adapter_sizes(shape, run.lora))
    file = 2 * base_parameters(shape) if number == 4 or model.quantization != "none" else 0
    # The residual and its norm, in float32 and in compute_dtype; queries, keys and values, repeated for each group,
    # and attention's output; gate, its activation and up.
    layer = tokens * (2 * hidden * (4 + number) + 2 * (queries + keys) * number + 2 * queries * number)
    layer += 3 * tokens * inner * number
    # With a mask PyTorch's attention is computed step by step: scores, masked scores, which rows are fully masked,
    # softmax, and softmax without those rows. 'eager' has scores, softmax in float32, and softmax in compute_dtype.
    pair = 4 + 2 * number if model.attn_implementation == "eager" else 5 * number
    layer += batch * shape.num_attention_heads * length**2 * pair
    if model.quantization == "nf4":
        layer += max(rows * columns for rows, columns in projections(shape).values()) * number
    # Logits, in float32, their log-probabilities, and the logits before them, which are still there.
    at_once = POSITIONS_AT_ONCE if corpus else batch * (ANSWER_TOKENS if run.pairs.format == "next_item" else 1)
    logits = at_once * vocabulary * (number + 12)
    cache = 2 * shape.num_hidden_layers * keys * number
    if corpus:
        rows, new = len(run.prompts.texts), run.prompts.max_new_tokens
        scored = layer + logits
    else:
        rows = min(batch, run.evaluation.generated_examples)
        new = length + run.evaluation.max_new_tokens
        scored = layer + logits + tokens * cache
    # Sampling sorts the vocabulary and draws noise: 48 bytes a logit.
    generated = rows * (new * cache + 48 * vocabulary) + (0 if corpus else layer)
    checked = adapter * CHECK_TOKENS * vocabulary * (number + 12)
    kept = KEPT_IN_EVALUATION * max(scored, generated, checked)
    if adapter and rows:
        kept += rows * LEFT_TOKENS * 2 * 2 * shape.num_hidden_layers * keys  # in 16 bits; less was left in 32
    nf4 = BITSANDBYTES_MB * (model.quantization == "nf4")
    return EVALUATION_MB + nf4 + (weights + max(file, kept)) / MB


def ladder_mb(shape: Any, run: Any, ladder: LadderSettings, limit_mb: float | None = None) -> float:
    """MB (2^20 bytes) of the ladder's measurements: of the rung that needs most within ``limit_mb``.

    The ladder reports a rung that needs more as not measured. If no rung fits, the need is that of the smallest one.
    The search for the largest batch stays within the ladder's budget.
    """
    if run.training.gpus:
        return LADDER_PARENT_MB + gpu_host_mb(shape)
    rungs = climb(run)

    def total(name: str, batch_size: int) -> float:
        rung, length = rungs[name], run.corpus.block_length
        return estimate(shape, rung.run, method=rung.method, batch_size=batch_size, sequence_length=length).total

    needs = []
    for name in ladder.rungs:
        most = total(name, ladder.batch_size)
        if ladder.search:
            most = max(most, min(ladder.memory_budget_mb, total(name, ladder.largest_batch_limit)))
        needs.append(LADDER_PARENT_MB + RUNG_MARGIN * most)
    return max((need for need in needs if limit_mb is None or need <= limit_mb), default=min(needs))


def preparation_mb(shape: Any) -> float:
    """MB (2^20 bytes) of converting a model to safetensors: it is read in float32 and copied into a new model."""
    return TORCH_MB + 10 * base_parameters(shape) / MB


def gpu_host_mb(shape: Any) -> float:
    """MB (2^20 bytes) of host memory of a process on a GPU: the weights pass through it, in 16 bits."""
    return CUDA_HOST_MB + 2 * base_parameters(shape) / MB


def bitsandbytes_mb(run: Any) -> float:
    """MB (2^20 bytes) of bitsandbytes if a run uses it."""
    return BITSANDBYTES_MB * (run.model.quantization == "nf4" or "8bit" in run.training.optim)
