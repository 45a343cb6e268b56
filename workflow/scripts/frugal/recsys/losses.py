"""The recommenders' losses: over the whole catalogue, or against sampled items.

A loss is a function of states, item weights, item biases and targets, and a class of the same arguments that holds its
settings and is an entry of `LOSSES`. Scores are float32: s_i = h . w_i + b_i, and s+ is the target's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from frugal.config.recommendation import LossSettings
from frugal.losses import chunked_cross_entropy

#: Logits that `full_softmax` aims to hold at once: few enough for a processor's cache, many enough to keep a
#: GPU busy.
CHUNK_LOGITS = {"cpu": 2**19, "cuda": 2**27}
SMALLEST_CHUNK = 128


def full_softmax(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over positions of cross-entropy over all items; see `chunked_cross_entropy`.

    The chunk is chosen by the size of the catalogue and the device. Its logits weigh at least as much as the
    weights do, because each chunk reads and writes the weights' gradient.

    Args:
        hidden: (positions, d); its dtype is that of the matmuls.
        weight: (items, d).
        bias: (items,).
        targets: int64, (positions,).
    """
    chunk = max(SMALLEST_CHUNK, CHUNK_LOGITS[hidden.device.type] // len(weight), weight.shape[1])
    return chunked_cross_entropy(hidden, weight, bias, targets, chunk)


def sampled_softmax(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    targets: torch.Tensor,
    negatives: int,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The sum over positions of cross-entropy against uniformly sampled negatives, with logQ correction.

    See `softmax_against`. The same negatives serve all positions of a batch; one that is a position's target is left
    out there.

    Args:
        hidden, weight, bias, targets: as in `full_softmax`.
        negatives: the number of items that are drawn, with replacement.
        generator: of the device of ``hidden``.
    """
    sampled = draw_items(len(weight), negatives, hidden.device, generator)
    # Each of the items - 1 others is drawn negatives / items times on average.
    expected = torch.log(torch.tensor(negatives / len(weight), device=hidden.device))
    return softmax_against(hidden, weight, bias, targets, sampled, expected)


def in_batch_softmax(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    targets: torch.Tensor,
    negatives: int,
    shares: torch.Tensor,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The sum over positions of cross-entropy against the other targets of the batch, with logQ correction.

    The negatives are the targets of the batch, or ``negatives`` of its n positions drawn without replacement, m in
    either case. A position's own target is none of its negatives, wherever else in the batch it stands. Popular items
    are targets more often, so without the correction the loss would lower their scores (Yi et al., 2019,
    "Sampling-bias-corrected neural modeling for large corpus item recommendations"). With it, see `softmax_against`,
    the normaliser is right on average for targets that are drawn independently by their shares; those of one sequence
    are not independent.

    Args:
        hidden, weight, bias, targets: as in `full_softmax`.
        shares: float32, (items,): the probability q_i that a target is item i.
        generator: of the device of ``hidden``.
    """
    positions = len(targets)
    sampled = targets
    if positions > negatives:
        sampled = targets[torch.randperm(positions, device=hidden.device, generator=generator)[:negatives]]
    # Of the m, each is another position than one's own with probability (n - 1) / n.
    others = len(sampled) * max(positions - 1, 1) / max(positions, 1)
    return softmax_against(hidden, weight, bias, targets, sampled, (others * shares[sampled]).log())


def softmax_against(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    targets: torch.Tensor,
    sampled: torch.Tensor,
    log_expected: torch.Tensor,
) -> torch.Tensor:
    """The sum over positions of cross-entropy against sampled negatives, with logQ correction.

        loss = log(exp(s+) + sum over sampled j other than the target of exp(s_j - log E_j)) - s+

    E_j is the number of times that item j is expected among the negatives, so the sampled normaliser estimates that of
    all items without bias (Bengio and Senecal, 2008; Jean et al., 2015, section 3; Yi et al., 2019). The target is
    not sampled: it is always there, counts once, and has no correction.

    Args:
        hidden, weight, bias, targets: as in `full_softmax`.
        sampled: int64, (m,): items, with repetitions; where one is a position's target it is left out there.
        log_expected: float32, (m,) or a scalar: log E of each.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        positive, negative = sampled_scores(hidden, weight, bias, targets, sampled)
        negative = negative - log_expected
        negative = negative.masked_fill(sampled == targets[:, None], float("-inf"))
        normaliser = torch.logaddexp(positive, negative.logsumexp(-1))
        return (normaliser - positive).sum()


def gbce(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    targets: torch.Tensor,
    negatives: int,
    calibration: float,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The sum over positions of generalised binary cross-entropy against uniformly sampled negatives.

    Petrov and Macdonald (2023), "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
    Sampling", with k negatives of I items and the calibration t:

        loss = -(log(sigma(s+)^beta) + sum over negatives j of log(1 - sigma(s_j))) / (k + 1)
        beta = alpha (t (1 - 1 / alpha) + 1 / alpha),  alpha = k / (I - 1)

    t = 0 is binary cross-entropy, whose probabilities are too high because most negatives are never seen; with t = 1
    they are right. Here the same negatives serve all positions of a batch, where the paper draws others for each; one
    that is a position's target is left out there.

    Args:
        hidden, weight, bias, targets: as in `full_softmax`.
        negatives: k, drawn with replacement.
        calibration: t, from 0 to 1.
        generator: of the device of ``hidden``.
    """
    items = len(weight)
    sampled = draw_items(items, negatives, hidden.device, generator)
    alpha = min(1.0, negatives / max(items - 1, 1))
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    with torch.autocast(hidden.device.type, enabled=False):
        positive, negative = sampled_scores(hidden, weight, bias, targets, sampled)
        negative = negative.masked_fill(sampled == targets[:, None], float("-inf"))
        # -log sigma(s) = softplus(-s), and -log(1 - sigma(s)) = softplus(s).
        losses = beta * F.softplus(-positive) + F.softplus(negative).sum(-1)
        return losses.sum() / (negatives + 1)


def draw_items(items: int, count: int, device: torch.device, generator: torch.Generator | None = None) -> torch.Tensor:
    """int64, (count,): items drawn uniformly from ``items``, with replacement."""
    return torch.randint(items, (count,), device=device, generator=generator)


def sampled_scores(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor, sampled: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 scores of the targets, (positions,), and of the sampled items, (positions, m); call without autocast."""
    low = weight.to(hidden.dtype)
    positive = (hidden * low[targets]).sum(-1, dtype=torch.float32) + bias[targets]
    negative = (hidden @ low[sampled].t()).float() + bias[sampled]
    return positive, negative


class Loss(Protocol):
    """A loss with its settings.

    Attributes:
        negatives: the number of items that a target is compared with at most; None: all others.
    """

    negatives: int | None

    def __call__(
        self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """The sum over positions, float32; the arguments are those of `full_softmax`."""


@dataclass(frozen=True)
class FullSoftmax:
    """`full_softmax`."""

    negatives: None = None

    def __call__(self, hidden, weight, bias, targets):
        return full_softmax(hidden, weight, bias, targets)


@dataclass(frozen=True)
class SampledSoftmax:
    """`sampled_softmax`."""

    negatives: int

    def __call__(self, hidden, weight, bias, targets):
        return sampled_softmax(hidden, weight, bias, targets, self.negatives)


@dataclass(frozen=True)
class InBatchSoftmax:
    """`in_batch_softmax`, in each process against its own rows of the batch.

    Attributes:
        shares: float32, (items,), see `in_batch_softmax`.
    """

    negatives: int
    shares: torch.Tensor

    @classmethod
    def of_counts(cls, negatives: int, counts: np.ndarray) -> "InBatchSoftmax":
        """From ``counts``, int64, (items,): how often each item is a target in an epoch."""
        return cls(negatives, torch.as_tensor(counts / max(counts.sum(), 1), dtype=torch.float32))

    def __call__(self, hidden, weight, bias, targets):
        return in_batch_softmax(hidden, weight, bias, targets, self.negatives, self.shares.to(hidden.device))


@dataclass(frozen=True)
class GBCE:
    """`gbce`."""

    negatives: int
    calibration: float

    def __call__(self, hidden, weight, bias, targets):
        return gbce(hidden, weight, bias, targets, self.negatives, self.calibration)


#: loss.name -> the loss of these settings for a catalogue whose items are targets so often.
LOSSES: dict[str, Callable[[LossSettings, np.ndarray], Loss]] = {
    "cross_entropy": lambda settings, counts: FullSoftmax(),
    "sampled_softmax": lambda settings, counts: SampledSoftmax(settings.negatives),
    "in_batch_softmax": lambda settings, counts: InBatchSoftmax.of_counts(settings.negatives, counts),
    "gbce": lambda settings, counts: GBCE(settings.negatives, settings.calibration),
}
