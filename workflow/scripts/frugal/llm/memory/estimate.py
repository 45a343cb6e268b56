"""Peak memory of a training run, estimated from the shapes of its model and its settings alone.

Nothing is loaded or measured. The formulas count what PyTorch keeps for the backward pass, operation by operation: in
the fused layers of `frugal.llm.kernels.layers` or, where these cannot be used, in transformers' Llama with the
attention of `frugal.llm.kernels.attention`. The tests compare them with the memory that PyTorch really uses.

Letters: T tokens of a batch (batch_size x sequence_length), S sequence_length, H hidden size, I intermediate
size, A and K widths of the queries and of the keys, h heads, V vocabulary, r rank, L layers; c bytes of a number
in compute_dtype (4 or 2).

Memory may be highest at four moments of a run, and the estimate is the highest of them:

* *load*: on the CPU, weights converted to 4, 8 or 32 bits are in memory beside the 16-bit file that they come from;
* *loss*: all activations are kept, beside the logits;
* *layer*: the logits are freed, and the backward pass is in the last layer, whose activations gradient checkpointing
  has just recomputed;
* *step*: all gradients are in memory, and no activations.

Gradients appear as activations are freed. So at the loss and in the layer they count only if they were there before:
if gradient_accumulation_steps is more than 1. On the CPU the estimate is for a process that returns freed memory to
the system (training.keep_freed_memory: false).
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from frugal.config.llm import ALL_LINEAR, LoraSettings, ModelSettings
from frugal.llm.kernels import FUSED_LAYER_TYPES, LONGEST_BY_MATMULS

MB = 2**20
#: Measured MB of a process that has imported torch, transformers, peft, trl and datasets (442) and used them for a
#: step; and MB that bitsandbytes and SciPy add where they are used.
PROCESS_MB = 476
BITSANDBYTES_MB = 82
#: MB of CUDA and cuBLAS on a GPU, beside the tensors; 400 to 600 MB, depending on GPU and driver.
CUDA_CONTEXT_MB = 500
#: Bytes per weight in NF4 (Dettmers et al. 2023, QLoRA, arXiv:2305.14314, section 3): 4 bits and, for each block
#: of 64 weights, one constant of 32 bits; with double quantisation of 8 bits, and 32 bits for each 256 of them.
NF4_BYTES = {False: (4 + 32 / 64) / 8, True: (4 + 8 / 64 + 32 / (64 * 256)) / 8}
#: bitsandbytes keeps the states of tensors with fewer elements in 32 bits.
MIN_8BIT_SIZE = 4096

Method = Literal["lora", "full"]


@dataclass(frozen=True)
class MemoryEstimate:
    """MB (2^20 bytes) of each part at the run's peak."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    overhead: float

    @property
    def total(self) -> float:
        return sum(getattr(self, field.name) for field in fields(self))

    def as_dict(self) -> dict[str, float]:
        """The parts and their total, to a tenth of a MB."""
        return {name: round(value, 1) for name, value in {**asdict(self), "total": self.total}.items()}


def estimate(
    config: Any,
    run: Any,
    *,
    method: Method = "lora",
    batch_size: int,
    sequence_length: int,
    device: Literal["cpu", "cuda"] = "cpu",
) -> MemoryEstimate:
    """The peak memory of a training run: of its process on the CPU, of the device on a GPU.

    Args:
        config: a `transformers.LlamaConfig`, or another with its attributes.
        run: settings with the sections `model`, `lora` and `training`, of any language-model experiment.
        method: 'lora' trains an adapter on frozen weights; 'full' trains all weights, everything in float32.
        batch_size: sequences at once on the device.
        sequence_length: tokens of each of them.
    """
    model, lora, training = run.model, run.lora, run.training
    full = method == "full"
    number = 4 if full else compute_bytes(model)
    tokens = batch_size * sequence_length
    # DoRA, rsLoRA and plain LoRA adapters are kept in float32, whatever the frozen weights are in.
    trained = [base_parameters(config)] if full else adapter_sizes(config, lora)

    weights = 4 * sum(trained) if full else frozen_bytes(config, model) + 4 * sum(trained)
    gradients = 4 * sum(trained)
    optimizer = sum(optimizer_bytes(size, training.optim) for size in trained)

    layer = layer_bytes(config, run, number, batch_size, sequence_length, full, device)
    hidden = tokens * config.hidden_size * number
    # The last norm keeps its input in float32; full fine-tuning also what it passes to the output layer.
    last = tokens * config.hidden_size * 4 + (2 * hidden if full else 0)
    # The adapter's weights, cast once a step and kept; fused layers cast them at each use.
    autocast = 0 if number == 4 or has_fused_layers(config, lora, full) else sum(trained) * number
    selective = selective_bytes(config, run, number, tokens, full, device)
    of_layer, recomputed = {False: (layer, 0), True: (hidden, layer), "selective": (selective, layer - selective)}[
        training.gradient_checkpointing
    ]
    kept = config.num_hidden_layers * of_layer + last + autocast
    # In the MLP's backward pass, up to three arrays of its width are alive at once (with 8-bit weights one, beside its
    # 32-bit sums); NF4 weights are dequantised.
    passing = 3 * tokens * config.intermediate_size * number
    if model.quantization == "nf4" and not full:
        passing += max(rows * columns for rows, columns in projections(config).values()) * number

    bitsandbytes = model.quantization == "nf4" or "8bit" in training.optim
    carried = gradients if training.gradient_accumulation_steps > 1 else 0
    logits = logits_bytes(tokens, config.vocab_size, training.loss_chunk_tokens, number, device)
    converted = device == "cpu" and (number == 4 or model.quantization != "none")
    moments = [
        (2 * base_parameters(config) if converted else 0, 0, 0, 0, 0),
        (0, carried, optimizer, kept, logits),
        (0, carried, optimizer, kept + recomputed + passing, 0),
        (0, gradients, optimizer, 0, 0),
    ]
    file, gradients, optimizer, activations, logits = max(moments, key=sum)
    return MemoryEstimate(
        weights=(weights + file) / MB,
        gradients=gradients / MB,
        optimizer=optimizer / MB,
        activations=activations / MB,
        logits=logits / MB,
        overhead=CUDA_CONTEXT_MB if device == "cuda" else PROCESS_MB + BITSANDBYTES_MB * bitsandbytes,
    )


