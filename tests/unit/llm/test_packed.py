"""Batches without padding: what is learnt, who sees whom, and that the loss is the model's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.config.llm import ModelSettings
from frugal.llm.loading import load_base_model
from frugal.llm.packed import IGNORED, collate, find_segments, packed_forward, segment_attention


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


def test_segments_of_like_length_stand_together():
    # 70 and 100 are padded to 128, 10 to 64: its group comes first, and its tokens are 70 to 79.
    segments = find_segments(torch.tensor([70, 10, 100]))
    assert [tuple(group.shape) for group in segments.groups] == [(1, 64), (2, 128)]
    assert segments.groups[0][0, :10].tolist() == list(range(70, 80))
    assert segments.groups[1][1, 99].item() == 179
    assert segments.places[[70, 0, 80]].tolist() == [0, 64, 64 + 128]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=6), st.sampled_from([torch.float32, torch.bfloat16]))
def test_attention_is_causal_attention_of_each_segment(lengths, kind):
    torch.manual_seed(0)
    tokens = sum(lengths)
    query = torch.randn(1, 4, tokens, 8).to(kind).requires_grad_()
    key, value = (torch.randn(1, 2, tokens, 8).to(kind).requires_grad_() for _ in range(2))
    segments = find_segments(torch.tensor(lengths))
    ours, _ = segment_attention(None, query, key, value, None, scaling=0.3, segments=segments)
    exact = [tensor.detach().float().requires_grad_() for tensor in (query, key, value)]
    scores = exact[0] @ exact[1].repeat_interleave(2, dim=1).transpose(2, 3) * 0.3
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    seen = (owner[:, None] == owner) & torch.ones(tokens, tokens, dtype=torch.bool).tril()
    theirs = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ exact[2].repeat_interleave(2, dim=1)
    tolerance = {"rtol": 0, "atol": 1e-5 if kind == torch.float32 else 0.05}
    torch.testing.assert_close(ours.float(), theirs.transpose(1, 2), **tolerance)
    weights = torch.randn_like(theirs)
    (ours.float() * weights.transpose(1, 2)).sum().backward()
    (theirs * weights).sum().backward()
    tolerance = {"rtol": 0, "atol": 1e-4 if kind == torch.float32 else 0.3}
    for mine, other in zip((query, key, value), exact, strict=True):
        torch.testing.assert_close(mine.grad.float(), other.grad, **tolerance)


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
        with packed_forward(model, chunk):
            loss = model(**collate(rows)).loss
    assert loss.item() == pytest.approx(total / 6, rel=1e-5)
    assert model(input_ids=torch.tensor([[1, 2]])).logits.shape[-1] == model.config.vocab_size
