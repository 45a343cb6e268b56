"""FLOPs of training and evaluation, from shapes and settings alone; torch is not imported.

These are the counts that a training record's share of the matmul peak is taken of (`frugal.llm.measurement` and
`frugal.recsys.training_record`, which count the weights of a real model); the tests hold both beside each other.
"""

from dataclasses import dataclass
from typing import Any

from frugal.config.recommendation import ModelSettings
from frugal.llm.memory.estimate import base_parameters

#: FLOPs for each weight and token: forward, and forward with backward where the weights themselves are frozen.
FORWARD, WITH_BACKWARD = 2, 4


def language_model_flops(shape: Any, tokens: float, output_tokens: float, each: int) -> float:
    """FLOPs of a language model on ``tokens`` tokens, ``output_tokens`` of which go through the output layer.

    Attention's products of queries with keys, the adapter's own matmuls and recomputation are not counted.

    Args:
        shape: see `frugal.llm.memory.shapes.model_shape`.
        each: `FORWARD` or `WITH_BACKWARD`.
    """
    head = shape.vocab_size * shape.hidden_size
    layers = base_parameters(shape) - head * (1 if shape.tie_word_embeddings else 2)
    return each * (layers * tokens + head * output_tokens)


@dataclass(frozen=True)
class RecommenderFlops:
    """FLOPs of the blocks and of the scores over the catalogue, which may compute in two dtypes."""

    blocks: float
    scores: float


def recommender_flops(
    model: ModelSettings, positions: float, targets: float, mean_length: float, items: int, passes: int
) -> RecommenderFlops:
    """FLOPs of a recommender on ``positions`` positions without padding, ``targets`` of which are predicted.

    A matmul takes 2 for each weight, position and pass. Attention takes 4 x width for each pair of positions that
    attend to each other, in a training three times. In the last block only targets go on after attention.

    Args:
        mean_length: positions of a sequence.
        items: those that each target is scored against.
        passes: 1 forward, 2 with the gradients of inputs, 3 with those of the weights too.
    """
    width, inner = model.width, model.intermediate_size
    # A layer's weights in matmuls, and those of them that come after attention.
    everywhere, at_targets = {
        "transformer": (4 * width**2 + 2 * width * inner, width**2 + 2 * width * inner),
        "ligr": (6 * width**2 + 3 * width * inner, 3 * width**2 + 3 * width * inner),
        "hstu": (5 * width**2, width**2),
    }[model.layers]
    everywhere *= model.num_hidden_layers
    weights = positions * (everywhere - at_targets) + targets * at_targets
    bert4rec = model.architecture == "bert4rec"
    attention = 4 * width * mean_length * (1 if bert4rec else 0.5) * model.num_hidden_layers
    output = model.hidden_size * items + (width**2 if bert4rec and model.output_projection else 0)
    return RecommenderFlops(
        blocks=2 * weights * passes + positions * attention * (1 if passes == 1 else 3),
        scores=targets * 2 * output * passes,
    )
