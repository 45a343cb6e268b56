"""A layer's small operations: by hand and beside autograd, by PyTorch and by C as it is built for several CPUs."""

import math
import platform
import shutil
import subprocess
from functools import cache, partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from frugal.llm.kernels import fused, native

DTYPES = [torch.float32, torch.bfloat16]
#: Builds for x86-64, and what PyTorch calls the instructions without which they cannot run.
X86 = {"x86-64-v2": ["sse4_2"], "x86-64-v3": ["avx2", "fma3"], "x86-64-v4": ["avx512_vl", "avx512_bw", "avx512_dq"]}
compile_or_load = native.library.__wrapped__  # without its cache
ARM_COMPILER, ARM_EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"


def need_compiler():
    if native.library(torch.float32) is None:
        pytest.skip("fused.c could not be compiled: apt-get install gcc")


@cache
def library_for(march: str, dtype: torch.dtype):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "instruction_flags", lambda: [f"-march={march}"])
        return compile_or_load(dtype)


@pytest.fixture(scope="module")
def arm_program(tmp_path_factory):
    """Compiles call_fused.c for 64-bit Arm and a dtype, once."""

    @cache
    def program(dtype: torch.dtype) -> Path:
        executable = tmp_path_factory.mktemp("arm") / "call_fused"
        flags = [flag for flag in native.FLAGS if flag not in ("-shared", "-fPIC")] + native.DTYPES[dtype]
        source = Path(__file__).with_name("call_fused.c")
        command = [ARM_COMPILER, "-static", *flags, "-I", native.SOURCE.parent, source, "-lm", "-o", executable]
        subprocess.run(command, check=True, capture_output=True)
        return executable

    return program


def call_on_arm(program, folder: Path, function: tuple[str, torch.dtype], *arguments) -> None:
    """As `fused.call`, in an emulator: arrays go there and come back as files."""
    name, dtype = function
    words, files = [], {}
    for place, argument in enumerate(arguments):
        if isinstance(argument, torch.Tensor):
            file = folder / str(place)
            file.write_bytes(bytes(argument.contiguous().view(torch.uint8).flatten().tolist()))
            files[file] = argument
        words.append(str(file) if isinstance(argument, torch.Tensor) else "null" if argument is None else str(argument))
    subprocess.run([ARM_EMULATOR, program(dtype), name, *words], check=True)
    for file, tensor in files.items():
        tensor.detach().copy_(torch.frombuffer(bytearray(file.read_bytes()), dtype=tensor.dtype).view(tensor.shape))


