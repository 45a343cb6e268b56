"""How a recommender knows the order of its items.

Positions are a module and an entry of `POSITIONS`. They have two methods: `add` changes the embedded items before the
first layer, and `for_layers` gives each layer what its attention looks at, from the embedded items and their times,
int64, (batch, length), in seconds, or None. The module is called ``position_embedding`` in the model, which its weights
are named after.
"""

import torch
from torch import nn

from frugal.errors import FrugalError
from frugal.recsys.configuration import RecommenderConfig
from frugal.recsys.layers import rotary_turns

#: Buckets of the time between two items, each e^0.301 = 1.35 times as wide as the one before.
BUCKETS, BUCKET_WIDTH = 128, 0.301


class LearnedPositions(nn.Embedding):
    """An embedding p_i of each position, added to the item's: x_i + p_i (SASRec, SSE-PT and BERT4Rec as published)."""

    def __init__(self, config: RecommenderConfig):
        super().__init__(config.max_position_embeddings, config.width)
        self.layers = config.num_hidden_layers

    def add(self, embedded: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) from embedded items of the same shape."""
        return embedded + self.weight[: embedded.shape[1]]

    def for_layers(self, embedded: torch.Tensor, times: torch.Tensor | None) -> list[None]:
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

    def for_layers(self, embedded: torch.Tensor, times: torch.Tensor | None) -> list[torch.Tensor]:
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

    def for_layers(self, embedded: torch.Tensor, times: torch.Tensor | None) -> list[torch.Tensor]:
        """For each layer a bias (length, length): row i is added to the scores of position i for each position j."""
        places = torch.arange(embedded.shape[1], device=embedded.device)
        return list(self.distances(places[:, None] - places + self.longest - 1).unbind(-1))


class TimePositions(RelativePositions):
    """A learned bias for each layer, of the distance and of the time between two items, HSTU's whole bias.

        r_ij = p_(i - j) + q_bucket(|t_i - t_j|),   bucket(s) = floor(log(max(s, 1)) / 0.301)

    with s in seconds (Zhai et al., 2024; the buckets are those of their code). Their code gives row i the time of the
    item after i, which is the target's. Here it is that of item i itself: only what has been read is known.
    """

    def __init__(self, config: RecommenderConfig):
        super().__init__(config)
        self.intervals = nn.Embedding(BUCKETS, config.num_hidden_layers)

    def for_layers(self, embedded: torch.Tensor, times: torch.Tensor | None) -> list[torch.Tensor]:
        """For each layer a bias (batch, 1, length, length), see `RelativePositions.for_layers`.

        Raises:
            FrugalError: there are no times.
        """
        if times is None:
            raise FrugalError("positions 'time' need the times of the items: set data.times to true")
        seconds = (times[:, :, None] - times[:, None, :]).abs().clamp(min=1)
        buckets = (seconds.float().log() / BUCKET_WIDTH).long().clamp(max=BUCKETS - 1)
        of_times = self.intervals(buckets).unbind(-1)
        of_places = super().for_layers(embedded, times)
        return [(place + time).unsqueeze(1) for place, time in zip(of_places, of_times, strict=True)]


#: model.positions -> its module.
POSITIONS: dict[str, type[nn.Module]] = {
    "learned": LearnedPositions,
    "rotary": RotaryPositions,
    "relative": RelativePositions,
    "time": TimePositions,
}
