"""Of torch, read in 2.13.0."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def int8_matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Int32, (n, m), of int8, (n, k) and (k, m).

    No public matmul takes int8 on a CPU: `torch.nn.functional.scaled_mm` wants float8. Without it, int8 runs fail.
    """
    return torch._int_mm(left, right)


def softmax_gradient(grad: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """The gradient of the scores from that of their probabilities, both (..., width).

    Public is only autograd, which computes the softmax again. Without it, training fails where fused.c is not built.
    """
    return torch._softmax_backward_data(grad, probabilities, -1, grad.dtype)


def dispatch_mode() -> type[TorchDispatchMode]:
    """`TorchDispatchMode`: takes every operation below autograd, the backward pass's too.

    The public `torch.overrides.TorchFunctionMode` stands above autograd and does not see the backward pass. Without it,
    no training starts.
    """
    return TorchDispatchMode


def cpu_attention() -> tuple[Any, Any]:
    """The operators behind `scaled_dot_product_attention` on a CPU, forward and backward, as a dispatch mode sees them.

    Under another name they would not be replaced: right results, but at the speed of emulated 16-bit matmuls.
    """
    aten = torch.ops.aten
    return (
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
    )
