"""The memory estimate: held against numbers worked out by hand, and against what PyTorch really keeps."""

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from peft.helpers import disable_input_dtype_casting
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config

from frugal.config.language_modeling import LanguageModelingRun
from frugal.config.llm import LoraSettings
from frugal.llm.kernels.layers import fused_layers
from frugal.llm.loading import load_base_model
from frugal.llm.memory.estimate import (
    MB,
    NF4_BYTES,
    adapter_sizes,
    base_parameters,
    estimate,
    frozen_bytes,
    layer_bytes,
    logits_bytes,
    optimizer_bytes,
    selective_bytes,
)
from frugal.llm.memory.shapes import SHAPES
from frugal.llm.packed import collate, forward_arguments, packed_batches

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
BATCH, LENGTH, VOCABULARY = 2, 128, 512
SMALL = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=128,
    intermediate_size=320,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
#: Of the same shapes, and left to autograd.
QWEN = Qwen2Config(**{key: value for key, value in SMALL.to_dict().items() if key in SHAPES["llama-3.2-1b"]})


def make_run(**changes) -> LanguageModelingRun:
    """A run in float32 without any saving; keywords change its sections."""
    data = {
        "dataset": "synthetic",
        "base_model": "small",
        "corpus": {"packing": "continuous"},
        "model": {"quantization": "none", "compute_dtype": "float32"},
        "lora": {"r": 4, "target_modules": ATTENTION},
        "training": {"gradient_accumulation_steps": 1, "optim": "adamw_torch", "loss_chunk_tokens": None},
    }
    for section, values in changes.items():
        data[section] = {**data[section], **values}
    return LanguageModelingRun.model_validate(data)


# Parameters and the parts that follow from them


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("smollm2-135m-instruct", 134_515_008),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824),
        ("llama-3-8b", 8_030_261_248),
    ],
)
def test_the_shapes_are_those_of_the_public_models(name, parameters):
    config = LlamaConfig(**SHAPES[name])
    assert base_parameters(config) == parameters
    with torch.device("meta"):  # shapes without storage
        assert LlamaForCausalLM(config).num_parameters() == parameters


def test_adapter_sizes_are_the_published_ones():
    one = LoraSettings(r=8, target_modules=ATTENTION)
    assert sum(adapter_sizes(LlamaConfig(**SHAPES["llama-3.2-1b"]), one)) == 1_703_936
    eight = LoraSettings(r=16, target_modules=ALL)
    assert sum(adapter_sizes(LlamaConfig(**SHAPES["llama-3-8b"]), eight)) == 41_943_040


def test_bytes_of_nf4_by_hand():
    assert NF4_BYTES[False] * 8 == 4.5  # 4 + 32/64 bits
    assert NF4_BYTES[True] * 8 == pytest.approx(4.127, abs=5e-4)  # 4 + 8/64 + 32/16384 bits


@pytest.mark.parametrize(("quantization", "double"), [("nf4", False), ("nf4", True), ("int8", True)])
def test_frozen_weights_take_what_is_loaded(tiny_model_folder, quantization, double):
    run = make_run(model={"quantization": quantization, "double_quantization": double})
    model = load_base_model(tiny_model_folder, run.model, "cpu")
    taken = 0
    for weight in model.parameters():
        taken += weight.nbytes
        if state := getattr(weight, "quant_state", None):
            taken += state.absmax.nbytes + (state.state2.absmax.nbytes if state.nested else 0)
    taken += sum(buffer.nbytes for name, buffer in model.named_buffers() if name.endswith("_proj.scale"))
    # A weight of 64 x 32 has 32 blocks, less than the 256 that share a constant: a few bytes are rounded up.
    assert frozen_bytes(model.config, run.model) == pytest.approx(taken, rel=0.001)


def test_optimizer_states_by_hand():
    assert optimizer_bytes(10_000, "adamw_torch") == 80_000
    assert optimizer_bytes(10_000, "adamw_8bit") == 2 * 10_000 + 2 * 4 * 40  # 39.06 blocks of 256 are 40
    assert optimizer_bytes(4095, "paged_adamw_8bit") == 8 * 4095  # too small for 8 bits


@pytest.mark.parametrize(
    ("quantization", "optim", "brought"),
    [
        ("none", "adamw_torch", 0),
        ("none", "paged_adamw_8bit", 82),
        ("nf4", "adamw_torch", 82),
        ("int8", "adamw_torch", 0),
    ],
)
def test_bitsandbytes_counts_where_it_is_used(quantization, optim, brought):
    run = make_run(model={"quantization": quantization}, training={"optim": optim})
    on = {"batch_size": 1, "sequence_length": 64}
    assert estimate(SMALL, run, **on).overhead == 476 + brought
    assert estimate(SMALL, run, **on, device="cuda").overhead == 500


