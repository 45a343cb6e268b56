"""Causal attention within segments: a batch is one long row of segments, and no token sees another segment.

Which code computes it, by device, dtype and longest segment (`attend`):

* GPU: PyTorch's fused kernel (`scaled_dot_product_attention`); where that does not take grouped heads, keys and values
  are repeated for each head of queries (`frugal.run.device.takes_grouped_heads`).
* CPU, segments of up to LONGEST_BY_MATMULS tokens, without dropout: `MatmulAttention`, which runs near the
  CPU's matmul peak. With AMX and bfloat16: `TileAttention` (`tiles.py`), where there is a compiler.
* CPU, otherwise: PyTorch's kernel in float32, because its 16-bit code is compiled for each new length.
* FRUGAL_KERNELS=off: PyTorch's kernel in the dtype of the model.
* Segments longer than the model's sliding window: PyTorch's kernel with a mask; a soft cap: `plain_attention`.

One thread of an AVX-512 BF16 CPU (Zen 4), 9 heads, 3 groups, d 64, ms for forward and backward: `MatmulAttention`,
PyTorch's kernel in float32:

| tokens | float32 | bfloat16 |
|---|---|---|
| 1 x 2,048 | 239, 273 | 135, 276 |
| 2 x 512 | 36, 57 | 23, 58 |
| 4 x 170 | 12, 15 | 11, 15 |
| 8 x 128 | 15, 17 | 12, 18 |
| 16 x 64 | 13, 11 | 11, 12 |
| 32 x 32 | 13, 8 | 22, 9 |

PyTorch limited to AVX2 takes as long in float32 (39 and 58 ms for 2 x 512).

Two threads of a Xeon with AMX, ms for forward and for backward in bfloat16, shortest of 12:

| tokens | `TileAttention` | `MatmulAttention` |
|---|---|---|
| 1 x 2,048 | 11, 31 | 21, 47 |
| 2 x 512 | 2.1, 4.7 | 4.7, 10 |
| 4 x 170 | 1.2, 2.6 | 2.9, 6.4 |
| 8 x 128 | 1.4, 3.2 | 3.0, 6.5 |
| 16 x 64 | 1.2, 2.8 | 4.0, 8.9 |
| 32 x 32 | 1.3, 2.6 | 7.5, 16 |
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface

from frugal.errors import FrugalError
from frugal.llm.kernels import LONGEST_BY_MATMULS, enabled
from frugal.llm.kernels.fused import causal_softmax_, gather_groups, scatter_groups, softmax_gradient_
from frugal.llm.kernels.tiles import TileAttention, tiles
from frugal.run.device import takes_grouped_heads

#: Queries of one block: no scores are computed for keys after the block, and its probabilities fit into a CPU's cache.
#: Smaller blocks compute less above the diagonal, larger ones make faster 16-bit matmuls.
BLOCK = {torch.float32: 64, torch.bfloat16: 128, torch.float16: 128}
#: Segments are padded to a multiple of this: oneDNN compiles 16-bit matmuls for each new shape, and float32 matmuls
#: are slower at lengths that do not fill a vector register.
LENGTH_MULTIPLE = {torch.float32: 8, torch.bfloat16: 64, torch.float16: 64}


def segment_attention(
    module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    segments: Sequence[int] = (),
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each segment, exact, as a function of transformers' AttentionInterface.

    Args:
        query: (1, heads, tokens, d); key and value may have fewer heads.
        segments: the length of each.
        sliding_window: the number of tokens that a token sees, itself included; None: all before it.
        softcap: of the scores (Gemma 2).

    Returns:
        (1, tokens, heads, d).

    Raises:
        FrugalError: the model does not say which segments its batch has.
    """
    if not segments:
        raise FrugalError(
            f"{type(module).__name__}: its attention does not receive the segments of a batch, so texts in it would "
            "see each other; choose a base model whose layers pass their keyword arguments on, as in Llama and Mistral"
        )
    parts = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    if softcap:
        return plain_attention(*parts, segments, scaling, dropout, sliding_window, softcap)[None], None
    return attend(*parts, segments, scaling, dropout, sliding_window)[None], None


AttentionInterface.register("segments", segment_attention)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Sequence[int],
    scaling: float,
    dropout: float = 0.0,
    window: int | None = None,
) -> torch.Tensor:
    """Causal attention within each segment, by the fastest code for this device, dtype and length; see the module.

    Args:
        query: (tokens, heads, d).
        key, value: (tokens, groups, d); ``heads`` is a multiple of ``groups``.
        window: the number of tokens that a token sees, itself included; None: all before it.

    Returns:
        (tokens, heads, d).
    """
    if window and window >= max(segments):
        window = None
    if not enabled():
        return library_attention(query, key, value, segments, scaling, dropout, window)
    dtype, on_cpu = query.dtype, query.device.type == "cpu"
    if on_cpu and max(segments) <= LONGEST_BY_MATMULS and dropout == 0 and dtype in BLOCK and not window:
        function = TileAttention if tiles(query, key, value) else MatmulAttention
        return function.apply(query, key, value, segments, scaling)
    if on_cpu:
        query, key, value = query.float(), key.float(), value.float()
    return library_attention(query, key, value, segments, scaling, dropout, window).to(dtype)


