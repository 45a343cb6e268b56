"""Small operations of a layer, each in one pass over memory.

Numbers in bfloat16 on a CPU go through fused.c, which is compiled the first time that a user needs it. Others, and
all where there is no C compiler, go through PyTorch, operation by operation: that is several times as slow.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from frugal.files import atomic_path

SOURCE = Path(__file__).with_suffix(".c")
#: The second line lets sums be added up in any order, without which they could not be in several lanes. `-ffast-math`
#: would let them too, and round the smallest numbers of the whole process to zero.
FLAGS = (
    "-O3 -march=native -fopenmp -shared -fPIC "
    "-fassociative-math -fno-signed-zeros -fno-trapping-math -fno-math-errno -ffinite-math-only -freciprocal-math"
)
if platform.machine() == "x86_64":
    FLAGS += " -mprefer-vector-width=512"


@cache
def library() -> ctypes.CDLL | None:
    """fused.c, compiled for this processor and kept in the user's cache; None where that cannot be done."""
    command = [*shlex.split(os.environ.get("CC", "cc")), *FLAGS.split()]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frugal"
    told_apart = SOURCE.read_bytes() + " ".join(command).encode() + processor().encode()
    compiled = folder / f"fused-{hashlib.sha256(told_apart).hexdigest()[:16]}.so"
    try:
        if not compiled.exists():
            with atomic_path(compiled) as temporary:
                subprocess.run([*command, SOURCE, "-lm", "-o", temporary], check=True, capture_output=True, text=True)
        return ctypes.CDLL(str(compiled))
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        logging.getLogger(__name__).warning("not compiled, so slower: %s: %s", SOURCE.name, told.strip().split("\n")[0])
        return None


def processor() -> str:
    """What a processor can do: a cluster's nodes share a home, and differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
    except OSError:
        return ""
    return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def compiled(*tensors: torch.Tensor | None) -> bool:
    """Whether C serves these."""
    given = [tensor for tensor in tensors if tensor is not None]
    served = all(each.dtype == torch.bfloat16 and each.device.type == "cpu" and each.is_contiguous() for each in given)
    return served and library() is not None


def run(function: str, *arguments: torch.Tensor | int | float | None) -> None:
    """Call a function of fused.c."""
    kinds = {int: ctypes.c_long, float: ctypes.c_float, type(None): lambda none: none}
    getattr(library(), function)(
        *(
            ctypes.c_void_p(each.data_ptr()) if isinstance(each, torch.Tensor) else kinds[type(each)](each)
            for each in arguments
        )
    )


def normalise(hidden: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32: ``hidden`` over its root mean square, and one over that."""
    hidden = hidden.float()
    inverse = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
    inverse = inverse.square_().div_(hidden.shape[-1]).add_(eps).rsqrt_()
    return hidden * inverse, inverse


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """(n, width), as transformers' LlamaRMSNorm has it (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    if compiled(hidden, weight):
        output = torch.empty_like(hidden)
        run("rms_norm", hidden, weight, output, *hidden.shape, eps)
        return output
    return normalise(hidden, eps)[0].to(hidden.dtype).mul_(weight)


def rms_norm_gradient(
    grad: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, eps: float, onto: torch.Tensor | None = None
) -> torch.Tensor:
    """That of ``hidden``, from that of its norm, added to ``onto``; all (n, width)."""
    if compiled(grad, hidden, weight, onto):
        output = torch.empty_like(hidden)
        run("rms_norm_gradient", grad, hidden, weight, onto, output, *hidden.shape, eps)
        return output
    normed, inverse = normalise(hidden, eps)
    scaled = (grad * weight).float()
    along = (scaled * normed).mean(-1, keepdim=True)
    gradient = scaled.sub_(normed.mul_(along)).mul_(inverse).to(hidden.dtype)
    return gradient if onto is None else gradient.add_(onto)


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up`` (Shazeer 2020, arXiv:2002.05202, SwiGLU), (n, width)."""
    if compiled(gate, up):
        output = torch.empty_like(gate)
        run("gated", gate, up, output, gate.numel())
        return output
    return F.silu(gate).mul_(up)