def test_weights_that_are_converted_stand_beside_their_file():
    # Without activations to speak of, 4-bit weights need most while the file of two bytes a weight is read.
    in_4_bits = {"quantization": "nf4", "compute_dtype": "bfloat16"}
    run = make_run(model=in_4_bits, training={"gradient_checkpointing": True})
    wide = LlamaConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=4, vocab_size=512)
    on = {"batch_size": 1, "sequence_length": 16}
    loading, on_gpu = estimate(wide, run, **on), estimate(wide, run, **on, device="cuda")
    assert (loading.gradients, loading.optimizer, loading.activations, loading.logits) == (0, 0, 0, 0)
    assert loading.weights - on_gpu.weights == pytest.approx(2 * base_parameters(wide) / MB)
    # bfloat16 is what the file holds: its weights are used as they are.
    as_stored = make_run(model={"quantization": "none", "compute_dtype": "bfloat16"})
    assert estimate(wide, as_stored, **on).weights == estimate(wide, as_stored, **on, device="cuda").weights


def test_chunks_bound_the_logits():
    assert logits_bytes(1024, 49152, None, 2, "cpu") == 12 * 1024 * 49152
    assert logits_bytes(1024, 49152, 256, 2, "cpu") == 24 * MB
    assert logits_bytes(1024, 49152, 256, 2, "cuda") == 48 * MB
    assert logits_bytes(100, 49152, 256, 4, "cpu") == 4 * 100 * 49152


# Against PyTorch


