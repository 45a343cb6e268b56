"""Losses over a whole catalogue that never hold positions x items at once."""

import torch
import torch.nn.functional as F

#: Logits that `chunked_cross_entropy` aims to hold at once: few enough for a processor's cache, many enough
#: to keep a GPU busy.
CHUNK_LOGITS = {"cpu": 2**19, "cuda": 2**27}
SMALLEST_CHUNK = 128
#: Positions are filled up to a multiple of this: a CPU's 16-bit product is compiled for each shape that it
#: meets, which takes several times as long as the product.
ROW_MULTIPLE = 64


class ChunkedCrossEntropy(torch.autograd.Function):
    """Softmax cross-entropy of ``hidden @ weight.T + bias``, summed; see `chunked_cross_entropy`."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, chunk, real):
        positions, items = len(targets), len(weight)
        # Gradients are made here, while a chunk's probabilities exist: they are never computed again.
        grad_hidden = torch.empty_like(hidden)
        trained = ctx.needs_input_grad[1]  # not below an adapter
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if trained else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if trained else None
        weight_low = weight.to(hidden.dtype)
        buffer = hidden.new_empty((min(chunk, positions), items), dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, positions, chunk):
            rows = hidden[start : start + chunk]
            target = targets[start : start + chunk, None]
            logits = buffer[: len(rows)]
            torch.add(rows @ weight_low.t(), bias, out=logits)
            at_target = logits.gather(1, target)
            largest = logits.amax(1, keepdim=True)
            probabilities = logits.sub_(largest).exp_()
            normaliser = probabilities.sum(1, keepdim=True)
            total += (normaliser.log() + largest - at_target)[: max(0, real - start)].sum()
            # The gradient of the logits: probabilities, less one at the target.
            gradient = probabilities.mul_(normaliser.reciprocal_())
            gradient.scatter_add_(1, target, torch.full_like(at_target, -1.0))
            gradient[max(0, real - start) :] = 0
            low = gradient.to(hidden.dtype)
            torch.mm(low, weight_low, out=grad_hidden[start : start + chunk])
            if trained:
                grad_bias += gradient.sum(0)
                if low.dtype == torch.float32:
                    grad_weight.addmm_(low.t(), rows)
                else:
                    grad_weight += low.t() @ rows
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx, grad_output):
        hidden, weight, bias = ctx.saved_tensors
        hidden = (hidden * grad_output).to(hidden.dtype)
        if weight is None:
            return hidden, None, None, None, None, None
        return hidden, weight * grad_output, bias * grad_output, None, None, None


def chunked_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    targets: torch.Tensor,
    chunk: int | None = None,
) -> torch.Tensor:
    """The sum over positions of softmax cross-entropy over all items, in float32.

    Equals ``cross_entropy(hidden @ weight.T + bias, targets, reduction="sum")``, but holds the logits of
    ``chunk`` positions only, and computes the gradients along the way: memory is chunk x items instead of
    several times positions x items.

    Args:
        hidden: (positions, d); its type is that of the matrix products.
        weight: (items, d).
        bias: (items,).
        targets: int64, (positions,).
        chunk: positions at once; None chooses by the size of the catalogue and the device, and lets the
            logits weigh as much as the weights do, because each chunk reads and writes the weights' gradient.
    """
    if chunk is None:
        chunk = max(SMALLEST_CHUNK, CHUNK_LOGITS[hidden.device.type] // len(weight), weight.shape[1])
    real = len(targets)
    missing = -real % ROW_MULTIPLE
    hidden, targets = F.pad(hidden, (0, 0, 0, missing)), F.pad(targets, (0, missing))
    with torch.autocast(hidden.device.type, enabled=False):
        return ChunkedCrossEntropy.apply(hidden, weight, bias, targets, chunk, real)


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
        hidden, weight, bias, targets: as in `chunked_cross_entropy`.
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
