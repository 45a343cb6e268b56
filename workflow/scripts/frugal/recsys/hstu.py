"""Hierarchical sequential transduction units: attention without a softmax, and a gate for a feed-forward network."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn

from frugal.recsys.configuration import RecommenderConfig
from frugal.recsys.layers import Dropout, rotate


class HSTUBlock(nn.Module):
    """A layer of HSTU (Zhai et al., 2024, "Actions Speak Louder than Words", arXiv:2402.17152, section 3).

        [u, q, k, v] = silu(W1 norm(x))
        a_i = 1/n sum over j of silu(q_i . k_j + r_ij) v_j,   in each head
        y = x + W2 (norm(a) * u) + b2

    r is the bias of the positions, see `RelativePositions`; rotary positions rotate q and k instead. The weights of
    attention do not sum to 1, so a state knows how many items of a sort there were. n is max_position_embeddings, so
    that padding changes nothing. In causal models j goes up to i. There is no feed-forward network.

    The first matrix is named as that of the other layers, where adapters look for it.
    """

    def __init__(self, config: RecommenderConfig):
        super().__init__()
        self.heads, self.causal = config.num_attention_heads, config.causal
        self.longest, self.rotary = config.max_position_embeddings, config.positions == "rotary"
        self.attention_norm = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.query_key_value = nn.Linear(config.width, 4 * config.width, bias=False)
        self.attended_norm = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.attention_output = nn.Linear(config.width, config.width)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None,
        between: torch.Tensor | None = None,
        selected: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As `Block.forward`.

        Args:
            between: `rotary_turns` with rotary positions, else a bias that broadcasts to (batch, heads, length,
                length), or None.
        """
        batch, length, width = hidden.shape
        packed = F.silu(self.query_key_value(self.attention_norm(hidden)))
        gate, packed = packed.split((width, 3 * width), dim=-1)
        query_key, value = packed.unflatten(-1, (3, self.heads, -1)).split((2, 1), dim=2)
        query, key = (rotate(query_key, between) if self.rotary else query_key).transpose(1, 3).unbind(2)
        value = value.squeeze(2).transpose(1, 2)
        on_cpu = hidden.device.type == "cpu"
        if on_cpu:  # as in `Attention`
            query, key, value = query.float(), key.float(), value.float()
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
            scores = query @ key.mT
            if between is not None and not self.rotary:
                scores = scores + between
            weights = F.silu(scores) / self.longest
            # Padding stands at the end, where a causal position never looks.
            weights = weights.tril() if self.causal else weights * mask
            attended = (weights @ value).transpose(1, 2).reshape(batch, length, width).to(hidden.dtype)
        if selected is not None:
            hidden, attended, gate = (states.flatten(0, 1)[selected] for states in (hidden, attended, gate))
        return hidden + self.attention_output(self.dropout(self.attended_norm(attended) * gate))

    @staticmethod
    def weights_after_attention(config: RecommenderConfig) -> int:
        """As `Block.weights_after_attention`."""
        return config.width**2