def small_model(run: LanguageModelingRun, method: str):
    """A random model as it is trained: frozen in compute_dtype with a float32 adapter, or whole in float32."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(SMALL)
    model.config.use_cache = False
    if method == "lora":
        model = get_peft_model(
            model.to(getattr(torch, run.model.compute_dtype)),
            LoraConfig(task_type="CAUSAL_LM", **run.lora.model_dump()),
        )
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
    if run.training.gradient_checkpointing is True:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def loss_of(model, run: LanguageModelingRun, backward: bool = False) -> torch.Tensor:
    batch = collate({"input_ids": row} for row in torch.randint(0, VOCABULARY, (BATCH, LENGTH)).tolist())
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    mixed = run.model.compute_dtype != "float32"
    with (
        packed_batches(base, run.training.loss_chunk_tokens),
        fused_layers(base, run.training.gradient_checkpointing),
        torch.autocast("cpu", torch.bfloat16, enabled=mixed),
        disable_input_dtype_casting(model, active=mixed),
    ):
        loss = model(**forward_arguments(batch)).loss
        if backward:  # recomputed under the same settings
            loss.backward()
        return loss


BF16 = {"compute_dtype": "bfloat16"}
CASES = [
    ("lora", {}),
    ("lora", {"model": BF16}),
    ("lora", {"lora": {"target_modules": ["q_proj", "v_proj"]}}),
    ("lora", {"lora": {"target_modules": ALL}}),
    ("lora", {"lora": {"target_modules": ALL}, "model": BF16}),
    ("lora", {"lora": {"lora_dropout": 0.05}}),
    ("lora", {"lora": {"lora_dropout": 0.05}, "model": BF16}),
    ("full", {}),
]
CHECKPOINTED = {"gradient_checkpointing": True}
SELECTIVE = {"gradient_checkpointing": "selective"}


@pytest.mark.parametrize(("method", "changes"), CASES)
def test_kept_activations_are_those_that_autograd_keeps(method, changes):
    run = make_run(**changes)
    model = small_model(run, method)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor lives on, and so its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(model, run)
    assert loss.requires_grad
    logits = BATCH * LENGTH * VOCABULARY * 4  # the log-probabilities, which count with the logits
    counted = sum(size for size, _ in kept.values()) - logits
    predicted = estimate(SMALL, run, method=method, batch_size=BATCH, sequence_length=LENGTH).activations * MB
    assert predicted == pytest.approx(counted, rel=0.1)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.seen = set()

    def add(self, tensor):
        storage = tensor.untyped_storage()
        if id(storage) not in self.seen:
            self.seen.add(id(storage))
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.drop, id(storage), storage.nbytes())

    def drop(self, key, size):
        self.seen.discard(key)
        self.live -= size

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.add(value)
        return result


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        *CASES,
        ("lora", {"lora": {"use_dora": True}}),
        ("lora", {"training": CHECKPOINTED}),
        ("lora", {"training": CHECKPOINTED, "model": BF16}),
        ("lora", {"training": CHECKPOINTED, "lora": {"target_modules": ALL}}),
        ("lora", {"training": SELECTIVE}),
        ("lora", {"training": SELECTIVE, "model": BF16}),
        ("lora", {"training": SELECTIVE, "lora": {"target_modules": ALL}}),
        ("full", {"training": SELECTIVE}),
    ],
)
def test_the_estimate_is_the_peak_of_a_training_step(method, changes):
    run = make_run(**changes)
    model = small_model(run, method)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, foreach=False)
    loss_of(model, run, backward=True)
    optimizer.step()  # from here on the optimiser has its states
    optimizer.zero_grad()
    gc.collect()
    live = LiveBytes()
    for tensor in [*model.parameters(), *(t for state in optimizer.state.values() for t in state.values())]:
        live.add(tensor)
    with live:
        loss_of(model, run, backward=True)
        optimizer.step()
    predicted = estimate(SMALL, run, method=method, batch_size=BATCH, sequence_length=LENGTH)
    assert (predicted.total - predicted.overhead) * MB == pytest.approx(live.peak, rel=0.08)


# The moments of a step, and what holds for every run


def test_gradients_count_beside_activations_only_when_they_accumulate():
    def part(steps, batch_size):
        run = make_run(training={"gradient_accumulation_steps": steps})
        return estimate(SMALL, run, method="full", batch_size=batch_size, sequence_length=LENGTH)

    every_gradient = 4 * base_parameters(SMALL) / MB
    assert part(1, 8).gradients == 0
    assert part(8, 8).gradients == every_gradient
    assert part(8, 8).activations == part(1, 8).activations
    # With 16 tokens the activations are less than the gradients: the step is the peak.
    run = make_run()
    step = estimate(SMALL, run, method="full", batch_size=1, sequence_length=16)
    assert (step.gradients, step.activations, step.logits) == (every_gradient, 0, 0)


def test_one_layer_by_hand():
    """T = 256, H = A = 128, K = 64, I = 320, 4 heads, r = 4, float32, adapters on q, k, v and o."""
    attention = 256 * (128 + 2 * 64) * 4  # queries, keys and values
    # Input and state behind attention; what o reads; A to B; gate and up.
    kept = attention + 256 * (2 * 128 + 128 + 4 * 4 + 2 * 320) * 4
    assert layer_bytes(SMALL, make_run(), 4, 2, 128, False, "cpu") == kept
    norms = 2 * 256 * 128 * 4
    adapters = 2 * 256 * 128 * 4 + 4 * 256 * 4 * 4  # one input for q, k and v, one for o; A to B
    assert layer_bytes(QWEN, make_run(), 4, 2, 128, False, "cpu") == norms + attention + adapters + 3 * 256 * 320 * 4


def test_one_layer_by_hand_under_selective_recomputation():
    """The same: input, state behind attention, gate and up; the MLP's adapters add A to B, by autograd their input."""
    kept = 2 * 256 * 128 * 4 + 2 * 256 * 320 * 4
    assert selective_bytes(SMALL, make_run(), 4, 256, False, "cpu") == kept
    everywhere = make_run(lora={"target_modules": ALL})
    assert selective_bytes(SMALL, everywhere, 4, 256, False, "cpu") == kept + 3 * 256 * 4 * 4
    inputs = 256 * 128 * 4 + 256 * 320 * 4
    assert selective_bytes(QWEN, everywhere, 4, 256, False, "cpu") == kept + inputs + 3 * 256 * 4 * 4


def test_a_total_is_the_sum_of_its_parts():
    parts = estimate(SMALL, make_run(), batch_size=2, sequence_length=128).as_dict()
    total = parts.pop("total")
    assert set(parts) == {"weights", "gradients", "optimizer", "activations", "logits", "overhead"}
    assert total == pytest.approx(sum(parts.values()), abs=0.3)


@given(
    batch=st.integers(1, 32),
    length=st.integers(16, 4096),
    model=st.fixed_dictionaries(
        {
            "quantization": st.sampled_from(["none", "nf4", "int8"]),
            "compute_dtype": st.sampled_from(["float32", "bfloat16"]),
            "attn_implementation": st.sampled_from(["sdpa", "eager"]),
        }
    ),
    checkpointing=st.sampled_from([False, True, "selective"]),
    chunk=st.sampled_from([None, 256]),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_more_tokens_never_need_less(batch, length, model, checkpointing, chunk, device):
    run = make_run(model=model, training={"gradient_checkpointing": checkpointing, "loss_chunk_tokens": chunk})
    config = LlamaConfig(**SHAPES["smollm2-135m-instruct"])

    def total(batch, length):
        return estimate(config, run, batch_size=batch, sequence_length=length, device=device).total

    assert total(batch, length) <= min(total(batch + 1, length), total(batch, length + 1))
    assert total(batch, length) > 0
