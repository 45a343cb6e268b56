"""Small operations of a layer, each in one pass over memory.

Arrays in bfloat16 or float32 on a CPU go through fused.c (see `native.py`), on x86-64 and Arm alike.
Other dtypes, GPUs, CPUs for which it cannot be compiled, and FRUGAL_KERNELS=off use PyTorch, operation by operation,
which is several times slower on a CPU. In float32 the two differ by float32 rounding only, in bfloat16 by the rounding
of PyTorch's intermediate results.
"""

import ctypes
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F

from frugal.llm.kernels import enabled, native
from frugal.private.torch import softmax_gradient


def kernels(*tensors: torch.Tensor | None) -> ctypes.CDLL | None:
    """fused.c for these arrays, all of one dtype; None where PyTorch computes instead."""
    given = [tensor for tensor in tensors if tensor is not None]
    dtype = given[0].dtype
    if dtype not in native.DTYPES or not enabled():
        return None
    if not all(each.dtype == dtype and each.device.type == "cpu" and each.is_contiguous() for each in given):
        return None
    return native.library(dtype)


def call(function, *arguments: torch.Tensor | int | float | None) -> None:
    """Call a function of fused.c."""
    types = {int: ctypes.c_long, float: ctypes.c_float, type(None): lambda none: none}
    function(
        *(
            ctypes.c_void_p(each.data_ptr()) if isinstance(each, torch.Tensor) else types[type(each)](each)
            for each in arguments
        )
    )


