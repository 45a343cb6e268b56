"""Frozen linear layers in 8 bits: matmuls by hand, and how far they are from those in float32."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from frugal.llm.kernels import int8
from frugal.llm.kernels.int8 import Int8Linear, to_int8
from frugal.run.device import Capabilities, cpu_capabilities


@pytest.fixture(params=[True, False], ids=["integers", "dequantised"])
def integers(request, monkeypatch):
    """Both ways, whichever is faster on this CPU."""
    if request.param and not cpu_capabilities().native_int8:
        pytest.skip("PyTorch's integer matmuls are wrong on a CPU without VNNI: their sums saturate at 16 bits")
    monkeypatch.setattr(int8, "integer_matmuls", lambda: request.param)
    return request.param


def layer_of(weight: torch.Tensor) -> Int8Linear:
    layer = nn.Linear(*weight.shape[::-1], bias=False)
    layer.weight.data = weight
    return Int8Linear(layer)


@pytest.mark.parametrize("block", [int8.BLOCK_WEIGHTS, 3])  # all outputs at once, or one after the other
def test_a_matmul_and_its_gradient_by_hand(integers, monkeypatch, block):
    monkeypatch.setattr(int8, "BLOCK_WEIGHTS", block)
    # Scales are 2 and 1 for the two outputs, 3 for the one input; nothing needs rounding.
    layer = layer_of(torch.tensor([[254.0, 0.0], [-127.0, 64.0]]))
    assert (layer.weight.tolist(), layer.scale.tolist()) == ([[127, 0], [-127, 64]], [2, 1])
    inputs = torch.tensor([[381.0, 3.0]])
    assert layer.matmul(inputs).tolist() == [[254 * 381, -127 * 381 + 64 * 3]]
    residual = torch.tensor([[1.0, 2.0]])
    assert layer.matmul(inputs, residual=residual).tolist() == [[254 * 381 + 1, -127 * 381 + 64 * 3 + 2]]
    # (63.5, 1) of the outputs is (127, 1) with the weights' scales.
    assert layer.matmul_gradient(torch.tensor([[63.5, 1.0]])).tolist() == [[127 * 127 - 127, 64]]
    assert layer.matmul_gradient(torch.tensor([[63.5, 1.0]]), residual).tolist() == [[127 * 127 - 127 + 1, 64 + 2]]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 64), (2, 17, 64), (1, 1, 64)])
def test_matmuls_are_within_a_hundredth(shape, kind, integers):
    torch.manual_seed(0)
    weight, inputs = torch.randn(48, 64), torch.randn(shape)
    exact, ours = inputs.clone().requires_grad_(), inputs.to(kind).requires_grad_()
    expected, found = exact @ weight.t(), layer_of(weight)(ours)
    assert (found.dtype, found.shape) == (kind, expected.shape)
    grad = torch.randn_like(expected)
    expected.backward(grad)
    found.backward(grad.to(kind))
    for one, other in ((found, expected), (ours.grad, exact.grad)):
        assert (one.float() - other).norm() < 0.02 * other.norm()


def test_linear_layers_without_bias_become_8_bit_and_nothing_else(small_sizes, integers):
    config = AutoConfig.for_model("qwen2", **small_sizes)  # its queries, keys and values have biases
    model = AutoModelForCausalLM.from_config(config)
    to_int8(model)
    converted = {name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, Int8Linear)}
    assert converted == {"o_proj", "gate_proj", "up_proj", "down_proj"}
    assert not any(weight.requires_grad for name, weight in model.named_parameters() if weight.dtype == torch.int8)
    assert model(input_ids=torch.arange(6)[None]).logits.shape == (1, 6, 64)


@pytest.mark.parametrize(
    ("instructions", "native", "expected"),
    [
        ("AVX-512 VNNI", True, True),
        ("AVX-512 BF16", True, True),
        ("AVX-512 BF16", False, False),
        ("AMX", True, False),
        ("AVX2", False, False),
        ("NEON BF16", True, False),
    ],
)
def test_integers_are_multiplied_where_that_is_known_to_be_faster(monkeypatch, instructions, native, expected):
    monkeypatch.setattr(int8, "cpu_capabilities", lambda: Capabilities(instructions, True, native))
    assert int8.integer_matmuls() == expected
