"""What the recommenders' encoder is made of: layers of attention and feed-forward networks, rotary positions, dropout.

A layer is a class with the interface of `Block` and an entry of `LAYERS` in modeling.py.
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn

from frugal.recsys.configuration import RecommenderConfig

#: Language models use 10,000 for thousands of positions; histories here have tens or hundreds.
ROTARY_BASE = 100.0
#: On a CPU, attention over up to this number of positions takes full matmuls: see `attend_to_few`.
FEW_POSITIONS = 64


class Dropout(nn.Module):
    """Dropout with a probability in steps of 1/256, one random byte an element.

    On a CPU the library's own draws a 64-bit number an element, a sixth of the time of a training step.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability
        self.threshold = min(round(256 * probability), 255)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.training or self.threshold == 0:
            return hidden
        if hidden.device.type != "cpu":
            return F.dropout(hidden, self.probability)
        count = (hidden.numel() + 7) // 8
        if torch.compiler.is_compiling():  # `random_` would break the graph
            words = torch.randint(-(2**63), 2**63 - 1, (count,))
        else:
            words = torch.empty(count, dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.uint8)[: hidden.numel()].view(hidden.shape).to(hidden.dtype)
        # 1 from the threshold on, 0 below it. A comparison says the same, and four times as slowly: a CPU makes and
        # converts truth values one by one.
        kept = drawn.sub_(self.threshold - 1).clamp_(0, 1)
        return hidden * kept.mul_(256 / (256 - self.threshold))


class Attention(nn.Module):
    def __init__(self, config: RecommenderConfig):
        super().__init__()
        self.heads, self.causal = config.num_attention_heads, config.causal
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.attention_output = nn.Linear(config.width, config.width)

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor | None, turns: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(batch, length, width) before the output projection, from normed states of the same shape.

        ``turns``, see `rotary_turns`, gives queries and keys rotary positions; without it they have none here.
        """
        batch, length, width = hidden.shape
        packed = self.query_key_value(hidden).view(batch, length, 3, self.heads, width // self.heads)
        query_key, value = packed.split((2, 1), dim=2)
        query, key = (query_key if turns is None else rotate(query_key, turns)).transpose(1, 3).unbind(2)
        value = value.squeeze(2).transpose(1, 2)
        on_cpu = hidden.device.type == "cpu"
        if on_cpu:  # CPU attention in 16 bits is several times slower in its backward pass
            query, key, value = query.float(), key.float(), value.float()
        few = on_cpu and length <= FEW_POSITIONS and not torch.compiler.is_compiling()
        attend = attend_to_few if few else F.scaled_dot_product_attention
        # Padding stands at the end, where a causal position never looks: no mask is needed.
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():  # it would go back to 16 bits
            attended = attend(query, key, value, attn_mask=mask, is_causal=self.causal)
        return attended.transpose(1, 2).reshape(batch, length, width).to(hidden.dtype)


def attend_to_few(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None, is_causal: bool
) -> torch.Tensor:
    """`F.scaled_dot_product_attention`, by one product for all sequences and heads at a time.

    The library's own never holds all probabilities, but works through tiles of each sequence, which do not pay
    where a sequence is no longer than a tile.

    Args:
        query, key, value: (batch, heads, length, d).
        attn_mask: bool, (batch, 1, 1, length), true where a position is seen; each sequence has one that is.
        is_causal: each position sees itself and what is before it; then there is no mask.
    """
    shape, length = query.shape, query.shape[2]
    if is_causal:
        unseen = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
    else:
        unseen = ~attn_mask.expand(-1, shape[1], -1, -1).flatten(0, 1)
    bias = query.new_zeros(unseen.shape).masked_fill_(unseen, -torch.inf)
    query, key, value = (tensor.flatten(0, 1) for tensor in (query, key, value))
    scores = torch.baddbmm(bias, query, key.mT, alpha=shape[-1] ** -0.5)
    return (scores.softmax(-1) @ value).view(shape)


def rotary_turns(length: int, size: int, device: torch.device | str | None = None) -> torch.Tensor:
    """float32, (length, size / 2, 2): cosine and sine of the angles by which `rotate` turns vectors of ``size``.

    Pair i of neighbouring numbers turns by ROTARY_BASE^(-2i / size) radians a position.
    """
    frequencies = ROTARY_BASE ** (-torch.arange(0, size, 2, device=device) / size)
    angles = torch.arange(length, device=device)[:, None] * frequencies
    return torch.view_as_real(torch.polar(torch.ones_like(angles), angles))


def rotate(vectors: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Queries or keys, (batch, length, ..., d), turned by their position (rotary embedding, Su et al., 2021).

    As a complex number, each pair is multiplied by one of length 1: the fastest way where operations run one by
    one. Inductor has no complex numbers, and gets the same product in real ones.

    Args:
        turns: float32, (length, d / 2, 2), see `rotary_turns`.
    """
    turns = turns.view(len(turns), *[1] * (vectors.dim() - 3), *turns.shape[1:])
    pairs = vectors.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():
        (real, imaginary), (cos, sin) = pairs.unbind(-1), turns.unbind(-1)
        turned = torch.stack((real * cos - imaginary * sin, real * sin + imaginary * cos), dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turns))
    return turned.flatten(-2).to(vectors.dtype)


