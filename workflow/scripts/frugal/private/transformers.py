"""Of transformers, read in 5.23.0."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel
from transformers.trainer_pt_utils import get_length_grouped_indices


def attention_name(model: PreTrainedModel) -> str:
    """The name of a model's attention. It is set by `set_attn_implementation`; to read it there is no public way.

    Without it, no training without padding starts.
    """
    return model.config._attn_implementation


def length_grouped_indices(lengths: Sequence[int], group: int, generator: torch.Generator) -> list[int]:
    """Random order in which every ``group`` rows are of like length: `LengthGroupedSampler` without its own generator.

    Not documented. The order that it draws is part of every result with `train_sampling_strategy: group_by_length`.
    """
    return get_length_grouped_indices(lengths, group, generator=generator)
