"""Attention within segments: who sees whom, whichever way it is computed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.config.llm import ModelSettings
from frugal.llm import loading
from frugal.llm.kernels import attention
from frugal.llm.kernels.attention import (
    attend,
    by_group,
    segment_attention,
    ungroup,
)
from frugal.private.transformers import attention_name


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


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("window", [None, 3])
def test_keys_are_repeated_where_the_fused_kernel_takes_no_grouped_heads(monkeypatch, heads, window):
    """As on a T4, or in float32 on any GPU: the kernel gets as many heads of keys as of queries."""
    torch.manual_seed(0)
    query = torch.randn(9, heads, 8, requires_grad=True)
    key, value = (torch.randn(9, 2, 8, requires_grad=True) for _ in range(2))
    kernel, seen = torch.nn.functional.scaled_dot_product_attention, []

    def counted(query, key, value, **options):
        seen.append((query.shape[1], key.shape[1], value.shape[1]))
        return kernel(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    results = {}
    for grouped in (True, False):
        monkeypatch.setattr(attention, "takes_grouped_heads", lambda *arguments, grouped=grouped: grouped)
        output = attention.library_attention(query, key, value, [6, 3], 0.3, window=window)
        gradients = torch.autograd.grad(output.square().sum(), (query, key, value))
        results[grouped] = output, *gradients
    assert seen == [(heads, 2, 2)] * 2 + [(heads, heads, heads)] * 2
    for one, other in zip(*results.values(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_librarys_attention_repeats_heads_too(monkeypatch, tiny_model_folder):
    """Evaluation is in transformers' attention, with padding or without."""
    settings = ModelSettings(quantization="none", compute_dtype="float32")
    plain = loading.load_base_model(tiny_model_folder, settings, "cpu")
    monkeypatch.setattr(loading, "takes_grouped_heads", lambda dtype, device: False)
    repeated = loading.load_base_model(tiny_model_folder, settings, "cpu")
    assert (attention_name(plain), attention_name(repeated)) == ("sdpa", "sdpa_repeated_heads")
    config = plain.config
    assert config.num_key_value_heads < config.num_attention_heads
    kernel, heads = torch.nn.functional.scaled_dot_product_attention, set()

    def counted(query, key, value, **options):
        heads.add((key.shape[1], options.get("enable_gqa", False)))
        return kernel(query, key, value, **options)

    ids = torch.arange(1, 13).reshape(2, 6)
    for mask in (None, torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])):
        with torch.no_grad():
            expected = plain(input_ids=ids, attention_mask=mask).logits
            monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
            ours = repeated(input_ids=ids, attention_mask=mask).logits
            monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", kernel)
        seen = slice(None) if mask is None else mask.bool()
        torch.testing.assert_close(ours[seen], expected[seen])
    assert heads == {(config.num_attention_heads, False)}