def normalise(hidden: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """``hidden`` divided by its root mean square, and the inverse of that root mean square; both in float32."""
    hidden = hidden.float()
    inverse = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
    inverse = inverse.square_().div_(hidden.shape[-1]).add_(eps).rsqrt_()
    return hidden * inverse, inverse


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """(n, width), as in transformers' LlamaRMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    if c := kernels(hidden, weight):
        output = torch.empty_like(hidden)
        call(c.rms_norm, hidden, weight, output, *hidden.shape, eps)
        return output
    return normalise(hidden, eps)[0].to(hidden.dtype).mul_(weight)


def rms_norm_gradient(
    grad: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, eps: float, residual: torch.Tensor | None = None
) -> torch.Tensor:
    """The gradient of ``hidden``, from that of its norm, added to ``residual``; all (n, width)."""
    if c := kernels(grad, hidden, weight, residual):
        output = torch.empty_like(hidden)
        call(c.rms_norm_gradient, grad, hidden, weight, residual, output, *hidden.shape, eps)
        return output
    normed, inverse = normalise(hidden, eps)
    scaled = (grad * weight).float()
    along = (scaled * normed).mean(-1, keepdim=True)
    gradient = scaled.sub_(normed.mul_(along)).mul_(inverse).to(hidden.dtype)
    return gradient if residual is None else gradient.add_(residual)


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up`` (Shazeer 2020, arXiv:2002.05202, SwiGLU), (n, width)."""
    if c := kernels(gate, up):
        output = torch.empty_like(gate)
        call(c.gated, gate, up, output, gate.numel())
        return output
    return F.silu(gate).mul_(up)


def gated_gradients_(grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of ``gate``, in place of ``grad``, and of ``up``; all (n, width)."""
    if c := kernels(grad, gate, up):
        to_up = torch.empty_like(up)
        call(c.gated_gradients, grad, gate, up, to_up, grad.numel())
        return grad, to_up
    to_up = F.silu(gate).mul_(grad)
    to_gate = grad.mul_(up)
    torch.ops.aten.silu_backward.grad_input(to_gate, gate, grad_input=to_gate)
    return to_gate, to_up


def rotate(vectors: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, direction: int) -> torch.Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864): the two halves of d rotated as pairs.

    Args:
        vectors: (n, heads, d).
        cos, sin: (n, 1, d), as transformers computes them: the same for both halves.
        direction: 1 rotates, -1 rotates back.
    """
    if c := kernels(vectors, cos, sin):
        output = torch.empty_like(vectors)
        call(c.rotate, vectors, cos, sin, output, *vectors.shape, float(direction))
        return output
    first, second = vectors.chunk(2, -1)
    rotated = torch.cat((second, first), -1).mul_(sin)
    half = vectors.shape[-1] // 2
    rotated[..., :half].neg_() if direction == 1 else rotated[..., half:].neg_()
    return rotated.addcmul_(vectors, cos)


def gather_groups(tokens: torch.Tensor, padded: int, groups: int) -> torch.Tensor:
    """From (length, heads, d) to (groups, padded x heads of a group, d), with zeros after the last token."""
    length, heads, size = tokens.shape
    piece = tokens.new_empty(groups, padded, heads // groups, size)
    if c := kernels(tokens):
        call(c.gather_groups, tokens, piece, length, padded, groups, heads * size)
    else:
        piece[:, :length] = tokens.unflatten(1, (groups, -1)).transpose(0, 1)
        piece[:, length:] = 0
    return piece.flatten(1, 2)


def scatter_groups(piece: torch.Tensor, tokens: torch.Tensor) -> None:
    """The inverse of `gather_groups`: writes into ``tokens``."""
    groups, (length, heads, size) = len(piece), tokens.shape
    padded = piece.shape[1] * groups // heads
    if c := kernels(piece, tokens):
        call(c.scatter_groups, piece, tokens, length, padded, groups, heads * size)
        return
    rows = piece.view(groups, padded, heads // groups, size)[:, :length]
    tokens.unflatten(1, (groups, -1)).copy_(rows.transpose(0, 1))


def causal_softmax_(scores: torch.Tensor, first: int, heads: int, scaling: float) -> torch.Tensor:
    """The probabilities of a block of queries, in place; no query sees a later key.

    Args:
        scores: (groups, queries x heads, keys), the heads of one query next to each other.
        first: the index of the first query among the keys; the last query is the last key.
        scaling: multiplies the scores first.
    """
    groups, rows, keys = scores.shape
    if c := kernels(scores):
        call(c.causal_softmax, scores, groups, rows, keys, first, heads, scaling)
        return scores
    scores *= scaling
    scores[..., first:] += causal_mask(keys - first, heads, scores.dtype, scores.device)
    return torch.softmax(scores, -1)


@cache
def causal_mask(length: int, repeats: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(length x repeats, length): minus infinity where a key comes after the query, which has ``repeats`` rows."""
    mask = torch.full((length, length), float("-inf"), dtype=dtype, device=device).triu(1)
    return mask.repeat_interleave(repeats, 0)


def softmax_gradient_(grad: torch.Tensor, probabilities: torch.Tensor, scaling: float) -> torch.Tensor:
    """The gradient of the scores before their ``scaling``, in place of that of the probabilities."""
    if c := kernels(grad, probabilities):
        width = grad.shape[-1]
        call(c.softmax_gradient, grad, probabilities, grad.numel() // width, width, scaling)
        return grad
    return softmax_gradient(grad, probabilities).mul_(scaling)


class Quantized(NamedTuple):
    """Numbers in 8 bits, with one scale for each row: ``values * scales[:, None]``.

    Attributes:
        values: int8, (n, width).
        scales: float32, (n,).
    """

    values: torch.Tensor
    scales: torch.Tensor


def quantize(inputs: torch.Tensor, columns: torch.Tensor | None = None) -> Quantized:
    """Quantise each row so that its largest magnitude becomes 127.

    Args:
        inputs: (n, width).
        columns: float32, (width,): multiplies the columns first.
    """
    if c := kernels(inputs):
        values, scales = torch.empty_like(inputs, dtype=torch.int8), torch.empty(len(inputs))
        call(c.quantize, inputs, columns, values, scales, *inputs.shape)
        return Quantized(values, scales)
    numbers = inputs.float() if columns is None else inputs.float() * columns
    largest = numbers.abs().amax(-1)
    inverse = torch.where(largest > 1e-36, 127 / largest, 0)  # below, 127 / largest is no float
    return Quantized((numbers * inverse[:, None]).round_().to(torch.int8), largest / 127)


def dequantize(
    sums: torch.Tensor,
    scales: torch.Tensor,
    columns: torch.Tensor | None,
    residual: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """(n, width) in ``dtype``: the value of an integer matmul of `quantize`d numbers.

    Args:
        sums: int32, (n, width).
        scales: float32, (n,); columns: float32, (width,).
        residual: added to the result, in ``dtype``.
    """
    output = torch.empty_like(sums, dtype=dtype)
    if c := kernels(output, residual):
        call(c.dequantize, sums, scales, columns, residual, output, *sums.shape)
        return output
    numbers = sums * scales[:, None]
    if columns is not None:
        numbers *= columns
    if residual is not None:
        numbers += residual
    return output.copy_(numbers)


def dequantize_weights(values: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(rows, width) in ``dtype``: the value of `quantize`d weights.

    Args:
        values: int8, (rows, width); scales: float32, (rows,).
    """
    output = torch.empty_like(values, dtype=dtype)
    if c := kernels(output):
        call(c.dequantize_weights, values, scales, output, *values.shape)
        return output
    return output.copy_(values * scales[:, None])
