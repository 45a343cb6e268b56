"""The recommenders' losses: over the whole catalogue, or against sampled items."""

import torch

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

    Sampled logits have log(expected count) subtracted, so that the sampled normaliser estimates the full
    one (Bengio and Senecal, 2008; Jean et al., 2015, section 3). The same negatives serve all positions
    of a batch; one that is a position's target is left out there.

    Args:
        hidden, weight, bias, targets: as in `full_softmax`.
        negatives: how many items are drawn, with replacement.
        generator: of the device of ``hidden``.
    """
    items = len(weight)
    sampled = torch.randint(items, (negatives,), device=hidden.device, generator=generator)
    with torch.autocast(hidden.device.type, enabled=False):
        low = weight.to(hidden.dtype)
        positive = (hidden * low[targets]).sum(-1, dtype=torch.float32) + bias[targets]
        negative = (hidden @ low[sampled].t()).float() + bias[sampled]
        # Each of the items - 1 others is drawn negatives / items times on average.
        negative = negative - torch.log(torch.tensor(negatives / items, device=hidden.device))
        negative = negative.masked_fill(sampled == targets[:, None], float("-inf"))
        normaliser = torch.logaddexp(positive, negative.logsumexp(-1))
        return (normaliser - positive).sum()
