"""FRUGAL_KERNELS=off: the libraries' layers, attention and operations, with the same result within rounding."""

import pytest
import torch
from peft.helpers import disable_input_dtype_casting

from frugal.errors import FrugalError
from frugal.llm import kernels
from frugal.llm.kernels import attention, fused, int8, native
from frugal.llm.kernels.layers import FusedLayer, fused_layers
from frugal.llm.packed import collate, forward_arguments, packed_batches


def loss_and_gradients(model, dtype: torch.dtype):
    base = model.get_base_model()
    rows = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(1)).tolist()
    batch = collate({"input_ids": row, "segment_lengths": [10, 14]} for row in rows)
    mixed = dtype == torch.bfloat16
    with (
        packed_batches(base, 16),
        fused_layers(base, False),
        torch.autocast("cpu", torch.bfloat16, enabled=mixed),
        disable_input_dtype_casting(model, active=mixed),
    ):
        assert isinstance(base.model.layers[0], FusedLayer) == kernels.enabled()
        loss = model(**forward_arguments(batch)).loss
        loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    model.zero_grad()
    return loss.item(), gradients


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_without_kernels_the_result_is_the_same_within_rounding(small_model, monkeypatch, dtype, error):
    def unused(*arguments):
        raise AssertionError("a kernel was used")

    model = small_model(kind=dtype)
    loss, gradients = loss_and_gradients(model, dtype)
    monkeypatch.setenv(kernels.SWITCH, "off")
    monkeypatch.setattr(native, "library", unused)
    monkeypatch.setattr(attention.MatmulAttention, "forward", unused)
    library_loss, library_gradients = loss_and_gradients(model, dtype)
    assert library_loss == pytest.approx(loss, rel=error / 10)
    for name, gradient in gradients.items():
        assert (library_gradients[name] - gradient).norm() < error * gradient.norm()


def test_without_kernels_8_bit_weights_are_dequantised(monkeypatch):
    monkeypatch.setenv(kernels.SWITCH, "off")
    assert not int8.integer_matmuls()
    assert fused.kernels(torch.ones(2, 2)) is None


def test_another_value_of_the_switch_is_refused(monkeypatch):
    monkeypatch.setenv(kernels.SWITCH, "0")
    with pytest.raises(FrugalError, match="FRUGAL_KERNELS is '0'; set it to 'on' or 'off', or unset it"):
        kernels.enabled()
