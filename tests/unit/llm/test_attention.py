"""Attention within segments: who sees whom, whichever way it is computed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.llm.kernels.attention import (
    attend,
    by_group,
    segment_attention,
    ungroup,
)


def test_a_piece_by_group_by_hand():
    # 3 tokens, 4 heads, d = 1: token t's head h is 10 t + h. Two groups of two heads; 8 rows of each, padded.
    heads = (10 * torch.arange(3)[:, None] + torch.arange(4))[..., None].float()
    piece = by_group(heads, 1, 2, groups=2)
    assert piece.shape == (2, 8 * 2, 1)
    assert piece[0, :5, 0].tolist() == [10, 11, 20, 21, 0]
    assert piece[1, :5, 0].tolist() == [12, 13, 22, 23, 0]
    assert by_group(heads.bfloat16(), 1, 2, groups=2).shape == (2, 64 * 2, 1)
    back = torch.full_like(heads, -1)
    ungroup(piece, back, 1, 2)
    assert back[0].tolist() == [[-1]] * 4
    assert back[1:].tolist() == heads[1:].tolist()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.sampled_from([torch.float32, torch.bfloat16]))
def test_attention_is_causal_attention_of_each_segment(lengths, kind):
    torch.manual_seed(0)
    tokens = sum(lengths)
    query = torch.randn(1, 4, tokens, 8).to(kind).requires_grad_()
    key, value = (torch.randn(1, 2, tokens, 8).to(kind).requires_grad_() for _ in range(2))
    ours, _ = segment_attention(None, query, key, value, None, scaling=0.3, segments=lengths)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("longest", [2048, 2049])  # by matmuls, and by the library's kernel
def test_a_token_sees_itself_and_what_came_before_alone(longest, dtype):
    torch.manual_seed(0)
    query, key, value = (torch.randn(longest, 2, 16).to(dtype) for _ in range(3))
    before = attend(query, key, value, [longest], 0.25)
    key[300], value[300] = 0.0, 500.0  # a usual score, and a value that shows
    after = attend(query, key, value, [longest], 0.25)
    assert torch.equal(before[:300], after[:300])
    assert not torch.isclose(before[300:], after[300:]).all(-1).any()
