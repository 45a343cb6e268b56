"""Matmuls in float32 where a CPU emulates a type: the same values, and the library's own kernels are not called."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from frugal.run import emulation
from frugal.run.emulation import matmuls_in_float32


@pytest.fixture(autouse=True)
def _emulated(monkeypatch):
    """A CPU without bfloat16, and blocks of a few columns."""
    monkeypatch.setattr(emulation, "is_emulated", lambda dtype, device: dtype == "bfloat16")
    monkeypatch.setattr(emulation, "BLOCK", 40)


class Watch(TorchDispatchMode):
    """Fails where a matmul of 16-bit tensors reaches the library."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation in emulation.REPLACEMENTS:
            tensors = [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, torch.Tensor)]
            assert not any(tensor.dtype == torch.bfloat16 for tensor in tensors), operation
        return operation(*args, **(kwargs or {}))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


A, B, C, V = random(5, 7), random(7, 9, seed=1), random(5, 9, seed=2), random(9, seed=3)
BATCH_A, BATCH_B, BATCH_C = random(3, 5, 7), random(3, 7, 9, seed=1), random(3, 5, 9, seed=2)


@pytest.mark.parametrize(
    "compute",
    [
        lambda f: f(A) @ f(B),
        lambda f: torch.mm(f(A), f(B), out=f(C)),
        lambda f: torch.addmm(f(C), f(A), f(B), beta=0.5, alpha=2),
        lambda f: torch.addmm(f(V), f(A), f(B)),
        lambda f: f(C).addmm_(f(A), f(B), alpha=3),
        lambda f: f(C).addmm_(f(A), f(B), beta=0),
        lambda f: F.linear(f(A), f(B).t(), f(V)),
        lambda f: torch.bmm(f(BATCH_A), f(BATCH_B)),
        lambda f: f(BATCH_C).baddbmm_(f(BATCH_A), f(BATCH_B)),
        lambda f: torch.baddbmm(f(V), f(BATCH_A), f(BATCH_B), beta=2, alpha=0.5),
        lambda f: torch.einsum("bik,bkj->bij", f(BATCH_A), f(BATCH_B)),
        lambda f: F.scaled_dot_product_attention(*(f(random(1, 2, 6, 4, seed=s)) for s in range(3)), is_causal=True),
    ],
)
def test_values_are_those_of_float32_rounded_once(compute):
    exact = compute(lambda tensor: tensor.float().clone())
    with Watch(), matmuls_in_float32("cpu", "float32", "bfloat16"):
        found = compute(torch.clone)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=2**-8, atol=2**-8)


def test_gradients_too(monkeypatch):
    def gradients(convert):
        layer = torch.nn.Linear(7, 9)
        with torch.no_grad():
            layer.weight.copy_(B.t().float())
            layer.bias.copy_(V.float())
        layer, inputs = convert(layer), convert(A.float()).requires_grad_()
        query = convert(random(1, 2, 6, 4).float()).requires_grad_()
        F.scaled_dot_product_attention(query, query, query, is_causal=True).square().sum().backward()
        layer(inputs).square().sum().backward()
        return [tensor.grad.float() for tensor in (layer.weight, layer.bias, inputs, query)]

    exact = gradients(lambda value: value.float())
    with Watch(), matmuls_in_float32("cpu", "float32", "bfloat16"):
        found = gradients(lambda value: value.bfloat16())
    for ours, theirs in zip(found, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05 * theirs.abs().max().item())


def test_float32_and_other_devices_are_left_alone():
    with matmuls_in_float32("cpu", "float32") as mode:
        assert mode is None
    with matmuls_in_float32("cuda:0", "bfloat16") as mode:
        assert mode is None
    with matmuls_in_float32("cpu", "float32", "bfloat16"):
        torch.testing.assert_close(A.float() @ B.float(), A.float().double() @ B.double(), check_dtype=False)


def test_nothing_of_no_rows():
    with matmuls_in_float32("cpu", "float32", "bfloat16"):
        assert (A[:0] @ B).shape == (0, 9)
        assert (A @ B[:, :0]).shape == (5, 0)