class Block(nn.Module):
    """Attention and feed-forward, each after a layer norm and beside a residual connection (pre-norm)."""

    def __init__(self, config: RecommenderConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.up = nn.Linear(config.width, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.width)
        self.activation = F.relu if config.causal else F.gelu  # as the papers have it
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None,
        turns: torch.Tensor | None = None,
        selected: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """States after the block: as ``hidden``, (batch, length, width), or of ``selected`` positions, (n, width).

        Args:
            mask: bool, (batch, 1, 1, length), true where a position is seen; None in causal models.
            turns: see `Attention`; what the positions give to each layer, see positions.py.
            selected: int64, (n,), positions in the flattened batch. All positions are attended to; what follows
                attention is computed for these alone.
        """
        attended = self.attention(self.attention_norm(hidden), mask, turns)
        if selected is not None:
            hidden, attended = hidden.flatten(0, 1)[selected], attended.flatten(0, 1)[selected]
        hidden = hidden + self.dropout(self.attention.attention_output(attended))
        inner = self.activation(self.up(self.feed_forward_norm(hidden)))
        return hidden + self.dropout(self.down(inner))

    @staticmethod
    def weights_after_attention(config: RecommenderConfig) -> int:
        """The number of weights in matmuls that only selected positions go through."""
        return config.width * (config.width + 2 * config.intermediate_size)


class LiGRBlock(nn.Module):
    """A layer of LiGR: pre-norm, with learned gates on both residual branches, and SwiGLU.

        a = x + sigmoid(W1 x + b1) * MHA(norm(x))
        y = a + sigmoid(W2 a + b2) * Wd (silu(Wg norm(a)) * (Wu norm(a)))

    with dropout of each branch before its gate. Borisyuk et al. (2025), "From Features to Transformers: Redefining
    Ranking for Scalable Impact", arXiv:2502.03417, have the gates; Tikhonovich et al. (2025), eSASRec,
    arXiv:2508.06450, use these layers with SwiGLU (Shazeer, 2020), whose matrices have no biases, for sequential
    recommendation. ``up`` is Wg and Wu in one, each of intermediate_size.
    """

    def __init__(self, config: RecommenderConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.attention = Attention(config)
        self.attention_gate = nn.Linear(config.width, config.width)
        self.feed_forward_norm = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.up = nn.Linear(config.width, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.width, bias=False)
        self.feed_forward_gate = nn.Linear(config.width, config.width)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None,
        turns: torch.Tensor | None = None,
        selected: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As `Block.forward`."""
        attended = self.attention(self.attention_norm(hidden), mask, turns)
        if selected is not None:
            hidden, attended = hidden.flatten(0, 1)[selected], attended.flatten(0, 1)[selected]
        attended = self.dropout(self.attention.attention_output(attended))
        hidden = hidden + self.attention_gate(hidden).sigmoid() * attended
        gate, inner = self.up(self.feed_forward_norm(hidden)).chunk(2, dim=-1)
        inner = self.dropout(self.down(F.silu(gate) * inner))
        return hidden + self.feed_forward_gate(hidden).sigmoid() * inner

    @staticmethod
    def weights_after_attention(config: RecommenderConfig) -> int:
        """As `Block.weights_after_attention`."""
        return config.width * (3 * config.width + 3 * config.intermediate_size)
