"""Answers that need no training: from the shapes of models, settings and arithmetic alone.

Every public function takes plain values and returns a number, or a `Bounds` where only a range follows; it is named
by config/claims.yaml. MB and GB are powers of ten here, as in the write-ups that are checked.

The weights of a matrix product take part in it three times: forward, for the gradient of its input, and for its own.
"""

from math import log2
from types import SimpleNamespace
from typing import NamedTuple

from frugal.config.errors import nearest
from frugal.config.llm import LoraSettings, ModelSettings
from frugal.errors import FrugalError
from frugal.llm.memory.estimate import NF4_BYTES, adapter_sizes, base_parameters, frozen_bytes
from frugal.llm.memory.shapes import SHAPES


class Bounds(NamedTuple):
    """A value below ``lower`` or above ``upper`` is impossible; any other is possible, no more."""

    lower: float
    upper: float


def _shape(model: str) -> SimpleNamespace:
    """The published shape of a model, by its name in config/models.yaml.

    Raises:
        FrugalError: `frugal.llm.memory.shapes` does not know the model.
    """
    if model not in SHAPES:
        raise FrugalError(f"model: the shape of '{model}' is not known{nearest(model, list(SHAPES))}")
    return SimpleNamespace(**SHAPES[model])


def model_parameters(model: str) -> int:
    """Weights of a base model: embeddings, linear layers and norms (its config.json)."""
    return base_parameters(_shape(model))


def lora_trainable_parameters(model: str, r: int, target_modules: list[str]) -> int:
    """Weights of a LoRA adapter: r x (inputs + outputs) for each adapted projection of each layer.

    Source: Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1 (A is r x inputs, B is outputs x r).
    """
    return sum(adapter_sizes(_shape(model), LoraSettings(r=r, target_modules=target_modules)))


def lora_all_parameters(model: str, r: int, target_modules: list[str]) -> int:
    """Weights of the base model and its adapter together: what PEFT prints as "all params"."""
    return model_parameters(model) + lora_trainable_parameters(model, r, target_modules)


def lora_trainable_share(model: str, r: int, target_modules: list[str]) -> float:
    """Percent of all weights, the adapter's included, that are trained: PEFT's "trainable%"."""
    return 100 * lora_trainable_parameters(model, r, target_modules) / lora_all_parameters(model, r, target_modules)


def lora_adapter_mb(model: str, r: int, target_modules: list[str], bits: int = 32) -> float:
    """MB of a saved adapter: weights x bits / 8, without the file's header of some kB."""
    return lora_trainable_parameters(model, r, target_modules) * bits / 8 / 1e6


def lora_scaling(r: int, lora_alpha: float) -> float:
    """The factor on the update B A x: lora_alpha / r (Hu et al. 2021, arXiv:2106.09685, section 4.1)."""
    return lora_alpha / r


def lora_compute_saving() -> float:
    """Percent of full fine-tuning's compute that frozen weights save, at most: one product of three, 100 / 3.

    Forward, gradient of the input, gradient of the weights: 2 N operations a token each (Kaplan et al. 2020,
    arXiv:2001.08361, section 2.1). LoRA leaves out the last, and adds its adapter, which is neglected here.
    """
    return 100 / 3


def lora_speedup_limit() -> float:
    """How many times as fast a LoRA step can be as one of full fine-tuning: 3 products / 2; see the saving above.

    At the same operations a second; attention and the loss cost both alike, and bring it nearer to 1.
    """
    return 3 / 2


def weights_gb(model: str, bits: int) -> float:
    """GB of a model whose weights all have the same width: weights x bits / 8."""
    return model_parameters(model) * bits / 8 / 1e9


def nf4_gb(model: str, double_quantization: bool) -> float:
    """GB of a model loaded in NF4: linear layers in 4 bits and their constants, embeddings and norms in 16.

    Source: Dettmers et al. 2023, QLoRA, arXiv:2305.14314, section 3: blocks of 64 weights share a constant of 32
    bits (4.5 bits a weight), doubly quantised of 8 bits and a little (4.127 bits).
    """
    settings = ModelSettings(quantization="nf4", double_quantization=double_quantization)
    return frozen_bytes(_shape(model), settings) / 1e9