def gated_gradients_(grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of ``gate``, in place of ``grad``, and of ``up``; all (n, width)."""
    if compiled(grad, gate, up):
        to_up = torch.empty_like(up)
        run("gated_gradients", grad, gate, up, to_up, grad.numel())
        return grad, to_up
    to_up = F.silu(gate).mul_(grad)
    to_gate = grad.mul_(up)
    torch.ops.aten.silu_backward.grad_input(to_gate, gate, grad_input=to_gate)
    return to_gate, to_up


def rotate(vectors: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, direction: int) -> torch.Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864): the halves of d turned as pairs, forward 1 or back -1.

    Args:
        vectors: (n, heads, d).
        cos, sin: (n, 1, d), as transformers gives them: the same for both halves.
    """
    if compiled(vectors, cos, sin):
        output = torch.empty_like(vectors)
        run("rotate", vectors, cos, sin, output, *vectors.shape, float(direction))
        return output
    first, second = vectors.chunk(2, -1)
    turned = torch.cat((second, first), -1).mul_(sin)
    half = vectors.shape[-1] // 2
    turned[..., :half].neg_() if direction == 1 else turned[..., half:].neg_()
    return turned.addcmul_(vectors, cos)


def gather_groups(tokens: torch.Tensor, padded: int, groups: int) -> torch.Tensor:
    """(groups, padded x heads of a group, d) of (length, heads, d): zeros after the last token."""
    length, heads, size = tokens.shape
    piece = tokens.new_empty(groups, padded, heads // groups, size)
    if compiled(tokens):
        run("gather_groups", tokens, piece, length, padded, groups, heads * size)
    else:
        piece[:, :length] = tokens.unflatten(1, (groups, -1)).transpose(0, 1)
        piece[:, length:] = 0
    return piece.flatten(1, 2)


def scatter_groups(piece: torch.Tensor, tokens: torch.Tensor) -> None:
    """The way back of `gather_groups`: into ``tokens``."""
    groups, (length, heads, size) = len(piece), tokens.shape
    padded = piece.shape[1] * groups // heads
    if compiled(piece, tokens):
        run("scatter_groups", piece, tokens, length, padded, groups, heads * size)
        return
    rows = piece.view(groups, padded, heads // groups, size)[:, :length]
    tokens.unflatten(1, (groups, -1)).copy_(rows.transpose(0, 1))


def causal_softmax_(scores: torch.Tensor, first: int, heads: int, scaling: float) -> torch.Tensor:
    """In place, the probabilities of a block of queries, none of which sees what comes after it.

    Args:
        scores: (groups, queries x heads, keys): the heads of a query stand in a row.
        first: the place of the first query among the keys; with the last, the keys end.
        scaling: what the scores are first multiplied with.
    """
    groups, rows, keys = scores.shape
    if compiled(scores):
        run("causal_softmax", scores, groups, rows, keys, first, heads, scaling)
        return scores
    scores *= scaling
    scores[..., first:] += later(keys - first, heads, scores.dtype, scores.device)
    return torch.softmax(scores, -1)


@cache
def later(length: int, repeats: int, kind: torch.dtype, device: torch.device) -> torch.Tensor:
    """(length x repeats, length): minus infinity where a key comes after the query, whose heads stand in a row."""
    mask = torch.full((length, length), float("-inf"), dtype=kind, device=device).triu(1)
    return mask.repeat_interleave(repeats, 0)


def softmax_gradient_(grad: torch.Tensor, probabilities: torch.Tensor, scaling: float) -> torch.Tensor:
    """That of the scores before their ``scaling``, in place of that of the probabilities."""
    if compiled(grad, probabilities):
        width = grad.shape[-1]
        run("softmax_gradient", grad, probabilities, grad.numel() // width, width, scaling)
        return grad
    return torch._softmax_backward_data(grad, probabilities, -1, grad.dtype).mul_(scaling)


class Quantized(NamedTuple):
    """Numbers in 8 bits, a scale for each row.

    Attributes:
        values: int8, (n, width).
        scales: float32, (n,): what one stands for.
    """

    values: torch.Tensor
    scales: torch.Tensor


def quantize(inputs: torch.Tensor, columns: torch.Tensor | None = None) -> Quantized:
    """The largest number of each row becomes 127 or -127.

    Args:
        inputs: (n, width).
        columns: float32, (width,): what each column is first multiplied with.
    """
    if compiled(inputs):
        values, scales = torch.empty_like(inputs, dtype=torch.int8), torch.empty(len(inputs))
        run("quantize", inputs, columns, values, scales, *inputs.shape)
        return Quantized(values, scales)
    numbers = inputs.float() if columns is None else inputs.float() * columns
    scales = numbers.abs().amax(-1) / 127
    inverse = torch.where(scales > 0, 1 / scales, 0)
    return Quantized((numbers * inverse[:, None]).round_().to(torch.int8), scales)


def dequantize(
    sums: torch.Tensor,
    scales: torch.Tensor,
    columns: torch.Tensor | None,
    onto: torch.Tensor | None,
    kind: torch.dtype,
) -> torch.Tensor:
    """(n, width) in ``kind``: what a product of `quantize`d numbers stands for.

    Args:
        sums: int32, (n, width).
        scales: float32, (n,); columns: float32, (width,).
        onto: what it is added to, in ``kind``.
    """
    output = torch.empty_like(sums, dtype=kind)
    if compiled(output, onto):
        run("dequantize", sums, scales, columns, onto, output, *sums.shape)
        return output
    numbers = sums * scales[:, None]
    if columns is not None:
        numbers *= columns
    if onto is not None:
        numbers += onto
    return output.copy_(numbers)
