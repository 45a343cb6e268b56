"""SASRec, SSE-PT and BERT4Rec: one encoder, three ways to read and to train it."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, logging

from frugal.errors import FrugalError, blaming
from frugal.files import read_json
from frugal.losses import ROW_MULTIPLE
from frugal.recsys.configuration import BERT4RecConfig, RecommenderConfig, SASRecConfig, SSEPTConfig
from frugal.recsys.evaluation import Scorer
from frugal.recsys.histories import Histories
from frugal.recsys.hstu import HSTUBlock
from frugal.recsys.layers import Block, Dropout, LiGRBlock
from frugal.recsys.losses import FullSoftmax, Loss
from frugal.recsys.positions import POSITIONS

logging.disable_progress_bar()  # in logs, bars are noise

#: model.layers -> the class of one layer; see `Block` for what it is given.
LAYERS: dict[str, type[nn.Module]] = {"transformer": Block, "ligr": LiGRBlock, "hstu": HSTUBlock}
#: Label of a position where nothing is predicted.
IGNORED = -100


@dataclass
class RecommenderOutput(ModelOutput):
    """
    Attributes:
        loss: its mean over the labelled positions, float32; None without labels.
        hidden_states: (batch, length, width), after the last norm; None in training.
    """

    loss: torch.Tensor | None = None
    hidden_states: torch.Tensor | None = None


class Recommender(PreTrainedModel):
    """A Transformer over a user's items; what the three models have in common.

    Sequences are padded at their end; ``lengths`` are the numbers of real items. Any item id may stand there.
    """

    config_class = RecommenderConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    accepts_loss_kwargs = True  # the loss is divided by the items of the whole accumulated batch

    def __init__(self, config: RecommenderConfig):
        super().__init__(config)
        self.item_embedding = nn.Embedding(config.item_count + (not config.causal), config.hidden_size)
        self.position_embedding = POSITIONS[config.positions](config)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.blocks = nn.ModuleList(LAYERS[config.layers](config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.width, config.layer_norm_eps)
        self.item_bias = nn.Parameter(torch.zeros(config.item_count))
        #: The loss, which belongs to the training run and is not saved.
        self.criterion: Loss = FullSoftmax()
        #: The dtype of the loss's matmuls; its sums and exponentials are in float32.
        self.loss_dtype = torch.float32
        #: The dtype of the blocks' matmuls in `score`; None: that of the weights.
        self.scoring_dtype: torch.dtype | None = None
        #: Called with (embedded, lengths, selected) before the blocks; adapters that look at the sequence set it.
        self.on_embedded = None
        self._add_parts(config)
        self.post_init()

    def _add_parts(self, config: RecommenderConfig) -> None:
        """What a subclass has in addition."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_normal_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, Recommender):
            init.zeros_(module.item_bias)

    def embed(self, input_ids: torch.Tensor, user_ids: torch.Tensor | None) -> torch.Tensor:
        """(batch, length, width) from ids (batch, length) and users (batch,), before positions."""
        embedded = self.item_embedding(input_ids)
        if self.config.score == "cosine":
            embedded = F.normalize(embedded, dim=-1) * (0.5 * self.config.hidden_size**0.5)
        return embedded

    def encode(
        self,
        input_ids: torch.Tensor,
        lengths: torch.Tensor,
        user_ids: torch.Tensor | None = None,
        selected: torch.Tensor | None = None,
        times: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """States (batch, length, width) of ids (batch, length), whose sequences are ``lengths`` (batch,) long.

        Positions "time" read ``times``, int64, (batch, length), in seconds.

        With ``selected``, int64, (n,), positions in the flattened batch, the states (n, width) of these alone: the
        last block then leaves out most of its work for the others.
        """
        embedded = self.embed(input_ids, user_ids)
        if self.on_embedded is not None:
            self.on_embedded(embedded, lengths, selected)
        hidden = self.dropout(self.position_embedding.add(embedded))
        mask = None
        if not self.config.causal:
            places = torch.arange(input_ids.shape[1], device=input_ids.device)
            mask = (places < lengths[:, None])[:, None, None, :]
        *between, last = self.position_embedding.for_layers(embedded, times)
        for block, of_layer in zip(self.blocks[:-1], between, strict=True):
            hidden = block(hidden, mask, of_layer)
        return self.norm(self.blocks[-1](hidden, mask, last, selected))

    def compile_blocks(self) -> None:
        """Compile the blocks, for batches of any size; of several not the last, whose work is a part of theirs.

        All the others are one graph. The last, which goes on with the selected positions alone, would be a second
        one, and compiling takes its time for each.
        """
        for block in self.blocks[:-1] or self.blocks:
            block.compile(dynamic=True)

    def output_weights(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States (n, width) and item weights (items, hidden_size) whose products, plus bias, are the scores."""
        items = self.item_embedding.weight[: self.config.item_count]
        hidden = hidden[..., : self.config.hidden_size]
        if self.config.score == "cosine":
            hidden = self.config.cosine_scale * F.normalize(hidden, dim=-1)
            items = F.normalize(items, dim=-1)
        return hidden, items

    def forward(
        self,
        input_ids: torch.Tensor,
        lengths: torch.Tensor,
        labels: torch.Tensor | None = None,
        user_ids: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        times: torch.Tensor | None = None,
    ) -> RecommenderOutput:
        """States, or the loss where there are labels.

        Args:
            input_ids: int64, (batch, length).
            lengths: int64, (batch,): the rest of each row is padding.
            labels: int64, (batch, length): the item to be predicted at each position, or -100.
            user_ids: int64, (batch,); only SSE-PT reads them.
            num_items_in_batch: divide the summed loss by this, instead of by the labels here.
            times: int64, (batch, length), in seconds; only positions "time" read them.
        """
        if labels is None:
            return RecommenderOutput(hidden_states=self.encode(input_ids, lengths, user_ids, times=times))
        labels = labels.flatten()
        scored = (labels != IGNORED).nonzero().squeeze(1)
        targets = labels[scored]
        filled = F.pad(scored, (0, -len(scored) % ROW_MULTIPLE))  # with a position that is not looked at
        hidden = self.encode(input_ids, lengths, user_ids, filled, times)
        states, items = self.output_weights(hidden[: len(scored)])
        loss = self.criterion(states.to(self.loss_dtype), items, self.item_bias, targets)
        return RecommenderOutput(
            loss=loss / (max(len(targets), 1) if num_items_in_batch is None else num_items_in_batch)
        )

    @torch.inference_mode()
    def score(
        self, users: np.ndarray, histories: list[np.ndarray], times: list[np.ndarray] | None = None
    ) -> torch.Tensor:
        """Scores of all items as the next one: float32, (users, items), on the model's device.

        Of histories that are longer than max_position_embeddings (BERT4Rec: less the mask), the newest items are read.

        Args:
            users: int64, (users,).
            histories: each user's items, oldest first.
            times: those of the items, in seconds; only positions "time" read them.

        Raises:
            FrugalError: a history is empty.
        """
        if not all(map(len, histories)):
            raise FrugalError("a history without items cannot be scored; give each user at least one item")
        input_ids, lengths = self._batch(histories)
        device = self.device
        users = torch.as_tensor(users, dtype=torch.int64)
        last = torch.arange(len(input_ids)) * input_ids.shape[1] + lengths - 1
        if times is not None:
            times = pad([moments[-self.config.max_position_embeddings :] for moments in times]).to(device)
        with torch.autocast(device.type, self.scoring_dtype) if self.scoring_dtype else nullcontext():
            hidden = self.encode(input_ids.to(device), lengths.to(device), users.to(device), last.to(device), times)
        # In float32: of scores in 16 bits many would be equal.
        states, items = self.output_weights(hidden.float())
        return (states @ items.t() + self.item_bias).float()

    def scorer(self, context: Histories) -> Scorer:
        """`score` for users of ``context``, with their times where these are kept."""
        if context.times is None or self.config.positions != "time":
            return self.score
        return lambda users, histories: self.score(users, histories, [context.times_of(user) for user in users])

    def _batch(self, histories: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids padded to the longest, and lengths."""
        read = [history[-self.config.max_position_embeddings :] for history in histories]
        return pad(read), torch.tensor([len(history) for history in read])

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of weights: all, and of these item embeddings, user embeddings, and the rest."""
        total = sum(parameter.numel() for parameter in self.parameters())
        items = self.item_embedding.weight.numel() + self.item_bias.numel()
        users = getattr(self, "user_embedding", None)
        users = 0 if users is None else users.weight.numel()
        return {
            "parameters": total,
            "item_embedding_parameters": items,
            "user_embedding_parameters": users,
            "encoder_parameters": total - items - users,
        }


class SASRec(Recommender):
    """Self-attentive sequential recommendation (Kang and McAuley, 2018), trained with full cross-entropy.

    The paper's binary cross-entropy with one negative makes it overconfident (Petrov and Macdonald, 2023);
    over all items it is a strong reference (Klenitskiy and Vasilev, 2023).
    """

    config_class = SASRecConfig


class SSEPT(Recommender):
    """SSE-PT (Wu, Li, Hsieh and Sharpnack, 2020): SASRec with users, and stochastic shared embeddings.

    Item and user embedding stand side by side at every position. In training, ids are replaced by random
    ones (SSE-SE of Wu et al., 2019), at each position with the configured probabilities. The paper scores
    items against [item ; user]; the user's half adds the same to all items of a position, so it changes
    neither the softmax nor the ranking, and is left out.
    """

    config_class = SSEPTConfig

    def _add_parts(self, config: SSEPTConfig) -> None:
        if config.user_count < 1:
            raise FrugalError("SSE-PT needs user_count, the number of users that have an embedding")
        self.user_embedding = nn.Embedding(config.user_count, config.user_embedding_size)

    def embed(self, input_ids: torch.Tensor, user_ids: torch.Tensor | None) -> torch.Tensor:
        users = user_ids[:, None].expand(input_ids.shape)
        if self.training:
            input_ids = shared(input_ids, self.config.item_count, self.config.sse_item_probability)
            users = shared(users, self.config.user_count, self.config.sse_user_probability)
        user = self.user_embedding(users)
        return torch.cat((super().embed(input_ids, None), user), dim=-1)


class BERT4Rec(Recommender):
    """BERT4Rec (Sun et al., 2019): predicts masked items from both sides, and the next one at a final mask.

    As published, a dense layer with GELU and a norm stands between the encoder and the item embedding;
    ``output_projection`` false leaves it out.
    """

    config_class = BERT4RecConfig

    def _add_parts(self, config: BERT4RecConfig) -> None:
        if config.output_projection:
            self.transform = nn.Linear(config.width, config.width)
            self.transform_norm = nn.LayerNorm(config.width, config.layer_norm_eps)

    def output_weights(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.config.output_projection:
            hidden = self.transform_norm(F.gelu(self.transform(hidden)))
        return super().output_weights(hidden)

    def _batch(self, histories: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        return super()._batch([np.append(history, self.config.mask_token_id) for history in histories])


MODELS: dict[str, type[Recommender]] = {model.config_class.model_type: model for model in (SASRec, SSEPT, BERT4Rec)}


def shared(ids: torch.Tensor, count: int, probability: float) -> torch.Tensor:
    """``ids`` with each replaced, with ``probability``, by one drawn uniformly from ``count``."""
    if probability == 0:
        return ids
    replaced = torch.rand(ids.shape, device=ids.device) < probability
    return torch.where(replaced, torch.randint(count, ids.shape, device=ids.device), ids)


def pad(sequences: list[np.ndarray]) -> torch.Tensor:
    """int64, (sequences, longest): sequences with zeros behind them."""
    padded = np.zeros((len(sequences), max(map(len, sequences))), dtype=np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return torch.from_numpy(padded)


def load_recommender(folder: Path) -> Recommender:
    """The model that a training run saved.

    Raises:
        FrugalError: the folder holds no recommender, or one that does not fit its configuration.
    """
    with blaming(folder, "holds no recommender that can be read"):
        kind = read_json(Path(folder) / "config.json")["model_type"]
        model, report = MODELS[kind].from_pretrained(folder, output_loading_info=True)
    wrong = [*report["missing_keys"], *report["unexpected_keys"]]
    if wrong:
        raise FrugalError(f"{folder}: the weights do not fit the configuration: {', '.join(sorted(wrong)[:5])}")
    return model
