"""Configurations of the recommenders: what is stored beside their weights."""

from typing import Any

from transformers import PreTrainedConfig


class RecommenderConfig(PreTrainedConfig):
    """What all three models share.

    Attributes:
        item_count: size of the catalogue; item ids run from 0 to item_count - 1.
        user_count: users with an embedding (SSE-PT only).
        hidden_size: width of the item embedding, and of the blocks (plus user_embedding_size in SSE-PT).
        max_position_embeddings: longest sequence; of longer histories the newest items are read.
        layers: an entry of `frugal.recsys.modeling.LAYERS`.
        positions: an entry of `frugal.recsys.positions.POSITIONS`.
        score: "dot", or "cosine": embeddings and states are normalised, and their cosine is multiplied
            by ``cosine_scale``. Norms then cannot grow with popularity, and fewer epochs are needed.
    """

    item_count: int = 1
    user_count: int = 0
    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    intermediate_size: int = 256
    max_position_embeddings: int = 50
    hidden_dropout_prob: float = 0.2
    layers: str = "transformer"
    positions: str = "learned"
    score: str = "dot"
    cosine_scale: float = 14.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False  # scores read the item embedding itself: there is nothing to tie

    def to_diff_dict(self) -> dict[str, Any]:
        """What config.json holds. ``layers`` came when there were models already, whose files stay the same."""
        values = super().to_diff_dict()
        if self.layers == RecommenderConfig.layers:
            values.pop("layers", None)
        return values

    @property
    def causal(self) -> bool:
        """Whether a position sees only what came before it."""
        return True

    @property
    def width(self) -> int:
        """Width of the blocks."""
        return self.hidden_size


class SASRecConfig(RecommenderConfig):
    model_type = "sasrec"


class SSEPTConfig(RecommenderConfig):
    """SSE-PT.

    Attributes:
        user_embedding_size: width of the user's part.
        sse_user_probability, sse_item_probability: with these probabilities an id is replaced by a
            random one in training, at each position on its own.
    """

    model_type = "ssept"

    user_embedding_size: int = 64
    sse_user_probability: float = 0.9
    sse_item_probability: float = 0.1

    @property
    def width(self) -> int:
        return self.hidden_size + self.user_embedding_size


class BERT4RecConfig(RecommenderConfig):
    """BERT4Rec. The batches do the masking; one more embedding than items stands for the mask.

    Attributes:
        output_projection: a dense layer with GELU and a norm before the scores, as published.
    """

    model_type = "bert4rec"

    output_projection: bool = True

    @property
    def causal(self) -> bool:
        return False

    @property
    def mask_token_id(self) -> int:
        return self.item_count
