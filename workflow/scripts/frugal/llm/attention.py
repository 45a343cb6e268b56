"""Causal attention within segments: a batch is one long row of them, and none sees another."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface

from frugal.llm.fused import causal_softmax_, gather_groups, scatter_groups, softmax_gradient_

#: Queries are looked at in blocks of so many positions: what lies behind a block is never computed, and its
#: probabilities fit into a processor's cache.
BLOCK = 128
#: Segments are padded to a multiple of this for products, whose code is compiled for each shape that they meet.
LENGTH_MULTIPLE = 64
#: Longer segments go through the fused kernel, which does not keep probabilities.
LONGEST_BY_PRODUCTS = 512


def segment_attention(
    module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    segments: Sequence[int] = (),
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each segment, exact; transformers' AttentionInterface.

    Args:
        query: (1, heads, tokens, d); key and value may have fewer heads.
        segments: the length of each.

    Returns:
        (1, tokens, heads, d).
    """
    parts = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return attend(*parts, segments, scaling, dropout)[None], None


AttentionInterface.register("segments", segment_attention)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Sequence[int],
    scaling: float,
    dropout: float = 0.0,
) -> torch.Tensor:
    """The same, by matrix products or by the library's fused kernel, whichever is faster.

    Args:
        query: (tokens, heads, d).
        key, value: (tokens, groups, d); ``heads`` is a multiple of ``groups``.

    Returns:
        (tokens, heads, d).
    """
    kind, on_cpu = query.dtype, query.device.type == "cpu"
    if on_cpu and kind != torch.float32 and max(segments) <= LONGEST_BY_PRODUCTS and dropout == 0:
        return AttentionByProducts.apply(query, key, value, segments, scaling)
    if on_cpu:  # the fused kernel's 16-bit code is compiled for each length that it meets, and kept
        query, key, value = query.float(), key.float(), value.float()
    rows = (tensor.transpose(0, 1)[None].split(list(segments), dim=2) for tensor in (query, key, value))
    with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():  # it would go back to 16 bits
        outputs = [
            F.scaled_dot_product_attention(*part, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True)
            for part in zip(*rows, strict=True)
        ]
    return torch.cat(outputs, dim=2)[0].transpose(0, 1).to(kind)


class AttentionByProducts(torch.autograd.Function):
    """`attend` as matrix products, for segments of a few hundred tokens in 16 bits on a CPU.

    The gradients are those of Vaswani et al. 2017 (arXiv:1706.03762, equation 1), block by block. The probabilities,
    heads x length x (length + BLOCK) / 2 numbers a segment, are computed again for them: that takes no longer than
    to keep them, because a block's are still in the cache.
    """

    @staticmethod
    def forward(ctx, query, key, value, segments, scaling):
        output = query.new_empty(query.shape)
        with torch.autocast("cpu", enabled=False):  # it would take softmax to 32 bits
            for start, length in places(segments):
                keys, values = by_group(key, start, length), by_group(value, start, length)
                for first, last in blocks(length):
                    rows = by_group(query, start + first, last - first, len(keys))
                    attention = probabilities(rows, keys, first, scaling)
                    spread(attention @ values[:, : attention.shape[-1]], output, start + first, last - first)
        ctx.save_for_backward(query, key, value)
        ctx.segments, ctx.scaling = segments, scaling
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        query, key, value = ctx.saved_tensors
        grad_query, grad_key, grad_value = (tensor.new_empty(tensor.shape) for tensor in (query, key, value))
        for start, length in places(ctx.segments):
            keys, values = by_group(key, start, length), by_group(value, start, length)
            grad_keys, grad_values = torch.zeros_like(keys), torch.zeros_like(values)
            for first, last in blocks(length):
                rows = by_group(query, start + first, last - first, len(keys))
                grad = by_group(grad_output, start + first, last - first, len(keys))
                attention = probabilities(rows, keys, first, ctx.scaling)
                seen = slice(attention.shape[-1])
                grad_values[:, seen].baddbmm_(attention.transpose(1, 2), grad)
                grad = grad @ values[:, seen].transpose(1, 2)
                grad = softmax_gradient_(grad, attention, ctx.scaling)
                grad_keys[:, seen].baddbmm_(grad.transpose(1, 2), rows)
                spread(grad @ keys[:, seen], grad_query, start + first, last - first)
            spread(grad_keys, grad_key, start, length)
            spread(grad_values, grad_value, start, length)
        return grad_query, grad_key, grad_value, None, None


def probabilities(rows: torch.Tensor, keys: torch.Tensor, first: int, scaling: float) -> torch.Tensor:
    """What a block of queries, the first of which is ``first``, gives to the keys up to its end.

    Args:
        rows: (groups, length x heads of a group, d); keys: (groups, length of the segment, d).

    Returns:
        (groups, length x heads of a group, keys).
    """
    last = min(first + BLOCK, keys.shape[1])
    scores = rows @ keys[:, :last].transpose(1, 2)
    return causal_softmax_(scores, first, rows.shape[1] // (last - first), scaling)


def places(segments: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where each segment starts, and its length."""
    start = 0
    for length in segments:
        yield start, length
        start += length


def blocks(length: int) -> Iterator[tuple[int, int]]:
    """Where each block of queries begins and ends in a segment."""
    for first in range(0, length, BLOCK):
        yield first, min(first + BLOCK, length)


def padded(length: int) -> int:
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def by_group(tensor: torch.Tensor, start: int, length: int, groups: int | None = None) -> torch.Tensor:
    """A piece of (tokens, heads, d) for products: (groups, padded length x heads of a group, d), zeros at its end."""
    return gather_groups(tensor[start : start + length], padded(length), groups or tensor.shape[1])


def spread(piece: torch.Tensor, target: torch.Tensor, start: int, length: int) -> None:
    """The way back of `by_group`: writes a piece to its place in ``target``, (tokens, heads, d)."""
    scatter_groups(piece, target[start : start + length])