def has_fused_layers(config: Any, lora: LoraSettings, full: bool) -> bool:
    """Whether the run uses `frugal.llm.kernels.layers`: plain LoRA on a model of these types."""
    return config.model_type in FUSED_LAYER_TYPES and not (full or lora.use_dora or lora.lora_dropout)


def compute_bytes(model: ModelSettings) -> int:
    """Bytes of a number in compute_dtype."""
    return 4 if model.compute_dtype == "float32" else 2


def projections(config: Any) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each linear layer in one decoder layer."""
    hidden, inner = config.hidden_size, config.intermediate_size
    head = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }


def adapted_layers(config: Any, lora: LoraSettings) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each linear layer with an adapter in one decoder layer.

    A layer of another name than Llama's counts as wide as any: Phi 3's qkv_proj and gate_up_proj by their parts.
    """
    layers = projections(config)
    if lora.target_modules == ALL_LINEAR:
        return layers
    hidden, inner = config.hidden_size, config.intermediate_size
    widest = max(hidden, inner), max(hidden, inner)
    fused = {
        "qkv_proj": (hidden, sum(layers[name][1] for name in ("q_proj", "k_proj", "v_proj"))),
        "gate_up_proj": (hidden, 2 * inner),
    }
    names = dict.fromkeys(name.rpartition(".")[2] for name in lora.target_names)
    return {name: (layers | fused).get(name, widest) for name in names}


def linear_parameters(config: Any) -> int:
    """Number of weights in the linear layers of all decoder layers: those that NF4 quantises."""
    return config.num_hidden_layers * sum(rows * columns for rows, columns in projections(config).values())


def base_parameters(config: Any) -> int:
    """Number of weights of the model; tied embeddings count once."""
    embeddings = (1 if config.tie_word_embeddings else 2) * config.vocab_size * config.hidden_size
    norms = (2 * config.num_hidden_layers + 1) * config.hidden_size
    return linear_parameters(config) + embeddings + norms


def frozen_bytes(config: Any, model: ModelSettings) -> float:
    """Bytes of the frozen model. Embeddings, norms and output layer are never quantised."""
    linear, number = linear_parameters(config), compute_bytes(model)
    scales = config.num_hidden_layers * sum(outputs for _, outputs in projections(config).values())
    quantized = {
        "none": linear * number,
        "nf4": linear * NF4_BYTES[model.double_quantization],
        "int8": linear + 4 * scales,  # one for each output
    }
    return quantized[model.quantization] + (base_parameters(config) - linear) * number


def adapter_sizes(config: Any, lora: LoraSettings) -> list[int]:
    """Number of weights in each tensor of the adapter: A (r x inputs), B (outputs x r); with DoRA the magnitudes."""
    sizes = []
    for inputs, outputs in adapted_layers(config, lora).values():
        sizes += [lora.r * inputs, outputs * lora.r, *([outputs] if lora.use_dora else [])]
    return sizes * config.num_hidden_layers


