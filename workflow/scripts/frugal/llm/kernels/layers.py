"""Fused decoder layers of Llama and Mistral with LoRA: custom autograd that keeps less and recomputes what is cheap.

Autograd keeps what each small operation reads, and each of them reads and writes its whole array once more. Here a
layer is four autograd functions, which keep their inputs and the outputs of the large matmuls. Norms, activations and
sums are recomputed in the backward pass, and each adapter's matmul is added to the frozen layer's output in place.
All operations other than matmuls are in `frugal.llm.kernels.fused`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.autograd.function import once_differentiable

from frugal.llm.kernels import FUSED_LAYER_TYPES, enabled
from frugal.llm.kernels.attention import attend
from frugal.llm.kernels.fused import Quantized, gated, gated_gradients_, rms_norm, rms_norm_gradient, rotate
from frugal.llm.kernels.int8 import Int8Linear, quantize_inputs
from frugal.llm.kernels.recompute import ReplacementLayer, checkpointed, replaced_layers, selective_recomputation
from frugal.private.bitsandbytes import quantization_state

Matrices = list[torch.Tensor]
Checkpointing = bool | Literal["selective"]


@dataclass(frozen=True)
class Projections:
    """Frozen linear layers with one common input, each with plain LoRA (Hu et al. 2021, arXiv:2106.09685) or without:
    ``y = x W^T + scaling (x A^T) B^T``.

    Attributes:
        bases: the frozen layers, in 4, 8 or more bits.
        scalings: that of each adapter; None where a layer has no adapter.
        matrices: A (r, inputs) and B (outputs, r) of the first adapter, of the next, ...
    """

    bases: list[nn.Linear]
    scalings: list[float | None]
    matrices: Matrices

    def apply(
        self, inputs: torch.Tensor, matrices: Matrices, residual: torch.Tensor | None = None
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """The layers' outputs, and the low-rank state ``x A^T`` of all adapters side by side.

        Args:
            inputs: (n, inputs).
            matrices: as the attribute; autograd functions get their own tensors.
            residual: (n, outputs), added to the outputs.
        """
        dtype, downs, ups = inputs.dtype, matrices[::2], matrices[1::2]
        low_rank = inputs @ torch.cat(downs).to(dtype).t() if downs else None
        adapters = zip(low_rank.split([len(down) for down in downs], 1), ups, strict=True) if downs else iter(())
        quantized = quantize_inputs(inputs, self.bases)
        outputs = []
        for base, scaling in zip(self.bases, self.scalings, strict=True):
            outputs.append(frozen_matmul(base, inputs, quantized, residual))
            if scaling is not None:
                part, up = next(adapters)
                outputs[-1].addmm_(part, up.to(dtype).t(), alpha=scaling)
        return outputs, low_rank

    def gradients(
        self, grads: list[torch.Tensor], inputs: torch.Tensor | None, low_rank: torch.Tensor | None, matrices: Matrices
    ) -> tuple[torch.Tensor, Matrices]:
        """The gradients of the inputs and of the matrices, from those of the outputs.

        Args:
            inputs: None where no layer has an adapter.
            low_rank: returned by `apply`.
        """
        dtype, downs, ups = grads[0].dtype, matrices[::2], matrices[1::2]
        ranks = [len(down) for down in downs]
        adapters = zip(low_rank.split(ranks, 1), ups, strict=True) if downs else iter(())
        to_inputs, to_low_rank, to_ups = None, [], []
        for base, scaling, grad in zip(self.bases, self.scalings, grads, strict=True):
            to_inputs = frozen_matmul_gradient(base, grad, to_inputs)
            if scaling is not None:
                part, up = next(adapters)
                to_low_rank.append((grad @ up.to(dtype)).mul_(scaling))
                to_ups.append((part.t() @ grad).t().to(up.dtype).mul_(scaling))
        if not downs:
            return to_inputs, []
        to_low_rank = torch.cat(to_low_rank, 1)
        to_inputs.addmm_(to_low_rank, torch.cat(downs).to(dtype))
        to_downs = (to_low_rank.t() @ inputs).to(downs[0].dtype).split(ranks)
        return to_inputs, [matrix for pair in zip(to_downs, to_ups, strict=True) for matrix in pair]


def frozen_matmul(
    base: nn.Linear, inputs: torch.Tensor, quantized: Quantized | None, residual: torch.Tensor | None
) -> torch.Tensor:
    """(n, outputs) of a frozen layer, added to ``residual``; ``quantized`` are the inputs for integer matmuls."""
    if isinstance(base, Int8Linear):
        return base.matmul(inputs, quantized, residual)
    weight = frozen_weight(base, inputs.dtype).t()
    return torch.mm(inputs, weight) if residual is None else torch.addmm(residual, inputs, weight)


def frozen_matmul_gradient(base: nn.Linear, grad: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
    """The gradient of a frozen layer's inputs, (n, inputs), added to ``residual`` in place."""
    if isinstance(base, Int8Linear):
        return base.matmul_gradient(grad, residual)
    weight = frozen_weight(base, grad.dtype)
    return torch.mm(grad, weight) if residual is None else residual.addmm_(grad, weight)


