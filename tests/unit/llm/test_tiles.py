"""Attention by AMX tiles, compared with plain attention in float64; only on CPUs with AMX."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from frugal.llm.kernels import attention, native, tiles
from frugal.llm.kernels.tiles import TileAttention
from frugal.run.device import Capabilities, cpu_capabilities

pytestmark = pytest.mark.skipif(cpu_capabilities().instructions != "AMX", reason="this CPU has no AMX")


@pytest.fixture(autouse=True)
def compiled():
    if native.library(torch.bfloat16) is None:
        pytest.skip("tiles.c could not be compiled: apt-get install gcc")
    assert tiles.tiles(torch.zeros(1, 1, 32, dtype=torch.bfloat16)), "this compiler does not know AMX"


def exact(query, key, value, segments, scaling):
    """(tokens, heads, d): attention in float64, one matrix of scores for each segment and head."""
    outputs, repeats = [], query.shape[1] // key.shape[1]
    for rows, keys, values in zip(query.split(segments), key.split(segments), value.split(segments), strict=True):
        keys, values = keys.repeat_interleave(repeats, 1), values.repeat_interleave(repeats, 1)
        scores = torch.einsum("qhd,khd->hqk", rows, keys) * scaling
        scores = scores.masked_fill(torch.ones(len(rows), len(rows)).triu(1).bool(), float("-inf"))
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
    return torch.cat(outputs)


def output_and_gradients(function, parts, grad, *arguments):
    parts = [part.detach().requires_grad_() for part in parts]
    output = function(*parts, *arguments)
    output.backward(grad)
    return output.detach(), *(part.grad for part in parts)


def random_parts(tokens, heads, groups, width):
    torch.manual_seed(0)
    parts = [torch.randn(tokens, each, width).bfloat16() for each in (heads, groups, groups)]
    return parts, torch.randn(tokens, heads, width).bfloat16()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=5),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([32, 64, 96, 128]),
    st.integers(1, 3),
)
@example([2048], 1, 1, 64, 2)
@example([1, 31, 32, 33, 63, 64, 65], 2, 3, 64, 2)
def test_output_and_gradients_are_those_of_float64(segments, groups, repeats, width, threads):
    parts, grad = random_parts(sum(segments), groups * repeats, groups, width)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = output_and_gradients(TileAttention.apply, parts, grad, segments, width**-0.5)
    finally:
        torch.set_num_threads(before)
    expected = output_and_gradients(exact, [part.double() for part in parts], grad.double(), segments, width**-0.5)
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == torch.bfloat16
        # Numbers are rounded to 8 bits, 2^-9 of them at most; several roundings add up. A segment of one token has
        # gradients of zero, as the difference of equal numbers.
        assert (mine.double() - other).norm() <= 0.006 * other.norm() + 1e-6 * grad.norm()


def test_two_keys_by_hand():
    """Scores 0 and ln 3: the second query sees a quarter of the first value and three quarters of the second."""
    query, key, value = (torch.zeros(2, 1, 32, dtype=torch.bfloat16) for _ in range(3))
    query[1, 0, 0], key[1, 0, 0] = 1, 1
    value[0, 0, 5], value[1, 0, 5] = 4, 8
    found = TileAttention.apply(query, key, value, [2], 1.0986123)
    assert found[:, 0, 5].tolist() == [4, 7]
    assert found.count_nonzero() == 2


@pytest.mark.parametrize("size", [1e-30, 60.0])
def test_scores_of_any_size(size):
    """Scores of some 30,000, and gradients that are as good as zero."""
    parts, grad = random_parts(70, 2, 1, 32)
    parts = [(part * size).bfloat16() for part in parts]
    found = output_and_gradients(TileAttention.apply, parts, grad, [70], 1.0)
    expected = output_and_gradients(exact, [part.double() for part in parts], grad.double(), [70], 1.0)
    for mine, other in zip(found, expected, strict=True):
        assert mine.isfinite().all()
        # Where scores are large, one key takes all; which one a rounding of the scores decides.
        assert (mine.double() - other).norm() <= 0.05 * other.norm() + 1e-30


def test_other_threads_and_numbers_of_threads_give_the_same_bits():
    parts, grad = random_parts(500, 4, 2, 64)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(output_and_gradients(TileAttention.apply, parts, grad, [300, 150, 50], 0.125))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


def test_the_librarys_tiles_are_left_as_they_were():
    """PyTorch's bfloat16 matmuls use the same registers, before and after."""
    parts, _ = random_parts(64, 2, 1, 32)
    left, right = (torch.randn(256, 256).bfloat16() for _ in range(2))
    before = left @ right
    TileAttention.apply(*parts, [64], 0.2)
    assert torch.equal(left @ right, before)


@pytest.mark.parametrize(
    ("dtype", "width", "used"),
    [(torch.bfloat16, 64, True), (torch.bfloat16, 48, False), (torch.float32, 64, False)],
)
def test_when_it_is_used(monkeypatch, dtype, width, used):
    called = []
    monkeypatch.setattr(attention, "TileAttention", TileAttention)
    monkeypatch.setattr(TileAttention, "apply", lambda *arguments: called.append(True) or arguments[0])
    query, key, value = (torch.randn(5, heads, width, dtype=dtype) for heads in (2, 1, 1))
    attention.attend(query, key, value, [5], 0.1)
    assert bool(called) == used


def test_without_amx_matmuls_take_over(monkeypatch):
    """A process that is held to AVX-512 or AVX2."""
    monkeypatch.setattr(native, "cpu_capabilities", lambda: Capabilities("AVX-512 BF16", True, True))
    native.library.cache_clear()
    try:
        assert tiles.tiles(torch.zeros(1, 1, 32, dtype=torch.bfloat16)) is None
    finally:
        native.library.cache_clear()
