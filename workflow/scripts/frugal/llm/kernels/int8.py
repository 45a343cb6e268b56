"""Frozen linear layers in 8 bits, one scale for each output: vector-wise quantisation.

How their matmuls are computed depends on the CPU (`integer_matmuls`):

* AVX-512 VNNI without AMX: integer matmuls, forward and backward, twice as fast as bfloat16 ones. Inputs and gradients
  are quantised as well, with one scale for each token (Dettmers et al. 2022, LLM.int8(), arXiv:2208.07339, section 2,
  without their 16-bit outliers). The gradients of inputs tolerate this, those of weights do not (Wortsman et al. 2023,
  SwitchBack, arXiv:2304.13013); frozen weights have none.
* Others, and FRUGAL_KERNELS=off: the weights are dequantised, BLOCK_WEIGHTS at a time, for matmuls in the dtype of the
  inputs: 8 bits only save memory there. Without VNNI PyTorch's integer matmuls are wrong, because sums of two products
  saturate at 16 bits, and slow (.5 to .9 GOP/s a core on AVX2, where float32 reaches 69 GFLOP/s). With AMX they are
  slower than bfloat16 matmuls; on Arm they were not measured.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from frugal.llm.kernels import enabled
from frugal.llm.kernels.fused import Quantized, dequantize, dequantize_weights, quantize
from frugal.private.torch import int8_matmul
from frugal.run.device import cpu_capabilities

#: Number of weights dequantised at once: 16 MB in float32.
BLOCK_WEIGHTS = 2**22


def integer_matmuls() -> bool:
    """Whether 8-bit layers use integer matmuls on this CPU."""
    cpu = cpu_capabilities()
    return enabled() and cpu.native_int8 and cpu.instructions.startswith("AVX-512")


class Int8Linear(nn.Linear):
    """A frozen linear layer without bias: ``weight`` int8, (outputs, inputs), and ``scale`` float32, (outputs,)."""

    def __init__(self, layer: nn.Linear):
        nn.Module.__init__(self)
        self.out_features, self.in_features = layer.weight.shape
        values, scale = quantize(layer.weight.data)
        self.weight = nn.Parameter(values, requires_grad=False)
        self.register_buffer("scale", scale)
        self.register_parameter("bias", None)

    def matmul(
        self, inputs: torch.Tensor, quantized: Quantized | None = None, residual: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(n, outputs), added to ``residual``.

        Args:
            inputs: (n, inputs).
            quantized: the inputs from `quantize_inputs`, for layers that share them.
        """
        if integer_matmuls():
            quantized = quantized or quantize(inputs)
            sums = int8_matmul(quantized.values, self.weight.t())
            return dequantize(sums, quantized.scales, self.scale, residual, inputs.dtype)
        outputs = inputs.new_empty(len(inputs), self.out_features)
        for rows, weight in self.dequantized(inputs.dtype):
            if residual is None:
                torch.mm(inputs, weight.t(), out=outputs[:, rows])
            else:
                torch.addmm(residual[:, rows], inputs, weight.t(), out=outputs[:, rows])
        return outputs

    def matmul_gradient(self, grad: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """The gradient of the inputs, (n, inputs), from that of the outputs, (n, outputs).

        Args:
            residual: added to the result; may be overwritten.
        """
        if integer_matmuls():
            quantized = quantize(grad, self.scale)
            sums = int8_matmul(quantized.values, self.weight)
            return dequantize(sums, quantized.scales, None, residual, grad.dtype)
        for rows, weight in self.dequantized(grad.dtype):
            part = grad[:, rows]
            residual = torch.mm(part, weight) if residual is None else residual.addmm_(part, weight)
        return residual

    def dequantized(self, dtype: torch.dtype) -> Iterator[tuple[slice, torch.Tensor]]:
        """Slices of the outputs, and their weights in ``dtype``."""
        outputs = max(1, BLOCK_WEIGHTS // self.in_features)
        for first in range(0, self.out_features, outputs):
            rows = slice(first, first + outputs)
            yield rows, dequantize_weights(self.weight[rows], self.scale[rows], dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return Int8Matmul.apply(inputs, self)


class Int8Matmul(torch.autograd.Function):
    """An `Int8Linear` layer applied to (..., inputs): (..., outputs)."""

    @staticmethod
    def forward(ctx, inputs, layer):
        ctx.layer = layer
        return layer.matmul(inputs.flatten(0, -2)).unflatten(0, inputs.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return ctx.layer.matmul_gradient(grad.flatten(0, -2).contiguous()).unflatten(0, grad.shape[:-1]), None


def quantize_inputs(inputs: torch.Tensor, layers: list[nn.Linear]) -> Quantized | None:
    """The inputs of ``layers`` in 8 bits; None where none of them uses integer matmuls."""
    return quantize(inputs) if integer_matmuls() and any(isinstance(layer, Int8Linear) for layer in layers) else None


def to_int8(model: nn.Module) -> None:
    """Replace a causal language model's linear layers by 8-bit ones, except the output layer and layers with bias."""
    for decoder_layer in model.model.layers:
        for parent in list(decoder_layer.modules()):
            for name, layer in parent.named_children():
                if isinstance(layer, nn.Linear) and layer.bias is None:
                    setattr(parent, name, Int8Linear(layer))
