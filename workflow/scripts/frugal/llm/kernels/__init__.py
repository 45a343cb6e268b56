"""Faster implementations of what a language model computes; README.md says when each is used and what it gains."""

import os

from frugal.errors import FrugalError

SWITCH = "FRUGAL_KERNELS"
#: Models with fused layers (`layers.py`): norm, attention, add, norm, gated MLP, add.
FUSED_LAYER_TYPES = ("llama", "mistral")
#: Batches with a longer segment use PyTorch's attention (`attention.py`), also on a CPU.
LONGEST_BY_MATMULS = 2048


def enabled() -> bool:
    """Whether this process uses the kernels of this package: always, unless the environment sets FRUGAL_KERNELS=off.

    Off, the layers, the attention and the small operations are those of transformers and PyTorch.

    Raises:
        FrugalError: the variable has another value than 'on' or 'off'.
    """
    value = os.environ.get(SWITCH, "on")
    if value not in ("on", "off"):
        raise FrugalError(f"{SWITCH} is {value!r}; set it to 'on' or 'off', or unset it")
    return value == "on"
