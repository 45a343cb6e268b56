"""Softmax cross-entropy over a large vocabulary or catalogue that never holds positions x classes at once."""

import torch
import torch.nn.functional as F

#: Positions are filled up to a multiple of this: a CPU's 16-bit product is compiled for each shape that it
#: meets, which takes several times as long as the product.
ROW_MULTIPLE = 64


class ChunkedCrossEntropy(torch.autograd.Function):
    """Softmax cross-entropy of ``hidden @ weight.T + bias``, summed; see `chunked_cross_entropy`."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, chunk, real):
        positions, classes = len(targets), len(weight)
        # Gradients are made here, while a chunk's probabilities exist: they are never computed again.
        grad_hidden = torch.empty_like(hidden)
        trained = ctx.needs_input_grad[1]  # not below an adapter
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if trained else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if trained and bias is not None else None
        weight_low = weight.to(hidden.dtype)
        buffer = hidden.new_empty((min(chunk, positions), classes), dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, positions, chunk):
            rows = hidden[start : start + chunk]
            target = targets[start : start + chunk, None]
            logits = buffer[: len(rows)]
            product = rows @ weight_low.t()
            logits.copy_(product) if bias is None else torch.add(product, bias, out=logits)
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
            if grad_bias is not None:
                grad_bias += gradient.sum(0)
            if trained and low.dtype == torch.float32:
                grad_weight.addmm_(low.t(), rows)
            elif trained:
                grad_weight += low.t() @ rows
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx, grad_output):
        hidden, weight, bias = ctx.saved_tensors
        hidden = (hidden * grad_output).to(hidden.dtype)
        weight = None if weight is None else (weight * grad_output).to(ctx.weight_dtype)
        return hidden, weight, None if bias is None else bias * grad_output, None, None, None


def chunked_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    chunk: int,
) -> torch.Tensor:
    """The sum over positions of softmax cross-entropy over all classes, in float32.

    Equals ``cross_entropy(hidden @ weight.T + bias, targets, reduction="sum")``, but holds the logits of
    ``chunk`` positions only, and computes the gradients along the way: memory is chunk x classes instead of
    several times positions x classes.

    Args:
        hidden: (positions, d); its type is that of the matrix products.
        weight: (classes, d).
        bias: (classes,) or None.
        targets: int64, (positions,).
        chunk: positions at once, raised to a multiple of ROW_MULTIPLE.
    """
    real = len(targets)
    missing = -real % ROW_MULTIPLE
    chunk = -(-chunk // ROW_MULTIPLE) * ROW_MULTIPLE
    hidden, targets = F.pad(hidden, (0, 0, 0, missing)), F.pad(targets, (0, missing))
    with torch.autocast(hidden.device.type, enabled=False):
        return ChunkedCrossEntropy.apply(hidden, weight, bias, targets, chunk, real)
