"""Batches without padding: the rows of a batch stand end to end, and attention stays inside each segment.

A segment is a piece of one document, a whole example, or (where documents may see each other) a whole block.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from transformers.modeling_outputs import CausalLMOutput

import frugal.llm.attention  # noqa: F401  (its name is registered)
from frugal.losses import chunked_cross_entropy

IGNORED = -100


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


@contextmanager
def packed_forward(model, loss_chunk_tokens: int | None) -> Iterator[None]:
    """Within it a causal language model, below its adapter, takes batches of `collate` and gives their loss.

    Only states whose next token is to be learnt meet the output layer.

    Args:
        loss_chunk_tokens: logits of so many tokens are held at once; None: of all.
    """

    def forward(input_ids, position_ids, labels, segments, num_items_in_batch=None, **kwargs):
        hidden = model.model(
            input_ids=input_ids, position_ids=position_ids, segments=segments.tolist(), use_cache=False
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
