"""Of bitsandbytes, read in 0.50.2; it is not imported, because most runs do without it."""

from typing import Any

import torch


def keep_layout(model: torch.nn.Module) -> None:
    """Keep 4-bit weights in the layout that they are trained in.

    On CPUs with AVX-512 BF16, a `Linear4bit` that is called without gradients, as in a validation, brings its weights
    into a layout for inference, through which no gradient comes back: training would go on and learn nothing. A flag of
    the layer is the only switch.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def quantization_state(weight: torch.Tensor) -> Any:
    """Of a 4-bit weight, for `bitsandbytes.functional.dequantize_4bit`; None of any other weight.

    The function is documented, this attribute is not. Under another name, matmuls with 4-bit weights would fail.
    """
    return getattr(weight, "quant_state", None)
