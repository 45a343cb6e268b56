"""Recommenders small enough to work out by hand."""

import pytest
import torch

from frugal.recsys.modeling import MODELS


@pytest.fixture
def make_model():
    """A model of 7 items and 3 users, ready for evaluation; its weights are large, so that scores differ."""

    def make(kind: str, seed: int = 0, **changes):
        shape = {
            "item_count": 7,
            "user_count": 3,
            "hidden_size": 4,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 8,
            "max_position_embeddings": 6,
            "initializer_range": 0.5,
        }
        if kind == "ssept":
            shape["user_embedding_size"] = 4
        torch.manual_seed(seed)
        model = MODELS[kind](MODELS[kind].config_class(**{**shape, **changes})).eval()
        with torch.no_grad():
            model.item_bias.normal_()
        return model

    return make


@pytest.fixture
def make_batch():
    """Rows of items as a batch of next-item prediction, user 0 first."""

    def make(*rows: list[int]) -> dict[str, torch.Tensor]:
        longest = max(map(len, rows)) - 1
        ids, labels = torch.zeros(len(rows), longest, dtype=torch.int64), torch.full((len(rows), longest), -100)
        for row, items in enumerate(rows):
            ids[row, : len(items) - 1] = torch.tensor(items[:-1])
            labels[row, : len(items) - 1] = torch.tensor(items[1:])
        lengths = torch.tensor([len(items) - 1 for items in rows])
        return {"input_ids": ids, "labels": labels, "lengths": lengths, "user_ids": torch.arange(len(rows))}

    return make
