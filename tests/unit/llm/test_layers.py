"""Fused layers: the same loss and gradients as the libraries' layers, whichever projections have an adapter."""

import pytest
import torch
from peft.helpers import disable_input_dtype_casting
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from frugal.config.llm import LoraSettings, ModelSettings
from frugal.llm.kernels import FUSED_LAYER_TYPES, int8
from frugal.llm.kernels.layers import FusedLayer, Projections, RotaryPositions, fused_layers
from frugal.llm.kernels.recompute import SelectiveLayer
from frugal.llm.loading import load_base_model
from frugal.llm.memory import estimate as memory
from frugal.llm.packed import collate, forward_arguments, packed_batches
from frugal.run.device import cpu_capabilities

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


def layer_class(model) -> type:
    (layer_class,) = {type(layer) for layer in model.get_base_model().model.layers}
    return layer_class


def loss_and_gradients(model, kind: torch.dtype, checkpointing=None):
    """Through the libraries' layers where ``checkpointing`` is None."""
    base = model.get_base_model()
    rows = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(1)).tolist()
    batch = collate({"input_ids": row, "segment_lengths": [10, 14]} for row in rows)
    with (
        packed_batches(base, 16),
        torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16),
        disable_input_dtype_casting(model, active=kind == torch.bfloat16),
    ):
        if checkpointing is None:
            loss = model(**forward_arguments(batch)).loss
            loss.backward()
        else:
            with fused_layers(base, checkpointing):
                assert layer_class(model) is FusedLayer
                loss = model(**forward_arguments(batch)).loss
                loss.backward()
    assert layer_class(model) is not FusedLayer
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    model.zero_grad()
    return loss.item(), gradients


@pytest.mark.parametrize("checkpointing", [False, "selective", True])
@pytest.mark.parametrize("modules", [ATTENTION, ["q_proj", "v_proj", "down_proj"], [*ATTENTION, *MLP], ["up_proj"]])
@pytest.mark.parametrize("model_type", FUSED_LAYER_TYPES)
def test_loss_and_gradients_are_those_of_the_libraries(small_model, model_type, modules, checkpointing):
    model = small_model(model_type, target_modules=modules, lora_alpha=6)
    loss, gradients = loss_and_gradients(model, torch.float32)
    ours, fused = loss_and_gradients(model, torch.float32, checkpointing)
    assert ours == pytest.approx(loss, rel=1e-6)
    assert len(gradients) == 2 * 2 * len(modules)
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(fused[name], gradient, rtol=1e-4, atol=1e-6)


def test_in_16_bits_they_are_about_as_near_to_the_exact_ones_as_the_libraries(small_model):
    exact = loss_and_gradients(small_model(), torch.float32)[1]
    model = small_model(kind=torch.bfloat16)
    libraries, ours = (loss_and_gradients(model, torch.bfloat16, way)[1] for way in (None, False))

    def error(gradients):
        return sum((gradients[name] - gradient).square().sum() for name, gradient in exact.items()).sqrt()

    assert all(gradient.dtype == torch.float32 for gradient in ours.values())
    assert error(ours) < 2 * error(libraries)  # which of them is nearer differs by seed
    assert error(ours) < 0.05 * sum(gradient.square().sum() for gradient in exact.values()).sqrt()


