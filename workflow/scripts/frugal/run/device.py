"""What this machine computes with, and the number type that `auto` stands for on it.

A type is native where the hardware multiplies matrices in it; any other is emulated, and slower than float32. What
a CPU can do is read from its feature flags, so the choice is the same at every start on one machine.
"""

import os
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

#: The first GPUs that multiply in bfloat16: NVIDIA's of compute capability 8.0, Ampere.
BFLOAT16_CAPABILITY = (8, 0)
#: Processes that make batches while a GPU computes. On a CPU they would take cores from the training.
LOADER_WORKERS = 2
#: Recommenders narrower than this gain nothing from bfloat16 on a CPU: casts cost what their small matmuls save.
NARROWEST_IN_BFLOAT16 = 256
#: What ONEDNN_MAX_CPU_ISA may allow, from the least (https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html).
ONEDNN_LEVELS = (
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
    "AVX512_CORE_BF16",
    "AVX512_CORE_FP16",
    "AVX10_1_512",
    "AVX512_CORE_AMX",
    "AVX512_CORE_AMX_FP16",
    "AVX10_1_512_AMX",
    "AVX10_1_512_AMX_FP16",
)


@dataclass(frozen=True)
class Capabilities:
    """What a CPU multiplies matrices with.

    Attributes:
        instructions: the widest set that PyTorch uses, such as "AVX2" or "AVX-512 BF16".
        native_bfloat16: matmuls in bfloat16 are faster than in float32.
        native_int8: so are matmuls of 8-bit integers.
    """

    instructions: str
    native_bfloat16: bool
    native_int8: bool


@dataclass(frozen=True)
class Choice:
    """A number type, as PyTorch names it, and why it was chosen."""

    dtype: str
    reason: str

    def __str__(self) -> str:
        return f"{self.dtype} ({self.reason})"


@cache
def cpu_capabilities() -> Capabilities:
    """What this process may use of its CPU; limits that the environment sets on PyTorch's libraries count."""
    import torch

    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA")
    return classify(torch.cpu.get_capabilities(), torch.backends.cpu.get_cpu_capability(), limit)


def classify(features: dict[str, Any], vectors: str, onednn_limit: str | None = None) -> Capabilities:
    """The capabilities that follow from a CPU's feature flags.

    Args:
        features: as `torch.cpu.get_capabilities` names them.
        vectors: as `torch.backends.cpu.get_cpu_capability` does: "DEFAULT", "AVX2", "AVX512", ...
        onednn_limit: the value of ONEDNN_MAX_CPU_ISA; None or an unknown one limits nothing.
    """

    def has(feature: str, level: str) -> bool:
        limit = (onednn_limit or "").upper()
        allowed = limit not in ONEDNN_LEVELS or ONEDNN_LEVELS.index(limit) >= ONEDNN_LEVELS.index(level)
        return bool(features.get(feature)) and vectors == "AVX512" and allowed

    if features.get("architecture") in ("aarch64", "arm64") or features.get("neon"):
        bfloat16, int8 = bool(features.get("bf16")), bool(features.get("i8mm"))
        return Capabilities("NEON BF16" if bfloat16 else "NEON", bfloat16, int8)
    if has("amx_bf16", "AVX512_CORE_AMX"):
        return Capabilities("AMX", True, has("amx_int8", "AVX512_CORE_AMX"))
    int8 = has("avx512_vnni", "AVX512_CORE_VNNI")
    if has("avx512_bf16", "AVX512_CORE_BF16"):
        return Capabilities("AVX-512 BF16", True, int8)
    if vectors == "AVX512":
        return Capabilities("AVX-512 VNNI" if int8 else "AVX-512", False, int8)
    return Capabilities("AVX2" if vectors == "AVX2" else "no AVX2", False, False)


def choose_dtype(setting: str, device: str, width: int | None = None) -> Choice:
    """The type of a run's matmuls on this machine.

    Args:
        setting: "auto", or a type asked for by name, which is taken; one that the device emulates is warned of.
        device: "cpu" or "cuda:0".
        width: of a recommender, whose small matmuls gain nothing from bfloat16 on a CPU; None: a language model.
    """
    if setting != "auto":
        if setting == "bfloat16" and device == "cpu" and is_emulated(setting, device):
            _warn_of_emulation()
        return Choice(setting, "set in the configuration")
    if device == "cpu":
        return _auto_on_cpu(cpu_capabilities(), width)
    import torch

    return _auto_on_gpu(torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device))


def takes_grouped_heads(dtype: str, device: str, masked: bool = False) -> bool:
    """Whether PyTorch's fused attention takes fewer heads of keys than of queries.

    On NVIDIA's GPUs only the flash kernel does: from compute capability 8.0, in 16 bits, without a mask. Elsewhere the
    plainest code takes over, which keeps the scores of all pairs of tokens in float32: many GB for long texts.

    Args:
        dtype: as PyTorch names it, such as "bfloat16".
        device: "cpu" or "cuda:0".
        masked: whether attention has a mask beside the causal one.
    """
    if device == "cpu":
        return True
    import torch

    sixteen_bits = dtype in ("bfloat16", "float16")
    return sixteen_bits and not masked and torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY


def resolve_compute_dtype(run: Any, device: str) -> tuple[Any, Choice]:
    """A language model's settings with the type that ``model.compute_dtype`` stands for here, and why it does."""
    choice = choose_dtype(run.model.compute_dtype, device)
    return with_compute_dtype(run, choice.dtype), choice


def with_compute_dtype(run: Any, dtype: str) -> Any:
    """A language model's settings with another ``model.compute_dtype``."""
    return run.model_copy(update={"model": run.model.model_copy(update={"compute_dtype": dtype})})


def _auto_on_cpu(cpu: Capabilities, width: int | None) -> Choice:
    if not cpu.native_bfloat16:
        return Choice("float32", f"auto: this CPU ({cpu.instructions}) emulates bfloat16")
    if width is not None and width < NARROWEST_IN_BFLOAT16:
        return Choice("float32", f"auto: a width of {width} gains nothing from bfloat16 on a CPU")
    return Choice("bfloat16", f"auto: this CPU multiplies in bfloat16 ({cpu.instructions})")


def _auto_on_gpu(name: str, capability: tuple[int, int]) -> Choice:
    if capability >= BFLOAT16_CAPABILITY:
        return Choice("bfloat16", f"auto: {name} multiplies in bfloat16")
    return Choice("float16", f"auto: {name} has no bfloat16 (compute capability {capability[0]}.{capability[1]})")


def is_emulated(dtype: str, device: str) -> bool:
    """Whether a device computes in a type without having matmuls in it."""
    if device == "cpu":
        return dtype == "float16" or (dtype == "bfloat16" and not cpu_capabilities().native_bfloat16)
    import torch

    return dtype == "bfloat16" and torch.cuda.get_device_capability(device) < BFLOAT16_CAPABILITY


@cache
def _warn_of_emulation() -> None:
    from frugal.run.matmul_peak import matmul_peak_flops

    factor = matmul_peak_flops("float32") / matmul_peak_flops("bfloat16")
    print(
        f"warning: this CPU ({cpu_capabilities().instructions}) has no bfloat16 matmuls. PyTorch's emulation takes "
        f"{factor:.1f} times as long as float32 here, so they are computed in float32, at no gain; 'auto' is float32",
        file=sys.stderr,
        flush=True,
    )
