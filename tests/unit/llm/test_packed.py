"""Batches without padding: which tokens count, and that the loss is the model's own."""

import pytest
import torch

from frugal.config.llm import ModelSettings
from frugal.errors import FrugalError
from frugal.llm.loading import load_base_model
from frugal.llm.packed import IGNORED, collate, forward_arguments, packed_batches


def test_collate_by_hand():
    rows = [
        {"input_ids": [5, 6, 7, 8, 9], "segment_lengths": [3, 2]},
        {"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3]},
        {"input_ids": [4, 4, 4], "labels": [IGNORED, IGNORED, 4]},
    ]
    batch = collate(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 1, 2, 3, 4, 4, 4]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2, 0, 1, 2]]
    assert batch["segments"].tolist() == [3, 2, 3, 3]
    i = IGNORED  # the next token, but none behind a segment's last
    assert batch["labels"].tolist() == [[6, 7, i, 9, i, 2, 3, i, i, 4, i]]


@pytest.mark.parametrize("chunk", [None, 64])
def test_the_loss_is_that_of_each_segment_alone(tiny_model_folder, chunk):
    plain = ModelSettings(quantization="none", compute_dtype="float32")
    model = load_base_model(tiny_model_folder, plain, "cpu").eval()
    texts = [[10, 20, 30, 40], [50, 60], [70, 80, 90]]
    total = 0.0
    with torch.no_grad():
        for ids in texts:
            scores = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            total -= sum(scores[place, token].item() for place, token in enumerate(ids[1:]))
        rows = [{"input_ids": texts[0] + texts[1], "segment_lengths": [4, 2]}, {"input_ids": texts[2]}]
        with packed_batches(model, chunk):
            loss = model(**forward_arguments(collate(rows))).loss
    assert loss.item() == pytest.approx(total / 6, rel=1e-5)
    assert model(input_ids=torch.tensor([[1, 2]])).logits.shape[-1] == model.config.vocab_size


def test_a_model_whose_attention_cannot_be_replaced_is_refused(tiny_model_folder, monkeypatch):
    """transformers warns of it and keeps the attention, in which texts of a batch would see each other."""
    plain = ModelSettings(quantization="none", compute_dtype="float32")
    model = load_base_model(tiny_model_folder, plain, "cpu")
    monkeypatch.setattr(type(model), "_can_set_attn_implementation", lambda self: False)
    with (
        pytest.raises(FrugalError, match="LlamaForCausalLM: its attention cannot be kept within"),
        packed_batches(model, 64),
    ):
        pass
