"""Causal attention by AMX tiles: tiles.c, for bfloat16 on CPUs that have them."""

import ctypes
from collections.abc import Sequence

import torch
from torch.autograd.function import once_differentiable

from frugal.llm.kernels import native
from frugal.llm.kernels.fused import call

#: Heads are packed into tiles of 32 numbers.
HEAD_MULTIPLE = 32


def tiles(*tensors: torch.Tensor) -> ctypes.CDLL | None:
    """tiles.c for queries, keys and values; None where another implementation of attention has to be used."""
    if any(each.dtype != torch.bfloat16 or each.device.type != "cpu" for each in tensors):
        return None
    if tensors[0].shape[-1] % HEAD_MULTIPLE:
        return None
    c = native.library(torch.bfloat16)
    # Without AMX, and by compilers that do not know it, the functions are left out.
    return c if c and hasattr(c, "tiles_ready") and c.tiles_ready() else None


class TileAttention(torch.autograd.Function):
    """`frugal.llm.kernels.attention.attend` in tiles.c, where `tiles` has found it.

    Attention is softmax(scaling Q K^T) V (Vaswani et al. 2017, arXiv:1706.03762, equation 1). The backward pass
    recomputes the probabilities from each query's logarithm of the sum of exponentials, as in FlashAttention (Dao et
    al. 2022, arXiv:2205.14135). Sums are in float32, across keys, queries and the heads of a group.
    """

    @staticmethod
    def forward(ctx, query, key, value, segments, scaling):
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        output, log_sums = torch.empty_like(query), torch.empty(query.shape[1], len(query))
        ctx.save_for_backward(query, key, value, log_sums)
        ctx.segments, ctx.scaling = segments, scaling
        arguments = layout(query, key, segments, scaling)
        call(tiles(query).tile_attention, query, key, value, output, log_sums, *arguments)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        query, key, value, log_sums = ctx.saved_tensors
        grad_query, of_heads = torch.empty_like(query), (torch.empty_like(query), torch.empty_like(query))
        arguments = layout(query, key, ctx.segments, ctx.scaling)
        c, inputs = tiles(query), (grad_output.contiguous(), query, key, value, log_sums)
        call(c.tile_attention_gradient, *inputs, grad_query, *of_heads, *arguments)
        grads = torch.empty_like(key), torch.empty_like(value)
        for part, grad in zip(of_heads, grads, strict=True):
            call(c.sum_heads, part, grad, key.shape[0] * key.shape[1], query.shape[1] // key.shape[1], key.shape[2])
        return grad_query, *grads, None, None


def layout(query: torch.Tensor, key: torch.Tensor, segments: Sequence[int], scaling: float) -> list:
    """The last arguments of both functions of tiles.c: where segments start, memory for each thread, sizes, scaling."""
    (tokens, heads, width), groups, threads = query.shape, key.shape[1], torch.get_num_threads()
    each = tiles(query).tile_attention_memory(ctypes.c_long(max(segments)), ctypes.c_long(width))
    memory = torch.empty((threads + 1) * each, dtype=torch.uint8)
    memory = memory[-memory.data_ptr() % 64 :]
    starts = torch.tensor([0, *segments]).cumsum(0)
    return [starts, memory, each, threads, len(segments), tokens, heads, groups, width, scaling]
