"""Frozen linear layers in 8 bits, whose matrix products are of integers, forward and backward.

Processors multiply 8-bit integers twice as fast as 16-bit numbers (AVX-512 VNNI, AMX). Weights have a scale for each
output, inputs and gradients one for each token: the vector-wise quantisation of Dettmers et al. 2022, LLM.int8(),
arXiv:2208.07339, section 2, without their 16-bit outliers. That gradients of the inputs bear it, but not those of
weights, is found in Wortsman et al. 2023, SwitchBack, arXiv:2304.13013; frozen weights have none.
"""

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from frugal.llm.fused import Quantized, dequantize, quantize


class Int8Linear(nn.Linear):
    """What a linear layer without bias becomes: ``weight`` int8, (outputs, inputs), ``scale`` float32, (outputs,)."""

    def __init__(self, layer: nn.Linear):
        nn.Module.__init__(self)
        self.out_features, self.in_features = layer.weight.shape
        values, scale = quantize(layer.weight.data)
        self.weight = nn.Parameter(values, requires_grad=False)
        self.register_buffer("scale", scale)
        self.register_parameter("bias", None)

    def product(self, inputs: Quantized, onto: torch.Tensor | None, kind: torch.dtype) -> torch.Tensor:
        """(n, outputs) in ``kind``, added to ``onto``; ``inputs`` are (n, inputs)."""
        sums = torch._int_mm(inputs.values, self.weight.t())
        return dequantize(sums, inputs.scales, self.scale, onto, kind)

    def gradient(self, grad: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """That of the inputs, (n, inputs), from that of the outputs, (n, outputs), added to ``onto``."""
        quantized = quantize(grad, self.scale)
        return dequantize(torch._int_mm(quantized.values, self.weight), quantized.scales, None, onto, grad.dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return Int8Product.apply(inputs, self)


class Int8Product(torch.autograd.Function):
    """An `Int8Linear` of (..., inputs): (..., outputs)."""

    @staticmethod
    def forward(ctx, inputs, layer):
        ctx.layer = layer
        return layer.product(quantize(inputs.flatten(0, -2)), None, inputs.dtype).unflatten(0, inputs.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return ctx.layer.gradient(grad.flatten(0, -2).contiguous()).unflatten(0, grad.shape[:-1]), None


def to_int8(model: nn.Module) -> None:
    """Bring the linear layers of a causal language model's blocks to 8 bits; embeddings and output layer stay."""
    for block in model.model.layers:
        for parent in list(block.modules()):
            for name, layer in parent.named_children():
                if isinstance(layer, nn.Linear) and layer.bias is None:
                    setattr(parent, name, Int8Linear(layer))
