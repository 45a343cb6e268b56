"""A layer's small operations: by hand and beside autograd, in C and in PyTorch."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from frugal.llm import fused


def need_compiler():
    if fused.library() is None:
        pytest.skip("fused.c could not be compiled: is there a C compiler?")


@pytest.fixture(params=["C", "PyTorch"])
def way(request, monkeypatch):
    """bfloat16 goes through C, or all goes through PyTorch."""
    if request.param == "PyTorch":
        monkeypatch.setattr(fused, "library", lambda: None)
    else:
        need_compiler()
    return request.param


def numbers(*rows, kind=torch.bfloat16):
    return torch.tensor(rows, dtype=kind)


def near(found, expected):
    """Within the rounding of the type that was found."""
    tolerance = {"rtol": 0.01, "atol": 0.01} if found.dtype == torch.bfloat16 else {}
    torch.testing.assert_close(found.float(), expected.float(), **tolerance)


def test_a_norm_by_hand(way):
    # The mean of 9 and 16 is 12.5, and 3.5 more is 16.
    assert fused.rms_norm(numbers([3, 4]), numbers(2, 8), 3.5).tolist() == [[1.5, 8]]
    assert fused.rms_norm(numbers([0, 0]), numbers(2, 8), 1e-5).tolist() == [[0, 0]]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_norm_and_its_gradient_are_the_librarys(way, kind):
    torch.manual_seed(0)
    norm = LlamaRMSNorm(48)
    norm.weight.data.uniform_(0.5, 2)
    hidden, grad, onto = (torch.randn(5, 48).to(kind) for _ in range(3))
    exact = hidden.float().requires_grad_()
    expected = norm(exact)
    expected.backward(grad.float())
    weight, eps = norm.weight.data.to(kind), norm.variance_epsilon
    near(fused.rms_norm(hidden, weight, eps), expected)
    near(fused.rms_norm_gradient(grad, hidden, weight, eps), exact.grad)
    near(fused.rms_norm_gradient(grad, hidden, weight, eps, onto), exact.grad + onto)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_gate_and_its_gradients_are_autograds(way, kind):
    torch.manual_seed(0)
    gate, up, grad = (torch.randn(3, 21).to(kind) for _ in range(3))
    gate[0, :4] = torch.tensor([0.0, 100.0, -100.0, -1e30])  # half open, open, shut
    exact = [gate.float().requires_grad_(), up.float().requires_grad_()]
    expected = F.silu(exact[0]) * exact[1]
    expected.backward(grad.float())
    near(fused.gated(gate, up), expected)
    to_gate, to_up = fused.gated_gradients_(grad, gate, up)
    near(to_gate, exact[0].grad)
    near(to_up, exact[1].grad)


def test_a_quarter_turn_by_hand(way):
    # d = 4: (1, 3) and (2, 4) are pairs; the first turns by 90 degrees, the second not at all.
    cos, sin = numbers([[0, 1, 0, 1]]), numbers([[1, 0, 1, 0]])
    turned = fused.rotate(numbers([[1, 2, 3, 4]]), cos, sin, 1)
    assert turned.tolist() == [[[-3, 2, 1, 4]]]
    assert fused.rotate(turned, cos, sin, -1).tolist() == [[[1, 2, 3, 4]]]


def test_probabilities_of_a_block_by_hand(way):
    # One key is before the block of two queries, which have two heads each. All scores are the same, but a last one.
    scores = torch.zeros(1, 4, 3, dtype=torch.bfloat16)
    scores[0, 3, 2] = 10 * math.log(2)
    found = fused.causal_softmax_(scores, 1, 2, 0.1)
    assert found[0, :3].tolist() == [[0.5, 0.5, 0]] * 2 + [pytest.approx([1 / 3] * 3, abs=0.002)]
    assert found[0, 3].tolist() == pytest.approx([0.25, 0.25, 0.5], abs=0.002)


def test_scores_far_apart_and_far_from_zero(way):
    scores = numbers([[1e4, 1e4], [-1e4, -1e4]], [[3e38, -3e38], [-3e38, 3e38]])
    expected = torch.tensor([[[1, 0], [0.5, 0.5]], [[1, 0], [0, 1]]])
    torch.testing.assert_close(fused.causal_softmax_(scores, 0, 1, 1.0).float(), expected, rtol=0, atol=1e-30)


def test_later_keys_by_hand():
    hidden = fused.later(3, 2, torch.float32, torch.device("cpu")).isinf()
    assert hidden.tolist() == [[False, True, True]] * 2 + [[False, False, True]] * 2 + [[False] * 3] * 2


def test_the_gradient_of_scores_by_hand(way):
    # p (g - sum of p g), halved: the sum is 2.5.
    found = fused.softmax_gradient_(numbers([4, 1]), numbers([0.5, 0.5]), 0.5)
    assert found.tolist() == [[0.375, -0.375]]


def test_quantized_by_hand(way):
    values, scales = fused.quantize(numbers([1, -2, 0.5], [0, 0, 0]))
    assert values.tolist() == [[64, -127, 32], [0, 0, 0]]  # 63.5 is as near to 64, which is even
    assert scales.tolist() == pytest.approx([2 / 127, 0])
    values, scales = fused.quantize(numbers([1, -2, 0.5]), numbers(1, 1, 8, kind=torch.float32))
    assert values.tolist() == [[32, -64, 127]]
    assert scales.tolist() == pytest.approx([4 / 127])


def test_dequantized_by_hand(way):
    sums, scales = torch.tensor([[100, -200], [3, 4]], dtype=torch.int32), torch.tensor([0.5, 2.0])
    onto, columns = numbers([1, 1], [2, 2]), torch.tensor([1.0, 10.0])
    ways = [(None, None), (None, onto), (columns, None), (columns, onto)]
    found = [fused.dequantize(sums, scales, *way, torch.bfloat16).tolist() for way in ways]
    assert found[0] == [[50, -100], [6, 8]]
    assert found[1] == [[51, -99], [8, 10]]
    assert found[2] == [[50, -1000], [6, 80]]
    assert found[3] == [[51, -1000], [8, 82]]  # bfloat16 has no -999


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.floats(1e-3, 1e3), st.integers(0, 2**31))
def test_c_and_pytorch_agree(rows, width, size, seed):
    need_compiler()
    torch.manual_seed(seed)
    a, b, c = ((size * torch.randn(rows, width)).bfloat16() for _ in range(3))
    columns, sums = torch.rand(width) + 0.5, torch.randint(-9999, 9999, (rows, width), dtype=torch.int32)

    def both(function, least=1e-20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fused, "library", lambda: None)
            expected = function()
        found = function()
        for one, other in zip(found, expected, strict=True):
            scale = max(other.float().abs().max().item(), least)
            torch.testing.assert_close(one.float() / scale, other.float() / scale, rtol=0, atol=0.02)

    # The norm's gradient is what is left of larger terms.
    terms = a.float().abs().max() * c[0].float().abs().max() / b.float().square().mean(-1).sqrt().min()
    both(lambda: [fused.rms_norm(a, b[0].contiguous(), 1e-5)])
    both(lambda: [fused.rms_norm_gradient(a, b, c[0].contiguous(), 1e-5)], least=terms.item())
    both(lambda: [fused.gated(a, b)])
    both(lambda: fused.gated_gradients_(c.clone(), a, b))
    both(lambda: fused.quantize(a, columns))
    both(lambda: [fused.dequantize(sums, columns[:1].expand(rows).contiguous(), columns, a, torch.bfloat16)])
    square = min(size, 30) * torch.randn(2, width, width)
    both(lambda: [fused.causal_softmax_(square.bfloat16(), 0, 1, 0.1)])
    both(lambda: [fused.softmax_gradient_(a.clone(), b.softmax(-1), 0.1)])


def test_what_is_not_a_number_stays_so(way):
    wrong, right = numbers([1, math.nan, 2]), numbers([1, 2, 3])
    sums, scales = torch.ones(1, 3, dtype=torch.int32), torch.ones(1)
    assert fused.rms_norm(wrong, right[0], 1e-5).isnan().all()
    assert fused.rms_norm_gradient(right, right, right[0], 1e-5, wrong).isnan().any()
    assert fused.gated(right, wrong).isnan().any()
    assert fused.dequantize(sums, scales, None, wrong, torch.bfloat16).isnan().any()


@pytest.fixture
def compiled_anew(tmp_path, monkeypatch):
    """As for a user who has compiled nothing yet; gives the folder of what is compiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fused.library.cache_clear()
    yield tmp_path / "frugal"
    fused.library.cache_clear()


