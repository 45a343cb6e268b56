"""Selective recomputation of transformers' decoder layers: keep what is expensive to compute, recompute the rest.

Gradient checkpointing computes a whole layer twice. But most of a layer's memory is in attention, norms and
activations, and most of its time in the MLP's matmuls, whose outputs are kept here. After Korthikanti et al. 2022,
Reducing Activation Recomputation in Large Transformer Models, arXiv:2205.05198, who keep the projections of queries,
keys and values too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from frugal.errors import FrugalError

#: Models whose layers are `norm, attention, add, norm, gated MLP, add`, as `SelectiveLayer` computes them.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")

checkpointed = partial(checkpoint, use_reentrant=False)


class ReplacementLayer(nn.Module):
    """Stands in for a decoder layer and shares its submodules, so parameters keep their names and their order."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        for name, module in layer.named_children():
            self.add_module(name, module)
        self.training = layer.training


class SelectiveLayer(ReplacementLayer):
    """Keeps its input, the hidden state after attention, and the MLP's gate and up; recomputes everything else."""

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        hidden = checkpointed(self.attention_block, hidden_states, **kwargs)
        normed = checkpointed(self.post_attention_layernorm, hidden)
        gate, up = self.mlp.gate_proj(normed), self.mlp.up_proj(normed)
        return hidden + self.mlp.down_proj(checkpointed(self.activation, gate, up))

    def attention_block(self, hidden: torch.Tensor, **kwargs) -> torch.Tensor:
        return hidden + self.self_attn(hidden_states=self.input_layernorm(hidden), **kwargs)[0]

    def activation(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return self.mlp.act_fn(gate) * up


@contextmanager
def selective_recomputation(model) -> Iterator[None]:
    """Within it, the layers of a causal language model recompute selectively.

    Args:
        model: without its adapter's wrapper (`get_base_model`).

    Raises:
        FrugalError: its layers are built differently.
    """
    if model.config.model_type not in MODEL_TYPES:
        raise FrugalError(
            f"training.gradient_checkpointing: 'selective' knows the layers of {', '.join(MODEL_TYPES)}, not of "
            f"{model.config.model_type}: set it to true or false"
        )
    with replaced_layers(model, [SelectiveLayer(layer) for layer in model.model.layers]):
        yield


@contextmanager
def replaced_layers(model, replacements: Sequence[ReplacementLayer]) -> Iterator[None]:
    """Within it, ``replacements`` are the decoder layers of a causal language model."""
    layers = model.model.layers
    originals = list(layers)
    for index, layer in enumerate(replacements):
        layers[index] = layer
    try:
        yield
    finally:
        for index, layer in enumerate(originals):
            layers[index] = layer
