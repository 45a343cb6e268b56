"""Selective recomputation of the libraries' layers: computed again is what is cheap, and what is dear is kept.

Gradient checkpointing computes a whole layer twice. But most of its memory is in attention, norms and activations,
and most of its time in the MLP's products, which are kept here. After Korthikanti et al. 2022, Reducing Activation
Recomputation in Large Transformer Models, arXiv:2205.05198, who keep the projections of queries, keys and values too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from frugal.errors import FrugalError

#: Models whose layers are `norm, attention, add, norm, gated MLP, add`, as `selective_forward` has it.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")

again = partial(checkpoint, use_reentrant=False)


def selective_forward(layer) -> Callable:
    """What ``layer`` computes, keeping its input, the state behind its attention, and the MLP's gate and up."""
    mlp = layer.mlp

    def attend(hidden, **kwargs):
        return hidden + layer.self_attn(hidden_states=layer.input_layernorm(hidden), **kwargs)[0]

    def activate(gate, up):
        return mlp.act_fn(gate) * up

    def forward(hidden_states, **kwargs):
        hidden = again(attend, hidden_states, **kwargs)
        normed = again(layer.post_attention_layernorm, hidden)
        return hidden + mlp.down_proj(again(activate, mlp.gate_proj(normed), mlp.up_proj(normed)))

    return forward


@contextmanager
def selective_recomputation(model) -> Iterator[None]:
    """Within it the layers of a causal language model, below its adapter, recompute selectively.

    Raises:
        FrugalError: its layers are of another kind.
    """
    if model.config.model_type not in MODEL_TYPES:
        raise FrugalError(
            f"training.gradient_checkpointing: 'selective' knows the layers of {', '.join(MODEL_TYPES)}, not of "
            f"{model.config.model_type}: set it to true or false"
        )
    layers = list(model.model.layers)
    with replaced_forwards(layers, [selective_forward(layer) for layer in layers]):
        yield


@contextmanager
def replaced_forwards(layers: Sequence[nn.Module], forwards: Sequence[Callable]) -> Iterator[None]:
    """Within it each layer computes by the function given for it."""
    for layer, forward in zip(layers, forwards, strict=True):
        layer.forward = forward
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