class ArmLibrary:
    """Names the functions of fused.c for `call_on_arm`."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype

    def __getattr__(self, name: str) -> tuple[str, torch.dtype]:
        return name, self.dtype


@pytest.fixture(params=["PyTorch", "C", *X86, "aarch64"])
def way(request, monkeypatch, tmp_path, arm_program):
    """By what the operations are computed."""
    if request.param == "PyTorch":
        monkeypatch.setattr(native, "library", lambda dtype: None)
    elif request.param == "C":
        need_compiler()
    elif request.param == "aarch64":
        if not shutil.which(ARM_COMPILER) or not shutil.which(ARM_EMULATOR):
            pytest.skip("no compiler or emulator for Arm: apt-get install gcc-aarch64-linux-gnu qemu-user")
        monkeypatch.setattr(native, "library", ArmLibrary)
        monkeypatch.setattr(fused, "call", partial(call_on_arm, arm_program, tmp_path))
    else:
        if platform.machine() != "x86_64" or not all(map(torch.cpu.get_capabilities().get, X86[request.param])):
            pytest.skip(f"this CPU cannot run {request.param}")
        need_compiler()
        monkeypatch.setattr(native, "library", partial(library_for, request.param))
        assert native.library(torch.float32) is not None
    return request.param


@pytest.fixture(params=DTYPES, ids=["float32", "bfloat16"])
def dtype(request):
    return request.param


def numbers(dtype, *rows):
    return torch.tensor(rows, dtype=dtype)


def near(found, expected):
    """Within the rounding of the type that was found."""
    tolerance = {"rtol": 0.01, "atol": 0.01} if found.dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(found.float(), expected.float(), **tolerance)


def test_a_norm_by_hand(way, dtype):
    # The mean of 9 and 16 is 12.5, and 3.5 more is 16.
    assert fused.rms_norm(numbers(dtype, [3, 4]), numbers(dtype, 2, 8), 3.5).tolist() == [[1.5, 8]]
    assert fused.rms_norm(numbers(dtype, [0, 0]), numbers(dtype, 2, 8), 1e-5).tolist() == [[0, 0]]


def test_the_norm_and_its_gradient_are_the_librarys(way, dtype):
    torch.manual_seed(0)
    norm = LlamaRMSNorm(48)
    norm.weight.data.uniform_(0.5, 2)
    hidden, grad, residual = (torch.randn(5, 48).to(dtype) for _ in range(3))
    exact = hidden.float().requires_grad_()
    expected = norm(exact)
    expected.backward(grad.float())
    weight, eps = norm.weight.data.to(dtype), norm.variance_epsilon
    near(fused.rms_norm(hidden, weight, eps), expected)
    near(fused.rms_norm_gradient(grad, hidden, weight, eps), exact.grad)
    near(fused.rms_norm_gradient(grad, hidden, weight, eps, residual), exact.grad + residual)


def test_a_gate_and_its_gradients_are_autograds(way, dtype):
    torch.manual_seed(0)
    gate, up, grad = (torch.randn(3, 21).to(dtype) for _ in range(3))
    gate[0, :5] = torch.tensor([0.0, 100.0, 700.0, -100.0, -1e30])  # half open, open, shut
    exact = [gate.float().requires_grad_(), up.float().requires_grad_()]
    expected = F.silu(exact[0]) * exact[1]
    expected.backward(grad.float())
    near(fused.gated(gate, up), expected)
    to_gate, to_up = fused.gated_gradients_(grad, gate, up)
    near(to_gate, exact[0].grad)
    near(to_up, exact[1].grad)


def test_a_quarter_turn_by_hand(way, dtype):
    # d = 4: (1, 3) and (2, 4) are pairs; the first turns by 90 degrees, the second not at all.
    cos, sin = numbers(dtype, [[0, 1, 0, 1]]), numbers(dtype, [[1, 0, 1, 0]])
    turned = fused.rotate(numbers(dtype, [[1, 2, 3, 4]]), cos, sin, 1)
    assert turned.tolist() == [[[-3, 2, 1, 4]]]
    assert fused.rotate(turned, cos, sin, -1).tolist() == [[[1, 2, 3, 4]]]


def test_probabilities_of_a_block_by_hand(way, dtype):
    # One key is before the block of two queries, which have two heads each. All scores are the same, but a last one.
    scores = torch.zeros(1, 4, 3, dtype=dtype)
    scores[0, 3, 2] = 10 * math.log(2)
    found = fused.causal_softmax_(scores, 1, 2, 0.1)
    assert found[0, :3].tolist() == [[0.5, 0.5, 0]] * 2 + [pytest.approx([1 / 3] * 3, abs=0.002)]
    assert found[0, 3].tolist() == pytest.approx([0.25, 0.25, 0.5], abs=0.002)


def test_scores_far_apart_and_far_from_zero(way, dtype):
    scores = numbers(dtype, [[1e4, 1e4], [-1e4, -1e4]], [[3e38, -3e38], [-3e38, 3e38]])
    expected = torch.tensor([[[1, 0], [0.5, 0.5]], [[1, 0], [0, 1]]])
    torch.testing.assert_close(fused.causal_softmax_(scores, 0, 1, 1.0).float(), expected, rtol=0, atol=1e-30)


def test_causal_mask_by_hand():
    hidden = fused.causal_mask(3, 2, torch.float32, torch.device("cpu")).isinf()
    assert hidden.tolist() == [[False, True, True]] * 2 + [[False, False, True]] * 2 + [[False] * 3] * 2


def test_the_gradient_of_scores_by_hand(way, dtype):
    # p (g - sum of p g), halved: the sum is 2.5.
    found = fused.softmax_gradient_(numbers(dtype, [4, 1]), numbers(dtype, [0.5, 0.5]), 0.5)
    assert found.tolist() == [[0.375, -0.375]]


def test_quantized_by_hand(way, dtype):
    values, scales = fused.quantize(numbers(dtype, [1, -2, 0.5], [0, 0, 0]))
    assert values.tolist() == [[64, -127, 32], [0, 0, 0]]  # 63.5 is as near to 64, which is even
    assert scales.tolist() == pytest.approx([2 / 127, 0])
    values, scales = fused.quantize(numbers(dtype, [1, -2, 0.5]), torch.tensor([1.0, 1.0, 8.0]))
    assert values.tolist() == [[32, -64, 127]]
    assert scales.tolist() == pytest.approx([4 / 127])


def test_numbers_too_small_for_a_scale_become_zero(way, dtype):
    values, scales = fused.quantize(numbers(dtype, [1e-40, -1e-39, 0]))
    assert values.tolist() == [[0, 0, 0]]
    assert scales.isfinite().all()


def test_dequantized_by_hand(way, dtype):
    sums, scales = torch.tensor([[100, -200], [3, 4]], dtype=torch.int32), torch.tensor([0.5, 2.0])
    residual, columns = numbers(dtype, [1, 1], [2, 2]), torch.tensor([1.0, 10.0])
    given = [(None, None), (None, residual), (columns, None), (columns, residual)]
    found = [fused.dequantize(sums, scales, *parts, dtype).tolist() for parts in given]
    assert found[0] == [[50, -100], [6, 8]]
    assert found[1] == [[51, -99], [8, 10]]
    assert found[2] == [[50, -1000], [6, 80]]
    assert found[3] == [[51, -1000 if dtype == torch.bfloat16 else -999], [8, 82]]  # bfloat16 has no -999


def test_dequantized_weights_by_hand(way, dtype):
    values, scales = torch.tensor([[100, -127, 3], [0, 1, -1]], dtype=torch.int8), torch.tensor([0.5, 2.0])
    assert fused.dequantize_weights(values, scales, dtype).tolist() == [[50, -63.5, 1.5], [0, 2, -2]]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(DTYPES), st.integers(1, 9), st.integers(1, 70), st.floats(1e-3, 1e3), st.integers(0, 2**31))
def test_c_and_pytorch_agree(dtype, rows, width, size, seed):
    need_compiler()
    torch.manual_seed(seed)
    a, b, c = ((size * torch.randn(rows, width)).to(dtype) for _ in range(3))
    columns, sums = torch.rand(width) + 0.5, torch.randint(-9999, 9999, (rows, width), dtype=torch.int32)

    def both(function, least=1e-20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "library", lambda dtype: None)
            expected = function()
        found = function()
        for one, other in zip(found, expected, strict=True):
            scale = max(other.float().abs().max().item(), least)
            # A number next to a half may be rounded to either of two integers.
            tolerance = 0.02 if dtype == torch.bfloat16 or one.dtype == torch.int8 else 2e-5
            torch.testing.assert_close(one.float() / scale, other.float() / scale, rtol=0, atol=tolerance)

    # The norm's gradient is what is left of larger terms.
    terms = a.float().abs().max() * c[0].float().abs().max() / b.float().square().mean(-1).sqrt().min()
    both(lambda: [fused.rms_norm(a, b[0].contiguous(), 1e-5)])
    both(lambda: [fused.rms_norm_gradient(a, b, c[0].contiguous(), 1e-5)], least=terms.item())
    both(lambda: [fused.gated(a, b)])
    both(lambda: fused.gated_gradients_(c.clone(), a, b))
    both(lambda: fused.quantize(a, columns))
    both(lambda: [fused.dequantize(sums, columns[:1].expand(rows).contiguous(), columns, a, dtype)])
    square = min(size, 30) * torch.randn(2, width, width)
    both(lambda: [fused.causal_softmax_(square.clone().to(dtype), 0, 1, 0.1)])
    # So is the softmax's: a probability near one leaves little of its score's gradient.
    both(lambda: [fused.softmax_gradient_(a.clone(), b.softmax(-1), 0.1)], least=0.1 * a.float().abs().max().item())


def test_what_is_not_a_number_stays_so(way, dtype):
    wrong, right = numbers(dtype, [1, math.nan, 2]), numbers(dtype, [1, 2, 3])
    sums, scales = torch.ones(1, 3, dtype=torch.int32), torch.ones(1)
    assert fused.rms_norm(wrong, right[0], 1e-5).isnan().all()
    assert fused.rms_norm_gradient(right, right, right[0], 1e-5, wrong).isnan().any()
    assert fused.gated(right, wrong).isnan().any()
    assert fused.dequantize(sums, scales, None, wrong, dtype).isnan().any()