def test_weights_in_4_bits_are_unpacked(tiny_model_folder, with_adapter):
    settings = ModelSettings(quantization="nf4", compute_dtype="float32")
    model = with_adapter(load_base_model(tiny_model_folder, settings, "cpu"))
    loss, gradients = loss_and_gradients(model, torch.float32)
    ours, fused = loss_and_gradients(model, torch.float32, False)
    assert ours == pytest.approx(loss, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize(("compute_dtype", "error"), [("float32", 0.05), ("bfloat16", 0.2)])
def test_weights_in_8_bits(tiny_model_folder, with_adapter, monkeypatch, compute_dtype, error, integers):
    """Rounding to 8 bits makes much of a small difference, so the libraries' layers are met in the mean."""
    if integers and not cpu_capabilities().native_int8:
        pytest.skip("PyTorch's integer matmuls are wrong on a CPU without VNNI: their sums saturate at 16 bits")
    monkeypatch.setattr(int8, "integer_matmuls", lambda: integers)
    kind = getattr(torch, compute_dtype)
    settings = ModelSettings(quantization="int8", compute_dtype=compute_dtype)
    model = with_adapter(load_base_model(tiny_model_folder, settings, "cpu"))
    loss, gradients = loss_and_gradients(model, kind)
    ours, fused = loss_and_gradients(model, kind, False)
    assert ours == pytest.approx(loss, rel=0.01)
    for name, gradient in gradients.items():
        assert (fused[name] - gradient).norm() < error * gradient.norm()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda make: make(lora_dropout=0.1), id="dropout"),
        pytest.param(lambda make: make(use_dora=True), id="DoRA"),
        pytest.param(lambda make: make("qwen2"), id="bias"),
        pytest.param(lambda make: make("qwen3"), id="norms of queries and keys"),
        pytest.param(lambda make: make(modules_to_save=["input_layernorm"]), id="a norm that is trained"),
    ],
)
def test_other_models_and_adapters_keep_the_libraries_layers(model, small_model):
    model = model(small_model)
    library = layer_class(model)
    with fused_layers(model.get_base_model(), False):
        assert layer_class(model) is library
    with fused_layers(model.get_base_model(), "selective"):
        assert layer_class(model) is SelectiveLayer
    assert layer_class(model) is library


def test_all_weights_are_trained_by_the_libraries(small_sizes):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **small_sizes))
    with fused_layers(model, False):
        assert not any(isinstance(layer, FusedLayer) for layer in model.model.layers)


def test_two_projections_by_hand():
    """One input (1, 2); W = [[1, 0]] with A = [[1, 1]], B = [[2]], doubled; W = [[0, 3]] without an adapter."""
    bases = [nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)]
    bases[0].weight.data, bases[1].weight.data = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    matrices = [torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0]])]
    both = Projections(bases, [2.0, None], matrices)
    inputs = torch.tensor([[1.0, 2.0]])
    (first, second), low_rank = both.apply(inputs, matrices)
    assert (first.item(), second.item(), low_rank.item()) == (1 + 2 * 2 * 3, 6, 3)
    grads = [torch.tensor([[1.0]]), torch.tensor([[10.0]])]
    to_inputs, (to_down, to_up) = both.gradients(grads, inputs, low_rank, matrices)
    assert to_inputs.tolist() == [[1 + 2 * 2, 30 + 2 * 2]]
    assert to_down.tolist() == [[2 * 2 * 1, 2 * 2 * 2]]
    assert to_up.tolist() == [[2 * 3]]
    (added,), _ = Projections(bases[1:], [None], []).apply(inputs, [], residual=torch.tensor([[100.0]]))
    assert added.item() == 106


def test_a_quarter_turn_and_its_gradient_by_hand():
    # d = 4: (1, 3) and (2, 4) are pairs; the first turns by 90 degrees, the second not at all.
    cos, sin = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]]), torch.tensor([[[1.0, 0.0, 1.0, 0.0]]])
    vectors = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], requires_grad=True)
    turned = RotaryPositions.apply(vectors, cos, sin)
    assert turned.tolist() == [[[-3, 2, 1, 4]]]
    turned.backward(torch.tensor([[[1.0, 1.0, 0.0, 0.0]]]))
    assert vectors.grad.tolist() == [[[0, 1, -1, 0]]]


@pytest.mark.parametrize("changes", [{"lora_dropout": 0.1}, {"use_dora": True}, {}])
@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2"])
def test_the_estimator_knows_the_same_layers(small_model, model_type, changes):
    model = small_model(model_type, **changes)
    with fused_layers(model.get_base_model(), False):
        known = memory.has_fused_layers(model.config, LoraSettings(target_modules=ATTENTION, **changes), False)
        assert (layer_class(model) is FusedLayer) == known
