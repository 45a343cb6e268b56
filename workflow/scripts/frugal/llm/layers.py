"""Llama's layers with LoRA, forward and backward written out, so that little is kept and little done twice.

Autograd keeps what each small operation reads, and reads and writes all of it once more for each of them. Here a
layer is four functions, which keep their inputs and what the large matrix products made. Norms, activations and
sums are computed again in the backward pass, and every adapter's product is added to the frozen layer's in place.
What is no matrix product is in `frugal.llm.fused`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.autograd.function import once_differentiable

from frugal.llm.attention import attend
from frugal.llm.fused import Quantized, gated, gated_gradients_, quantize, rms_norm, rms_norm_gradient, rotate
from frugal.llm.int8 import Int8Linear
from frugal.llm.memory import WRITTEN_OUT_TYPES
from frugal.llm.recompute import again, replaced_forwards, selective_recomputation

Matrices = list[torch.Tensor]


@dataclass(frozen=True)
class Projections:
    """Frozen linear layers that read one input, with plain LoRA each (Hu et al. 2021, arXiv:2106.09685) or without.

    Attributes:
        bases: the frozen layers, in 4, 8 or more bits.
        scalings: of each one's B A; None: it has no adapter.
        matrices: A (r, inputs) and B (outputs, r) of the first that has an adapter, of the next, ...
    """

    bases: list[nn.Linear]
    scalings: list[float | None]
    matrices: Matrices

    def apply(
        self, inputs: torch.Tensor, matrices: Matrices, onto: torch.Tensor | None = None
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """The layers' outputs, and what lies between all A and all B.

        Args:
            inputs: (n, inputs).
            matrices: as the attribute; autograd's functions have their own.
            onto: (n, outputs), what the outputs are added to.
        """
        kind, downs, ups = inputs.dtype, matrices[::2], matrices[1::2]
        between = inputs @ torch.cat(downs).to(kind).t() if downs else None
        adapters = zip(between.split([len(down) for down in downs], 1), ups, strict=True) if downs else iter(())
        quantized = quantize(inputs) if any(isinstance(base, Int8Linear) for base in self.bases) else None
        outputs = []
        for base, scaling in zip(self.bases, self.scalings, strict=True):
            outputs.append(product(base, inputs, quantized, onto))
            if scaling is not None:
                part, up = next(adapters)
                outputs[-1].addmm_(part, up.to(kind).t(), alpha=scaling)
        return outputs, between

    def gradients(
        self, grads: list[torch.Tensor], inputs: torch.Tensor | None, between: torch.Tensor | None, matrices: Matrices
    ) -> tuple[torch.Tensor, Matrices]:
        """Of the inputs, and of the matrices, from those of the outputs.

        Args:
            inputs: None where no layer has an adapter.
            between: what `apply` gave.
        """
        kind, downs, ups = grads[0].dtype, matrices[::2], matrices[1::2]
        ranks = [len(down) for down in downs]
        adapters = zip(between.split(ranks, 1), ups, strict=True) if downs else iter(())
        to_inputs, to_between, to_ups = None, [], []
        for base, scaling, grad in zip(self.bases, self.scalings, grads, strict=True):
            to_inputs = product_gradient(base, grad, to_inputs)
            if scaling is not None:
                part, up = next(adapters)
                to_between.append((grad @ up.to(kind)).mul_(scaling))
                to_ups.append((part.t() @ grad).t().to(up.dtype).mul_(scaling))
        if not downs:
            return to_inputs, []
        to_between = torch.cat(to_between, 1)
        to_inputs.addmm_(to_between, torch.cat(downs).to(kind))
        to_downs = (to_between.t() @ inputs).to(downs[0].dtype).split(ranks)
        return to_inputs, [matrix for pair in zip(to_downs, to_ups, strict=True) for matrix in pair]


def product(
    base: nn.Linear, inputs: torch.Tensor, quantized: Quantized | None, onto: torch.Tensor | None
) -> torch.Tensor:
    """(n, outputs) of a frozen layer, added to ``onto``; ``quantized`` are the inputs for those in 8 bits."""
    if isinstance(base, Int8Linear):
        return base.product(quantized, onto, inputs.dtype)
    weight = frozen_weight(base, inputs.dtype).t()
    return torch.mm(inputs, weight) if onto is None else torch.addmm(onto, inputs, weight)


def product_gradient(base: nn.Linear, grad: torch.Tensor, onto: torch.Tensor | None) -> torch.Tensor:
    """That of a frozen layer's inputs, (n, inputs), added to ``onto`` in its place."""
    if isinstance(base, Int8Linear):
        return base.gradient(grad, onto)
    weight = frozen_weight(base, grad.dtype)
    return torch.mm(grad, weight) if onto is None else onto.addmm_(grad, weight)


def frozen_weight(base: nn.Linear, kind: torch.dtype) -> torch.Tensor:
    """(outputs, inputs), unpacked where it is in 4 bits."""
    weight = base.weight
    if getattr(weight, "quant_state", None) is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, weight.quant_state).to(kind)


class NormedProjections(torch.autograd.Function):
    """Queries, keys and values: (n, outputs) each, of the normed (n, hidden)."""

    @staticmethod
    def forward(ctx, hidden, norm, projections, *matrices):
        with torch.autocast(hidden.device.type, enabled=False):
            outputs, between = projections.apply(rms_norm(hidden, norm.weight, norm.variance_epsilon), matrices)
        ctx.save_for_backward(hidden, between, *matrices)
        ctx.norm, ctx.projections = norm, projections
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        hidden, between, *matrices = ctx.saved_tensors
        norm = ctx.norm.weight, ctx.norm.variance_epsilon
        normed = rms_norm(hidden, *norm) if matrices else None
        to_normed, to_matrices = ctx.projections.gradients(grads, normed, between, matrices)
        return rms_norm_gradient(to_normed, hidden, *norm), None, None, *to_matrices


