"""Batches without padding: the rows of a batch are concatenated, and attention stays inside each segment.

A segment is a piece of one document, a whole example, or (where documents may see each other) a whole block.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import frugal.llm.kernels.attention  # noqa: F401  (registers the attention "segments")
from frugal.errors import FrugalError
from frugal.losses import chunked_cross_entropy
from frugal.private.transformers import attention_name

IGNORED = -100


def collate(rows: Iterable[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Concatenate rows into one.

    Args:
        rows: `input_ids`; `segment_lengths`, whose sum is the row's length (without it, the row is one segment);
            `labels`, the loss tokens, -100 elsewhere (without it, all tokens are loss tokens).

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


def forward_arguments(batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The arguments of a model within `packed_batches`, from a batch of `collate`: only loss tokens reach its head."""
    labels = batch["labels"][0]
    loss_tokens = (labels != IGNORED).nonzero().squeeze(-1)
    return {
        **batch,
        "segments": batch["segments"].tolist(),
        "labels": labels[loss_tokens],
        "logits_to_keep": loss_tokens,
        "use_cache": False,
    }


class PassThroughHead(nn.Module):
    """An output layer that returns its input, (1, n, hidden), and keeps its weight for the loss to multiply with."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.weight = head.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


@contextmanager
def packed_batches(model, loss_chunk_tokens: int | None) -> Iterator[None]:
    """Within it, a causal language model takes `forward_arguments` and returns their mean loss.

    Args:
        model: without its adapter's wrapper (`get_base_model`).
        loss_chunk_tokens: the number of tokens whose logits are in memory at once; None: all.

    Raises:
        FrugalError: the model's attention cannot be replaced.
    """
    head, loss_function = model.get_output_embeddings(), model.loss_function
    attention = attention_name(model)

    # A soft cap is no matrix product: such a model computes its logits itself, all at once.
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)

    def loss_of_hidden_states(logits, labels, vocab_size=None, num_items_in_batch=None, **kwargs):
        if softcap:
            loss = F.cross_entropy(logits[0].float(), labels, reduction="sum")
        elif loss_chunk_tokens is None:
            loss = F.cross_entropy(head(logits[0]).float(), labels, reduction="sum")
        else:
            hidden, bias = logits[0].to(head.weight.dtype), getattr(head, "bias", None)  # of the PassThroughHead
            loss = chunked_cross_entropy(hidden, head.weight, bias, labels, loss_chunk_tokens)
        return loss / (max(len(labels), 1) if num_items_in_batch is None else num_items_in_batch)

    model.set_attn_implementation("segments")
    if attention_name(model) != "segments":  # transformers only warns, and texts in a batch would see each other
        raise FrugalError(
            f"{type(model).__name__}: its attention cannot be kept within one text of a batch. Choose a base model "
            "whose attention goes through transformers' AttentionInterface, as in Llama and Mistral"
        )
    if not softcap:
        model.set_output_embeddings(PassThroughHead(head))
    model.loss_function = loss_of_hidden_states
    try:
        yield
    finally:
        model.loss_function = loss_function
        model.set_output_embeddings(head)
        model.set_attn_implementation(attention)