def optimizer_bytes(size: int, optim: str) -> float:
    """AdamW's two states of a tensor with ``size`` weights: 8 bytes per weight.

    In 8 bits: 2 bytes per weight, and for each state a constant of 4 bytes per block of 256 (Dettmers et al. 2022,
    arXiv:2110.02861). A paged optimiser needs the same, but can move it from the GPU to host memory.
    """
    if optim == "adamw_torch" or size < MIN_8BIT_SIZE:
        return 8 * size
    return 2 * size + 2 * 4 * -(-size // 256)


def logits_bytes(tokens: int, vocabulary: int, chunk: int | None, number: int, device: str) -> int:
    """12 bytes for each of T x V logits, or c for each of chunk x V, on a GPU twice.

    When the gradient of the logits is computed, three arrays in float32 are alive: the log-probabilities that the
    forward pass kept, the incoming gradient, and the outgoing one. In chunks (`frugal.losses`) logits become
    probabilities and then their gradient in one array, on a GPU in two.
    """
    if chunk is None:
        return 12 * tokens * vocabulary
    return (number if device == "cpu" else 2 * number) * min(tokens, chunk) * vocabulary


def layer_bytes(
    config: Any, run: Any, number: int, batch_size: int, sequence_length: int, full: bool, device: str
) -> float:
    """Bytes that one decoder layer keeps for its backward pass; see the letters above.

    Fused layers (`frugal.llm.kernels.layers`): the layer's input and the hidden state after attention, T x H each; what
    attention keeps; the input of o_proj's adapter, T x A; gate and up, T x I each; the low-rank states, T x r.

    By autograd:

    * Two norms: each its input in float32, T x H x 4, and in full fine-tuning its output before the weight.
    * Linear layers: nothing for frozen weights, which need no gradient. The inputs of adapters are kept (q, k, v share
      one, and so do gate and up), and the low-rank states, T x r. In full fine-tuning all inputs are kept. With
      dropout each adapter has its own input, and a mask beside it.
    * DoRA keeps the outputs of the frozen layer and of the adapter, T x outputs each.
    * MLP: gate before and after its activation, and up: 3 x T x I.

    Attention by the fused kernel (`frugal.llm.kernels.attention`): queries and output, T x A each, keys and values,
    T x K each, on a CPU always in float32. By matmuls (CPU, up to LONGEST_BY_MATMULS tokens): queries, keys and values.
    """
    tokens = batch_size * sequence_length
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = projections(config)["q_proj"][1], projections(config)["k_proj"][1]
    by_matmuls = device == "cpu" and sequence_length <= LONGEST_BY_MATMULS
    fused = 4 if device == "cpu" else number
    if by_matmuls:
        attention = tokens * (queries + 2 * keys) * number
    else:
        attention = tokens * 2 * (queries + keys) * fused + tokens * config.num_attention_heads * 4
    if has_fused_layers(config, run.lora, full):
        adapted = adapted_layers(config, run.lora)
        of_out = queries if "o_proj" in adapted else 0
        low_rank = run.lora.r * len(adapted)
        return attention + tokens * (2 * (hidden + inner) + of_out + low_rank) * number
    kept = attention + 2 * tokens * hidden * 4 + 3 * tokens * inner * number
    # The fused kernel's output is o_proj's input; if both have one dtype, it is kept once.
    once = not by_matmuls and fused == number
    if full:
        return kept + tokens * (4 * hidden + inner + (0 if once else queries)) * number
    return kept + adapter_input_bytes(config, run.lora, number, tokens, once, device)


def selective_bytes(config: Any, run: Any, number: int, tokens: int, full: bool, device: str) -> float:
    """Bytes that one decoder layer keeps under selective recomputation.

    The layer's input and the hidden state after attention, T x H each, gate and up, T x I each, and what the MLP's
    adapters keep: by autograd their inputs too. In full fine-tuning the inputs of the MLP's linear layers instead.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    kept = 2 * tokens * (hidden + inner) * number
    if full:
        return kept + tokens * (hidden + inner) * number
    adapted = adapted_layers(config, run.lora)
    of_mlp = [name for name in adapted if name in ("gate_proj", "up_proj", "gate_up_proj", "down_proj")]
    if has_fused_layers(config, run.lora, full):
        return kept + tokens * run.lora.r * len(of_mlp) * number
    lora = run.lora.model_copy(update={"target_modules": of_mlp})
    return kept + adapter_input_bytes(config, lora, number, tokens, False, device)


def adapter_input_bytes(
    config: Any, lora: LoraSettings, number: int, tokens: int, attended_once: bool, device: str
) -> float:
    """Bytes that the adapters of one decoder layer keep: their inputs and their low-rank states.

    ``attended_once``: attention already keeps the input of o_proj.
    """
    shapes = adapted_layers(config, lora)
    kept = tokens * lora.r * len(shapes) * number
    if lora.use_dora:
        kept += 2 * tokens * sum(outputs for _, outputs in shapes.values()) * number
    if lora.lora_dropout > 0:
        mask = 1 if device == "cuda" else number  # on the CPU the mask has the dtype of the input
        return kept + tokens * sum(inputs for inputs, _ in shapes.values()) * (number + mask)
    sources = {"q_proj": "norm_1", "k_proj": "norm_1", "v_proj": "norm_1", "gate_proj": "norm_2", "up_proj": "norm_2"}
    sources |= {"qkv_proj": "norm_1", "gate_up_proj": "norm_2"}
    inputs = {sources.get(name, name): shape[0] for name, shape in shapes.items()}
    if attended_once:
        inputs.pop("o_proj", None)
    return kept + tokens * sum(inputs.values()) * number