def frozen_weight(base: nn.Linear, dtype: torch.dtype) -> torch.Tensor:
    """(outputs, inputs), dequantised where it is in 4 bits."""
    weight = base.weight
    state = quantization_state(weight)
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state).to(dtype)


class NormedProjections(torch.autograd.Function):
    """Queries, keys and values, (n, outputs) each, of the normed hidden state (n, hidden)."""

    @staticmethod
    def forward(ctx, hidden, norm, projections, *matrices):
        with torch.autocast(hidden.device.type, enabled=False):
            outputs, low_rank = projections.apply(rms_norm(hidden, norm.weight, norm.variance_epsilon), matrices)
        ctx.save_for_backward(hidden, low_rank, *matrices)
        ctx.norm, ctx.projections = norm, projections
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        hidden, low_rank, *matrices = ctx.saved_tensors
        norm = ctx.norm.weight, ctx.norm.variance_epsilon
        normed = rms_norm(hidden, *norm) if matrices else None
        to_normed, to_matrices = ctx.projections.gradients(grads, normed, low_rank, matrices)
        return rms_norm_gradient(to_normed, hidden, *norm), None, None, *to_matrices


class RotaryPositions(torch.autograd.Function):
    """`frugal.llm.kernels.fused.rotate` with its gradient."""

    @staticmethod
    def forward(ctx, vectors, cos, sin):
        ctx.save_for_backward(cos, sin)
        return rotate(vectors, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return rotate(grad, *ctx.saved_tensors, -1), None, None


class ResidualProjection(torch.autograd.Function):
    """``hidden`` plus a projection of ``inputs``, (n, inputs): (n, hidden)."""

    @staticmethod
    def forward(ctx, hidden, inputs, projection, *matrices):
        with torch.autocast(hidden.device.type, enabled=False):
            (output,), low_rank = projection.apply(inputs, matrices, residual=hidden)
        ctx.save_for_backward(inputs if matrices else None, low_rank, *matrices)
        ctx.projection = projection
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        inputs, low_rank, *matrices = ctx.saved_tensors
        to_inputs, to_matrices = ctx.projection.gradients([grad], inputs, low_rank, matrices)
        return grad, to_inputs, None, *to_matrices


class ResidualMLP(torch.autograd.Function):
    """``hidden`` plus the gated MLP (Shazeer 2020, arXiv:2002.05202, SwiGLU) of its norm: (n, hidden)."""

    @staticmethod
    def forward(ctx, hidden, norm, gate_up, down, *matrices):
        of_gate_up, of_down = matrices[: len(gate_up.matrices)], matrices[len(gate_up.matrices) :]
        with torch.autocast(hidden.device.type, enabled=False):
            normed = rms_norm(hidden, norm.weight, norm.variance_epsilon)
            (gate, up), low_rank = gate_up.apply(normed, of_gate_up)
            del normed
            (output,), inner_low_rank = down.apply(gated(gate, up), of_down, residual=hidden)
        ctx.save_for_backward(hidden, gate, up, low_rank, inner_low_rank, *matrices)
        ctx.norm, ctx.gate_up, ctx.down = norm, gate_up, down
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, gate, up, low_rank, inner_low_rank, *matrices = ctx.saved_tensors
        of_gate_up, of_down = matrices[: len(ctx.gate_up.matrices)], matrices[len(ctx.gate_up.matrices) :]
        norm = ctx.norm.weight, ctx.norm.variance_epsilon
        inner = gated(gate, up) if of_down else None
        to_inner, to_down = ctx.down.gradients([grad], inner, inner_low_rank, of_down)
        del inner
        to_gate, to_up = gated_gradients_(to_inner, gate, up)
        normed = rms_norm(hidden, *norm) if of_gate_up else None
        to_normed, to_gate_up = ctx.gate_up.gradients([to_gate, to_up], normed, low_rank, of_gate_up)
        to_hidden = rms_norm_gradient(to_normed, hidden, *norm, residual=grad)
        return to_hidden, None, None, None, *to_gate_up, *to_down


def projections_of(*modules: nn.Module) -> Projections | None:
    """Linear layers of a model as `Projections`; None where one of them has more than plain LoRA."""
    bases, scalings, matrices = [], [], []
    for module in modules:
        base = getattr(module, "base_layer", module)
        if not isinstance(base, nn.Linear) or base.bias is not None or base.weight.requires_grad:
            return None
        bases.append(base)
        if base is module:
            scalings.append(None)
            continue
        plain = isinstance(module, LoraLayer) and len(module.active_adapters) == 1 and not module.lora_variant
        if not plain or module.merged or module.disable_adapters:
            return None
        name = module.active_adapters[0]
        if not isinstance(module.lora_dropout[name], nn.Identity) or module.lora_A[name].bias is not None:
            return None
        scalings.append(module.scaling[name])
        matrices += [module.lora_A[name].weight, module.lora_B[name].weight]
    return Projections(bases, scalings, matrices)


class FusedLayer(ReplacementLayer):
    """A decoder layer of `norm, attention, add, norm, gated MLP, add`, by the functions above.

    Args:
        checkpointing: the backward pass recomputes the whole layer (True) or its attention block ('selective').
        window: the number of tokens that a token sees; None: all before it.
    """

    def __init__(self, layer: nn.Module, checkpointing: Checkpointing, window: int | None = None):
        super().__init__(layer)
        self.window = window
        attention, mlp = layer.self_attn, layer.mlp
        self.qkv = projections_of(attention.q_proj, attention.k_proj, attention.v_proj)
        self.attention_output = projections_of(attention.o_proj)
        self.gate_up, self.down = projections_of(mlp.gate_proj, mlp.up_proj), projections_of(mlp.down_proj)
        self.checkpointing = checkpointing

    @property
    def complete(self) -> bool:
        """Whether this class knows everything in the layer: frozen weights, and adapters of plain LoRA."""
        norms = self.input_layernorm, self.post_attention_layernorm
        known = None not in (self.qkv, self.attention_output, self.gate_up, self.down)
        return known and not any(norm.weight.requires_grad for norm in norms)

    def forward(self, hidden_states, position_embeddings, segments, **kwargs):
        cos, sin = (cos_sin[0].unsqueeze(1) for cos_sin in position_embeddings)
        arguments = hidden_states[0], cos, sin, segments
        if self.checkpointing is True:
            return checkpointed(self.decoder_layer, *arguments)[None]
        return self.decoder_layer(*arguments)[None]

    def decoder_layer(self, hidden, cos, sin, segments):
        if self.checkpointing == "selective":
            hidden = checkpointed(self.attention_block, hidden, cos, sin, segments)
        else:
            hidden = self.attention_block(hidden, cos, sin, segments)
        matrices = *self.gate_up.matrices, *self.down.matrices
        return ResidualMLP.apply(hidden, self.post_attention_layernorm, self.gate_up, self.down, *matrices)

    def attention_block(self, hidden, cos, sin, segments):
        size, scaling = self.self_attn.head_dim, self.self_attn.scaling
        heads = NormedProjections.apply(hidden, self.input_layernorm, self.qkv, *self.qkv.matrices)
        query, key, value = (each.unflatten(1, (-1, size)) for each in heads)
        query, key = RotaryPositions.apply(query, cos, sin), RotaryPositions.apply(key, cos, sin)
        attended = attend(query, key, value, segments, scaling, window=self.window).flatten(1)
        return ResidualProjection.apply(hidden, attended, self.attention_output, *self.attention_output.matrices)


@contextmanager
def fused_layers(model, checkpointing: Checkpointing) -> Iterator[None]:
    """Within it, the layers of a causal language model are `FusedLayer`s, if these know everything in them.

    Models of other types, trained weights, dropout and DoRA keep the libraries' layers, which recompute selectively
    by `frugal.llm.kernels.recompute`.

    Args:
        model: without its adapter's wrapper (`get_base_model`).
        checkpointing: training.gradient_checkpointing. True is left to the model where its layers stay.
    """
    config = model.config
    fused = []
    if config.model_type in FUSED_LAYER_TYPES and config.hidden_act == "silu" and not config.attention_dropout:
        window = config.sliding_window if config.model_type == "mistral" else None
        fused = [FusedLayer(layer, checkpointing, window) for layer in model.model.layers]
    if fused and enabled() and all(layer.complete for layer in fused):
        with replaced_layers(model, fused):
            yield
    else:
        with selective_recomputation(model) if checkpointing == "selective" else nullcontext():
            yield