class Rotation(torch.autograd.Function):
    """`frugal.llm.fused.rotate`, forward."""

    @staticmethod
    def forward(ctx, vectors, cos, sin):
        ctx.save_for_backward(cos, sin)
        return rotate(vectors, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return rotate(grad, *ctx.saved_tensors, -1), None, None


class AddedProjection(torch.autograd.Function):
    """``hidden`` and a projection of ``inputs``, (n, inputs), together: (n, hidden)."""

    @staticmethod
    def forward(ctx, hidden, inputs, projection, *matrices):
        with torch.autocast(hidden.device.type, enabled=False):
            (output,), between = projection.apply(inputs, matrices, onto=hidden)
        ctx.save_for_backward(inputs if matrices else None, between, *matrices)
        ctx.projection = projection
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        inputs, between, *matrices = ctx.saved_tensors
        to_inputs, to_matrices = ctx.projection.gradients([grad], inputs, between, matrices)
        return grad, to_inputs, None, *to_matrices


class GatedMLP(torch.autograd.Function):
    """``hidden`` and the gated MLP (Shazeer 2020, arXiv:2002.05202, SwiGLU) of its norm together: (n, hidden)."""

    @staticmethod
    def forward(ctx, hidden, norm, into, out, *matrices):
        of_into, of_out = matrices[: len(into.matrices)], matrices[len(into.matrices) :]
        with torch.autocast(hidden.device.type, enabled=False):
            (gate, up), between = into.apply(rms_norm(hidden, norm.weight, norm.variance_epsilon), of_into)
            (output,), inner_between = out.apply(gated(gate, up), of_out, onto=hidden)
        ctx.save_for_backward(hidden, gate, up, between, inner_between, *matrices)
        ctx.norm, ctx.into, ctx.out = norm, into, out
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, gate, up, between, inner_between, *matrices = ctx.saved_tensors
        of_into, of_out = matrices[: len(ctx.into.matrices)], matrices[len(ctx.into.matrices) :]
        norm = ctx.norm.weight, ctx.norm.variance_epsilon
        inner = gated(gate, up) if of_out else None
        to_inner, to_out = ctx.out.gradients([grad], inner, inner_between, of_out)
        del inner
        to_gate, to_up = gated_gradients_(to_inner, gate, up)
        normed = rms_norm(hidden, *norm) if of_into else None
        to_normed, to_into = ctx.into.gradients([to_gate, to_up], normed, between, of_into)
        to_hidden = rms_norm_gradient(to_normed, hidden, *norm, onto=grad)
        return to_hidden, None, None, None, *to_into, *to_out


def projections_of(modules: list[nn.Module]) -> Projections | None:
    """Layers of a model as `Projections`; None where one of them is more than that."""
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


def written_out(layer: nn.Module, checkpointing: bool | Literal["selective"]) -> Callable | None:
    """The forward function of a decoder layer; None where it holds anything that is not written out here.

    Args:
        checkpointing: the backward pass computes all of it again, or with 'selective' the half up to the MLP.
    """
    attention, mlp = layer.self_attn, layer.mlp
    into_attention = projections_of([attention.q_proj, attention.k_proj, attention.v_proj])
    into_mlp = projections_of([mlp.gate_proj, mlp.up_proj])
    out_of_attention, out_of_mlp = projections_of([attention.o_proj]), projections_of([mlp.down_proj])
    norms = layer.input_layernorm, layer.post_attention_layernorm
    if None in (into_attention, into_mlp, out_of_attention, out_of_mlp):
        return None
    if any(norm.weight.requires_grad for norm in norms):
        return None
    size, scaling = attention.head_dim, attention.scaling

    def attended(hidden, cos, sin, segments):
        heads = NormedProjections.apply(hidden, norms[0], into_attention, *into_attention.matrices)
        query, key, value = (each.unflatten(1, (-1, size)) for each in heads)
        query, key = Rotation.apply(query, cos, sin), Rotation.apply(key, cos, sin)
        output = attend(query, key, value, segments, scaling).flatten(1)
        return AddedProjection.apply(hidden, output, out_of_attention, *out_of_attention.matrices)

    half = partial(again, attended) if checkpointing == "selective" else attended

    def whole(hidden, cos, sin, segments):
        matrices = *into_mlp.matrices, *out_of_mlp.matrices
        return GatedMLP.apply(half(hidden, cos, sin, segments), norms[1], into_mlp, out_of_mlp, *matrices)

    def forward(hidden_states, position_embeddings, segments, **kwargs):
        cos, sin = (turn[0].unsqueeze(1) for turn in position_embeddings)
        once = partial(again, whole) if checkpointing is True else whole
        return once(hidden_states[0], cos, sin, segments)[None]

    return forward


@contextmanager
def economical_layers(model, checkpointing: bool | Literal["selective"]) -> Iterator[None]:
    """Within it the layers of a causal language model, below its adapter, are those of this module.

    Models of other types, trained weights, dropout and DoRA are left to the libraries and, where they recompute
    selectively, to `frugal.llm.recompute`.
    """
    config, layers = model.config, list(model.model.layers)
    known = config.model_type in WRITTEN_OUT_TYPES and config.hidden_act == "silu" and not config.attention_dropout
    forwards = [written_out(layer, checkpointing) for layer in layers] if known else [None]
    if None in forwards:
        with selective_recomputation(model) if checkpointing == "selective" else nullcontext():
            yield
        return
    with replaced_forwards(layers, forwards):
        yield
