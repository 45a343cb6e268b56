"""Softmax cross-entropy over a large vocabulary or catalogue that never holds positions x classes at once."""

import torch
import torch.nn.functional as F

#: Positions are filled up to a multiple of this: a CPU's 16-bit product is compiled for each shape that it
#: meets, which takes several times as long as the product.
ROW_MULTIPLE = 64


def scores(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor | None = None
) -> torch.Tensor:
    """``hidden @ weight.T + bias``, (positions, classes), into ``out`` if there is one."""
    if bias is None:
        return torch.mm(hidden, weight.t(), out=out)
    return torch.addmm(bias, hidden, weight.t(), out=out)


def cross_entropy_of(at_target: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Float32, (positions,): cross-entropy from the target's probability and the sum of the others'.

    Probabilities in 16 bits are coarse near 1 and fine near 0, so the smaller of the two tells more.
    """
    return torch.where(at_target < 0.5, -at_target.float().log(), -(-others.float()).log1p())


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
        weight_low, bias_low = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
        buffer = hidden.new_empty((min(chunk, positions), classes))
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, positions, chunk):
            rows = hidden[start : start + chunk]
            target = targets[start : start + chunk]
            counted = max(0, real - start)
            logits = scores(rows, weight_low, bias_low, buffer[: len(rows)])
            # In 16 bits too, softmax sums in float32. Row by row it reads before it writes, so on a CPU it needs
            # no room of its own; nor does indexing, where `scatter_` makes a float32 copy of it all.
            probabilities = torch.softmax(logits, 1, out=logits if logits.device.type == "cpu" else None)
            places = torch.arange(len(rows), device=target.device), target
            at_target = probabilities[places]
            probabilities[places] = 0
            others = probabilities.sum(1)
            losses = cross_entropy_of(at_target, others)
            if losses.isinf().any():  # a probability too small for a number
                losses = F.cross_entropy(scores(rows, weight_low, bias_low).float(), target, reduction="none")
            total += losses[:counted].sum()
            # The gradient of the logits: probabilities, less one at the target.
            probabilities[places] = -others
            probabilities[counted:] = 0
            torch.mm(probabilities, weight_low, out=grad_hidden[start : start + chunk])
            if grad_bias is not None:
                grad_bias += probabilities.sum(0)
            if trained and hidden.dtype == torch.float32:
                grad_weight.addmm_(probabilities.t(), rows)
            elif trained:
                grad_weight += probabilities.t() @ rows
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
