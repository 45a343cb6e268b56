"""Matmuls of 16-bit tensors on a CPU without 16-bit matmuls: in float32, block by block.

oneDNN emulates them there, at a twentieth of float32's speed. Converting the factors costs little beside that, and
in blocks it takes little memory, so that what is measured in an emulated type costs about what float32 does.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from frugal.private.torch import cpu_attention, dispatch_mode
from frugal.run.device import is_emulated

#: Elements of a block in float32: 8 MB.
BLOCK = 2**21
aten = torch.ops.aten
ATTENTION, ATTENTION_GRADIENT = cpu_attention()


def matmuls_in_float32(device: str, *dtypes: str) -> AbstractContextManager:
    """Within it, 16-bit matmuls are computed in float32 where ``device`` is a CPU that emulates one of ``dtypes``."""
    emulated = device == "cpu" and any(is_emulated(dtype, device) for dtype in dtypes)
    return _Float32Matmuls() if emulated else nullcontext()


class _Float32Matmuls(dispatch_mode()):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        replacement = REPLACEMENTS.get(operation)
        if replacement is None or not any(map(_is_16_bit, (*args, *kwargs.values()))):
            return operation(*args, **kwargs)
        return replacement(*args, **kwargs)


def _is_16_bit(value: Any) -> bool:
    """Whether an operation's argument is a 16-bit tensor on the CPU."""
    is_on_cpu = isinstance(value, torch.Tensor) and value.device.type == "cpu"
    return is_on_cpu and value.dtype in (torch.bfloat16, torch.float16)


def _matmul(
    added: torch.Tensor | None,
    left: torch.Tensor,
    right: torch.Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """``beta * added + alpha * left @ right``, of matrices or of batches of them; ``added`` may be ``out``.

    By blocks of the columns of ``right``; a batch's matrices one after the other.
    """
    if out is None:
        out = left.new_empty(*left.shape[:-1], right.shape[-1])
    if added is not None:
        added = added.expand(out.shape)
    if left.dim() == 3:
        for batch in range(len(left)):
            one = None if added is None else added[batch]
            _matmul(one, left[batch], right[batch], beta=beta, alpha=alpha, out=out[batch])
        return out
    wide = left.float()
    step = max(1, BLOCK // max(1, right.shape[0], left.shape[0]))
    for first in range(0, right.shape[1], step):
        columns = slice(first, first + step)
        block = torch.mm(wide, right[:, columns].float())
        if alpha != 1:
            block *= alpha
        if added is not None and beta != 0:
            block.add_(added[:, columns], alpha=beta)
        out[:, columns] = block
    return out


def _in_place(added: torch.Tensor, left: torch.Tensor, right: torch.Tensor, **factors: float) -> torch.Tensor:
    return _matmul(added, left, right, out=added, **factors)


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    output, logsumexp = ATTENTION(query.float(), key.float(), value.float(), *args, **kwargs)
    return output.to(query.dtype), logsumexp


def _attention_gradient(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    wide = (tensor.float() for tensor in (grad, query, key, value, output))
    gradients = ATTENTION_GRADIENT(*wide, *args, **kwargs)
    return tuple(gradient.to(query.dtype) for gradient in gradients)


REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((aten.mm.default, aten.mm.out, aten.bmm.default, aten.bmm.out), partial(_matmul, None)),
    **dict.fromkeys((aten.addmm.default, aten.addmm.out, aten.baddbmm.default, aten.baddbmm.out), _matmul),
    **dict.fromkeys((aten.addmm_.default, aten.baddbmm_.default), _in_place),
    ATTENTION: _attention,
    ATTENTION_GRADIENT: _attention_gradient,
}
