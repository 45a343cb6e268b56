"""The number type that `auto` stands for, on processors and GPUs that are not here."""

import pytest
import torch

from frugal.run import device
from frugal.run.device import Capabilities, choose_dtype, classify, is_emulated

X86 = {"architecture": "x86_64", "avx2": True}
ZEN_4 = X86 | {"avx512_f": True, "avx512_vnni": True, "avx512_bf16": True}
SAPPHIRE_RAPIDS = ZEN_4 | {"amx_tile": True, "amx_bf16": True, "amx_int8": True}


@pytest.mark.parametrize(
    ("features", "vectors", "limit", "expected"),
    [
        (X86, "AVX2", None, Capabilities("AVX2", False, False)),
        (X86, "DEFAULT", None, Capabilities("no AVX2", False, False)),
        (X86 | {"avx512_f": True}, "AVX512", None, Capabilities("AVX-512", False, False)),
        (X86 | {"avx512_f": True, "avx512_vnni": True}, "AVX512", None, Capabilities("AVX-512 VNNI", False, True)),
        (ZEN_4, "AVX512", None, Capabilities("AVX-512 BF16", True, True)),
        (SAPPHIRE_RAPIDS, "AVX512", None, Capabilities("AMX", True, True)),
        # A virtual machine that hides the matrix units.
        (SAPPHIRE_RAPIDS | {"amx_bf16": False}, "AVX512", None, Capabilities("AVX-512 BF16", True, True)),
        # PyTorch or oneDNN held to less than the CPU has.
        (SAPPHIRE_RAPIDS, "AVX2", "AVX2", Capabilities("AVX2", False, False)),
        (SAPPHIRE_RAPIDS, "AVX512", "AVX512_CORE_BF16", Capabilities("AVX-512 BF16", True, True)),
        (SAPPHIRE_RAPIDS, "AVX512", "avx512_core", Capabilities("AVX-512", False, False)),
        (SAPPHIRE_RAPIDS, "AVX512", "DEFAULT", Capabilities("AMX", True, True)),
        (SAPPHIRE_RAPIDS, "AVX512", "a typing error", Capabilities("AMX", True, True)),
        ({"architecture": "aarch64", "neon": True}, "DEFAULT", None, Capabilities("NEON", False, False)),
        (
            {"architecture": "aarch64", "neon": True, "bf16": True, "i8mm": True},
            "SVE256",
            None,
            Capabilities("NEON BF16", True, True),
        ),
        ({}, "DEFAULT", None, Capabilities("no AVX2", False, False)),
    ],
)
def test_capabilities_follow_from_feature_flags(features, vectors, limit, expected):
    assert classify(features, vectors, limit) == expected


@pytest.fixture
def on_cpu(monkeypatch):
    """Let this machine's CPU have other capabilities."""

    def pretend(instructions, native_bfloat16):
        monkeypatch.setattr(device, "cpu_capabilities", lambda: Capabilities(instructions, native_bfloat16, False))

    return pretend


def test_auto_is_bfloat16_where_a_cpu_has_it(on_cpu):
    on_cpu("AMX", True)
    assert choose_dtype("auto", "cpu").dtype == "bfloat16"
    assert choose_dtype("auto", "cpu").reason == "auto: this CPU multiplies in bfloat16 (AMX)"
    assert not is_emulated("bfloat16", "cpu")


def test_auto_is_float32_where_bfloat16_is_emulated(on_cpu):
    on_cpu("AVX2", False)
    assert choose_dtype("auto", "cpu").dtype == "float32"
    assert choose_dtype("auto", "cpu").reason == "auto: this CPU (AVX2) emulates bfloat16"
    assert is_emulated("bfloat16", "cpu")
    assert not is_emulated("float32", "cpu")


@pytest.mark.parametrize(("width", "dtype"), [(64, "float32"), (128, "float32"), (256, "bfloat16"), (512, "bfloat16")])
def test_narrow_recommenders_stay_in_float32_on_a_cpu(on_cpu, width, dtype):
    on_cpu("AVX-512 BF16", True)
    assert choose_dtype("auto", "cpu", width).dtype == dtype


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((8, 9), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_auto_on_a_gpu_follows_its_compute_capability(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose_dtype("auto", "cuda:0", 64).dtype == dtype
    assert is_emulated("bfloat16", "cuda:0") == (dtype == "float16")


def test_an_emulated_type_that_is_asked_for_is_taken_and_warned_of_once(on_cpu, monkeypatch, capsys):
    on_cpu("AVX2", False)
    peaks = {"float32": 120e9, "bfloat16": 10e9}
    monkeypatch.setattr("frugal.run.matmul_peak.matmul_peak_flops", lambda dtype: peaks[dtype])
    device._warn_of_emulation.cache_clear()
    for _ in range(2):
        assert choose_dtype("bfloat16", "cpu").dtype == "bfloat16"
    assert capsys.readouterr().err == (
        "warning: this CPU (AVX2) has no bfloat16 matmuls. PyTorch's emulation takes 12.0 times as long as float32 "
        "here, so they are computed in float32, at no gain; 'auto' is float32\n"
    )
    device._warn_of_emulation.cache_clear()


@pytest.mark.parametrize(
    ("dtype", "capability", "masked", "takes"),
    [
        ("bfloat16", (8, 0), False, True),
        ("float16", (9, 0), False, True),
        ("bfloat16", (9, 0), True, False),  # flash attention has no masks
        ("float32", (9, 0), False, False),
        ("float16", (7, 5), False, False),  # T4
    ],
)
def test_flash_attention_alone_takes_grouped_heads_on_a_gpu(monkeypatch, dtype, capability, masked, takes):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert device.takes_grouped_heads(dtype, "cuda:0", masked) == takes
    assert device.takes_grouped_heads(dtype, "cpu", masked)