def library_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Sequence[int],
    scaling: float,
    dropout: float = 0.0,
    window: int | None = None,
) -> torch.Tensor:
    """Causal attention within each segment, by PyTorch's fused kernel in the dtype of its arguments.

    Args:
        window: as in `attend`.
    """
    on_cpu = query.device.type == "cpu"
    grouped = query.shape[1] != key.shape[1]
    if grouped and not takes_grouped_heads(str(query.dtype).removeprefix("torch."), str(query.device), bool(window)):
        key, value = (tensor.repeat_interleave(query.shape[1] // tensor.shape[1], dim=1) for tensor in (key, value))
        grouped = False
    gqa = on_cpu or grouped
    rows = (tensor.transpose(0, 1)[None].split(list(segments), dim=2) for tensor in (query, key, value))
    with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():  # which would cast back to 16 bits
        outputs = []
        for length, *parts in zip(segments, *rows, strict=True):
            mask = visible(length, window, query.device) if window and window < length else None
            output = F.scaled_dot_product_attention(
                *parts, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling, enable_gqa=gqa
            )
            outputs.append(output)
    return torch.cat(outputs, dim=2)[0].transpose(0, 1)


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Sequence[int],
    scaling: float,
    dropout: float,
    window: int | None,
    softcap: float,
) -> torch.Tensor:
    """`attend` with a soft cap of its scores, operation by operation: memory grows with a segment's length squared."""
    rows = (tensor.transpose(0, 1).split(list(segments), dim=1) for tensor in (query, key, value))
    outputs = []
    for length, *parts in zip(segments, *rows, strict=True):
        queries, keys, values = (part.repeat_interleave(query.shape[1] // len(part), dim=0) for part in parts)
        scores = (queries @ keys.transpose(1, 2)).float() * (scaling / softcap)
        scores = (scores.tanh() * softcap).masked_fill(~visible(length, window, query.device), float("-inf"))
        outputs.append(F.dropout(scores.softmax(-1).to(values.dtype), dropout) @ values)
    return torch.cat(outputs, dim=1).transpose(0, 1)


def visible(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """(length, length), bool: the keys that each query sees."""
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return causal.triu(1 - window) if window else causal


class MatmulAttention(torch.autograd.Function):
    """`attend` on a CPU, as matmuls over blocks of queries.

    Attention is softmax(scaling Q K^T) V (Vaswani et al. 2017, arXiv:1706.03762, equation 1), with its gradients block
    by block. Only queries, keys and values are kept. The backward pass recomputes the probabilities, which takes no
    longer than reading them from memory, because those of one block fit into the cache.
    """

    @staticmethod
    def forward(ctx, query, key, value, segments, scaling):
        ctx.save_for_backward(query, key, value)
        ctx.segments, ctx.scaling = segments, scaling
        output = query.new_empty(query.shape)
        with torch.autocast("cpu", enabled=False):  # which would cast softmax to float32
            for start, length in offsets(segments):
                keys, values = by_group(key, start, length), by_group(value, start, length)
                for first, last in query_blocks(length, query.dtype):
                    rows = by_group(query, start + first, last - first, len(keys))
                    attention = probabilities(rows, keys, first, scaling)
                    ungroup(attention @ values[:, : attention.shape[-1]], output, start + first, last - first)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        query, key, value = ctx.saved_tensors
        grad_query, grad_key, grad_value = (tensor.new_empty(tensor.shape) for tensor in (query, key, value))
        for start, length in offsets(ctx.segments):
            keys, values = by_group(key, start, length), by_group(value, start, length)
            grad_keys, grad_values = torch.zeros_like(keys), torch.zeros_like(values)
            for first, last in query_blocks(length, query.dtype):
                rows = by_group(query, start + first, last - first, len(keys))
                grad = by_group(grad_output, start + first, last - first, len(keys))
                attention = probabilities(rows, keys, first, ctx.scaling)
                seen = slice(attention.shape[-1])
                grad_values[:, seen].baddbmm_(attention.transpose(1, 2), grad)
                grad = grad @ values[:, seen].transpose(1, 2)
                grad = softmax_gradient_(grad, attention, ctx.scaling)
                grad_keys[:, seen].baddbmm_(grad.transpose(1, 2), rows)
                ungroup(grad @ keys[:, seen], grad_query, start + first, last - first)
            ungroup(grad_keys, grad_key, start, length)
            ungroup(grad_values, grad_value, start, length)
        return grad_query, grad_key, grad_value, None, None


def probabilities(rows: torch.Tensor, keys: torch.Tensor, first: int, scaling: float) -> torch.Tensor:
    """Attention probabilities of a block of queries, which begins at ``first``, over the keys up to its end.

    Args:
        rows: (groups, length x heads of a group, d); keys: (groups, length of the segment, d).

    Returns:
        (groups, length x heads of a group, keys).
    """
    last = min(first + BLOCK[rows.dtype], keys.shape[1])
    scores = rows @ keys[:, :last].transpose(1, 2)
    return causal_softmax_(scores, first, rows.shape[1] // (last - first), scaling)


def offsets(segments: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The start of each segment, and its length."""
    start = 0
    for length in segments:
        yield start, length
        start += length


def query_blocks(length: int, dtype: torch.dtype) -> Iterator[tuple[int, int]]:
    """The begin and the end of each block of queries in a segment."""
    for first in range(0, length, BLOCK[dtype]):
        yield first, min(first + BLOCK[dtype], length)


def padded(length: int, dtype: torch.dtype) -> int:
    multiple = LENGTH_MULTIPLE[dtype]
    return -(-length // multiple) * multiple


def by_group(tensor: torch.Tensor, start: int, length: int, groups: int | None = None) -> torch.Tensor:
    """A slice of (tokens, heads, d) as matmuls need it: (groups, padded length x heads of a group, d), zeros last."""
    return gather_groups(tensor[start : start + length], padded(length, tensor.dtype), groups or tensor.shape[1])


def ungroup(piece: torch.Tensor, target: torch.Tensor, start: int, length: int) -> None:
    """The inverse of `by_group`: writes a slice back into ``target``, (tokens, heads, d)."""
    scatter_groups(piece, target[start : start + length])