def test_it_is_compiled_once(compiled_anew, monkeypatch):
    need_compiler()
    (file,) = compiled_anew.iterdir()
    before = file.stat().st_mtime_ns
    fused.library.cache_clear()
    assert fused.library() is not None
    assert [each.stat().st_mtime_ns for each in compiled_anew.iterdir()] == [before]
    monkeypatch.setattr(fused, "processor", lambda: "another one")  # of a cluster, where all share the folder
    fused.library.cache_clear()
    fused.library()
    assert len(list(compiled_anew.iterdir())) == 2


@pytest.mark.parametrize("compiler", ["/no/such/compiler", "false", "sh -c 'echo no OpenMP here >&2; exit 1'"])
def test_without_a_compiler_it_is_slower_and_says_so(compiled_anew, monkeypatch, caplog, compiler):
    monkeypatch.setenv("CC", compiler)
    assert fused.library() is None
    assert "not compiled, so slower: fused.c" in caplog.text
    assert list(compiled_anew.iterdir()) == []
    assert fused.rms_norm(numbers([3, 4]), numbers(2, 8), 3.5).tolist() == [[1.5, 8]]


def test_a_cache_that_cannot_be_written(compiled_anew, monkeypatch, caplog):
    compiled_anew.write_text("a file where the folder should be")
    assert fused.library() is None
    assert "not compiled, so slower" in caplog.text