def nf4_reduction(model: str, double_quantization: bool, from_bits: int) -> float:
    """Percent by which NF4 makes a model smaller than ``from_bits`` a weight; see `nf4_gb`."""
    return 100 * (1 - nf4_gb(model, double_quantization) / weights_gb(model, from_bits))


def nf4_bits_per_weight(double_quantization: bool) -> float:
    """Bits that NF4 takes for each quantised weight, constants included; see `nf4_gb`."""
    return 8 * NF4_BYTES[double_quantization]


def full_fine_tuning_gb(model: str) -> float:
    """GB of weights, gradients and AdamW's two states in float32, without activations: 16 bytes a weight.

    Source: Rajbhandari et al. 2020, ZeRO, arXiv:1910.02054, section 3.1 (mixed precision takes 16 bytes as well).
    The least in use, 16-bit weights and gradients with 8-bit states, is 6 bytes a weight.
    """
    return 16 * model_parameters(model) / 1e9


def bert4rec_parameters(
    items: int, hidden_size: int, num_hidden_layers: int, intermediate_size: int, max_length: int
) -> int:
    """Weights of BERT4Rec with tied item embeddings and learned positions (Sun et al. 2019, arXiv:1904.06690).

    d hidden_size, f intermediate_size. Items and mask: (items + 1) d, and a bias for each item. Positions:
    max_length x d. A layer: attention 4 (d^2 + d), feed-forward 2 d f + f + d, two norms 4 d. Then a norm 2 d, and a
    dense layer with its norm d^2 + 3 d.
    """
    d, f = hidden_size, intermediate_size
    layer = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d
    return (items + 1) * d + items + max_length * d + num_hidden_layers * layer + 2 * d + d * d + 3 * d


def effective_batch_size(per_device: int, accumulation: int, devices: int = 1) -> int:
    """Examples of an optimiser step: per_device x accumulation x devices."""
    return per_device * accumulation * devices


def optimizer_steps(examples: int, per_device: int, accumulation: int = 1, epochs: int = 1) -> int:
    """Optimiser steps of a run on one device; the last batch and the last step of an epoch may be smaller.

    epochs x ceil(ceil(examples / per_device) / accumulation), as in transformers' Trainer.
    """
    batches = -(-examples // per_device)
    return epochs * -(-batches // accumulation)


def examples_of_steps(steps: int, per_device: int, accumulation: int = 1, epochs: int = 1) -> float:
    """Examples that fill so many optimiser steps: steps / epochs x per_device x accumulation.

    The last step may hold fewer, so a run may have up to per_device x accumulation - 1 examples less.
    """
    return steps / epochs * effective_batch_size(per_device, accumulation)


def ndcg_bounds(hit_rate: float, cutoff: int = 10) -> Bounds:
    """NDCG@k of one target a user, from HR@k: all hits at rank k, or all at rank 1.

    A hit at rank i adds 1 / log2(i + 1) (Järvelin and Kekäläinen 2002), so HR / log2(k + 1) <= NDCG <= HR.
    """
    return Bounds(hit_rate / log2(cutoff + 1), hit_rate)


def hit_rate_bounds(ndcg: float, cutoff: int = 10) -> Bounds:
    """HR@k of one target a user, from NDCG@k: the inverse of `ndcg_bounds`, no more than 1."""
    return Bounds(ndcg, min(1.0, ndcg * log2(cutoff + 1)))


def epoch_minutes(throughput: float, other_throughput: float, other_minutes: float) -> float:
    """Minutes of an epoch at ``throughput``, of the data that another run went through in its own time.

    Samples of an epoch = samples a second x seconds; both runs have the same data, and the throughput is that of the
    whole epoch, so that time spent on compiling, say, counts in it.
    """
    return implied_samples(other_throughput, other_minutes) / throughput / 60


def implied_samples(throughput: float, minutes: float) -> float:
    """Samples of an epoch: samples a second x seconds."""
    return throughput * minutes * 60


def relative_change(before: float, after: float) -> float:
    """Percent by which ``after`` is more than ``before``."""
    return 100 * (after / before - 1)


def difference(before: float, after: float) -> float:
    """``after`` - ``before``, in the unit of both."""
    return after - before


def always_a_accuracy(share_of_a: float) -> float:
    """Accuracy of answering A without reading, where a share of the right answers is A: that share."""
    return share_of_a
