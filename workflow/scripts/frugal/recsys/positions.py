"""How a recommender knows the order of its items.

Positions are a module and an entry of `POSITIONS`. They have two methods: `add` changes the embedded items before the
first layer, and `for_layers` gives each layer what its attention looks at. The module is called ``position_embedding``
in the model, which its weights are named after.
"""

import torch
from torch import nn

from frugal.recsys.configuration import RecommenderConfig
from frugal.recsys.layers import rotary_turns


class LearnedPositions(nn.Embedding):
    """An embedding p_i of each position, added to the item's: x_i + p_i (SASRec, SSE-PT and BERT4Rec as published)."""

    def __init__(self, config: RecommenderConfig):
        super().__init__(config.max_position_embeddings, config.width)
        self.layers = config.num_hidden_layers

    def add(self, embedded: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) from embedded items of the same shape."""
        return embedded + self.weight[: embedded.shape[1]]

    def for_layers(self, embedded: torch.Tensor) -> list[None]:
        """For each layer nothing."""
        return [None] * self.layers


class RotaryPositions(nn.Module):
    """Queries and keys are rotated by angles that grow with their positions (Su et al., 2021); see `rotate`."""

    def __init__(self, config: RecommenderConfig):
        super().__init__()
        self.layers, self.size = config.num_hidden_layers, config.width // config.num_attention_heads

    def add(self, embedded: torch.Tensor) -> torch.Tensor:
        """``embedded`` itself."""
        return embedded

    def for_layers(self, embedded: torch.Tensor) -> list[torch.Tensor]:
        """For each layer the same `rotary_turns`.

        Once for all layers, and outside of them: compiled, they would compute each angle at every use.
        """
        return [rotary_turns(embedded.shape[1], self.size, embedded.device)] * self.layers


class RelativePositions(nn.Module):
    """A learned bias of attention for each layer and distance: r_ij = p_(i - j), the positional part of HSTU's bias.

    Zhai et al. (2024), "Actions Speak Louder than Words", arXiv:2402.17152, section 3.2.
    """

    def __init__(self, config: RecommenderConfig):
        super().__init__()
        self.longest = config.max_position_embeddings
        self.distances = nn.Embedding(2 * self.longest - 1, config.num_hidden_layers)

    def add(self, embedded: torch.Tensor) -> torch.Tensor:
        """``embedded`` itself."""
        return embedded

    def for_layers(self, embedded: torch.Tensor) -> list[torch.Tensor]:
        """For each layer a bias (length, length): row i is added to the scores of position i for each position j."""
        places = torch.arange(embedded.shape[1], device=embedded.device)
        return list(self.distances(places[:, None] - places + self.longest - 1).unbind(-1))


#: model.positions -> its module.
POSITIONS: dict[str, type[nn.Module]] = {
    "learned": LearnedPositions,
    "rotary": RotaryPositions,
    "relative": RelativePositions,
}
