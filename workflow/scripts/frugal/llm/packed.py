"""Batches without padding: the rows of a batch stand end to end, and attention stays inside each segment.

A segment is a piece of one document, a whole example, or (where documents may see each other) a whole block.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface
from transformers.modeling_outputs import CausalLMOutput

from frugal.losses import chunked_cross_entropy

IGNORED = -100
#: Segments are padded to a multiple of this for products, whose code is compiled for each shape that they meet.
LENGTH_MULTIPLE = 64
#: Pairs of positions, for one head, that one product looks at: more do not fit into a processor's cache.
PAIRS_AT_ONCE = 2**19
#: Longer segments go through the fused kernel, which does not keep probabilities.
LONGEST_BY_PRODUCTS = 512


def collate(rows: Iterable[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """One long row out of many.

    Args:
        rows: `input_ids`; `segment_lengths`, their sum is the row's length, without it the row is one segment;
            `labels`, the tokens to be learnt, -100 elsewhere, without it all are.

    Returns:
        input_ids, position_ids (from 0 in each segment) and labels, int64, (1, tokens), and segments, int64,
        (segments,), their lengths. A label is the token that FOLLOWS its position; a segment's last has none.
    """
    rows = list(rows)
    segments = [length for row in rows for length in row.get("segment_lengths") or [len(row["input_ids"])]]
    input_ids = torch.tensor([token for row in rows for token in row["input_ids"]])
    labels = torch.tensor([token for row in rows for token in row.get("labels") or row["input_ids"]])
    lengths = torch.tensor(segments)
    labels = labels.roll(-1)
    labels[lengths.cumsum(0) - 1] = IGNORED
    positions = torch.cat([torch.arange(length) for length in segments])
    return {"input_ids": input_ids[None], "position_ids": positions[None], "labels": labels[None], "segments": lengths}


@dataclass(frozen=True)
class Segments:
    """Where the segments of a batch stand.

    Attributes:
        lengths: of each, in order.
        groups: int64, (segments, padded length): segments of one padded length, the tokens of each in a row, filled
            up with any token behind the last, where causal attention never looks.
        places: int64, (tokens,): where each token stands in the groups, all rows end to end.
    """

    lengths: list[int]
    groups: list[torch.Tensor]
    places: torch.Tensor


def find_segments(lengths: torch.Tensor) -> Segments:
    """Group segments of like length: padded to the same multiple of LENGTH_MULTIPLE."""
    starts = lengths.cumsum(0) - lengths
    padded = -(-lengths // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    groups, places, rows = [], torch.empty(int(lengths.sum()), dtype=torch.int64), 0
    for width in padded.unique().tolist():
        alike = (padded == width).nonzero().squeeze(1)
        for members in alike.split(max(1, PAIRS_AT_ONCE // width**2)):
            column = torch.arange(width)
            inside = column < lengths[members, None]
            tokens = starts[members, None] + column
            groups.append(torch.where(inside, tokens, 0))
            places[tokens[inside]] = rows + inside.flatten().nonzero().squeeze(1)
            rows += len(members) * width
    return Segments(lengths.tolist(), groups, places)


def segment_attention(
    module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    segments: Segments | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each segment, exact; transformers' AttentionInterface.

    Args:
        query: (1, heads, tokens, d); key and value may have fewer heads.

    Returns:
        (1, tokens, heads, d).
    """
    kind = query.dtype
    low = kind != torch.float32
    if query.device.type == "cpu" and low and max(segments.lengths) <= LONGEST_BY_PRODUCTS and dropout == 0:
        parts = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        return attention_by_products(*parts, segments, scaling)[None], None
    on_cpu = query.device.type == "cpu"
    if on_cpu:  # the fused kernel's 16-bit code is compiled for each length that it meets, and kept
        query, key, value = query.float(), key.float(), value.float()
    parts = zip(*(tensor.split(segments.lengths, dim=2) for tensor in (query, key, value)), strict=True)
    with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():  # it would go back to 16 bits
        outputs = [
            F.scaled_dot_product_attention(*part, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True)
            for part in parts
        ]
    return torch.cat(outputs, dim=2).transpose(1, 2).to(kind), None


def attention_by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, scaling: float
) -> torch.Tensor:
    """Attention as two matrix products, all segments of like length at once: (tokens, heads, d), as ``query``.

    On a CPU with 16-bit products this takes half the time of the fused kernel for segments of a few hundred
    tokens. It keeps the probabilities, heads x length x length numbers a segment.

    Args:
        query: (tokens, heads, d).
        key, value: (tokens, groups, d); ``heads`` is a multiple of ``groups``.
    """
    heads, size = query.shape[1:]
    groups = key.shape[1]
    outputs = []
    for tokens in segments.groups:
        count, length = tokens.shape

        def batch(tensor: torch.Tensor, tokens=tokens, count=count, length=length) -> torch.Tensor:
            """(segments x groups, heads of a group x length, d)."""
            rows = tensor.index_select(0, tokens.flatten()).view(count, length, groups, -1, size)
            return rows.permute(0, 2, 3, 1, 4).reshape(count * groups, -1, size)

        later = torch.full((length, length), float("-inf"), dtype=query.dtype).triu(1)
        mask = later.repeat(heads // groups, 1).expand(count * groups, -1, -1)
        scores = torch.baddbmm(mask, batch(query), batch(key).transpose(1, 2), alpha=scaling)
        attended = torch.bmm(scores.softmax(-1), batch(value))
        rows = attended.view(count, groups, heads // groups, length, size).permute(0, 3, 1, 2, 4)
        outputs.append(rows.reshape(count * length, heads, size))
    return torch.cat(outputs).index_select(0, segments.places)


AttentionInterface.register("segments", segment_attention)


@contextmanager
def packed_forward(model, loss_chunk_tokens: int | None) -> Iterator[None]:
    """Within it a causal language model, below its adapter, takes batches of `collate` and gives their loss.

    Only states whose next token is to be learnt meet the output layer.

    Args:
        loss_chunk_tokens: logits of so many tokens are held at once; None: of all.
    """

    def forward(input_ids, position_ids, labels, segments, num_items_in_batch=None, **kwargs):
        hidden = model.model(
            input_ids=input_ids, position_ids=position_ids, segments=find_segments(segments.cpu()), use_cache=False
        ).last_hidden_state[0]
        learnt = labels[0] != IGNORED
        hidden, targets = hidden[learnt], labels[0][learnt]
        weight = model.get_output_embeddings().weight
        if loss_chunk_tokens is None:
            loss = F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")
        else:
            loss = chunked_cross_entropy(hidden.to(weight.dtype), weight, None, targets, loss_chunk_tokens)
        return CausalLMOutput(loss=loss / (max(len(targets), 1) if num_items_in_batch is None else num_items_in_batch))

    attention = model.config._attn_implementation
    model.config._attn_implementation = "segments"
    model.forward = forward
    try:
        yield
    finally:
        del model.forward
        model.config._attn_implementation = attention
