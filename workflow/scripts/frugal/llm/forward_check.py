"""Before the first step and the first score: Frugal's forward pass agrees with the library's own on a real block.

Frugal replaces attention, layers and the loss of a model, and scores by parts of it. What an architecture does beside
that (a window, a soft cap, a scaling, a bias, other positions) would be lost without an error. So a short block goes
through both, with the same loaded weights, quantised or not; the library's forward is that of 'eager' attention, which
leaves nothing out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Any

import torch
import torch.nn.functional as F

from frugal.config.llm import ModelSettings
from frugal.errors import FrugalError
from frugal.llm.loading import mixed_precision, without_adapter
from frugal.llm.packed import collate, forward_arguments
from frugal.private.transformers import attention_name

#: Tokens of the block; more where the model has a shorter attention window than the run's texts.
TOKENS = 64
LONGEST = 2048
#: Relative differences that rounding explains: of hidden states or logits, and of the mean loss. Measured on 30 layers:
#: 1e-6 and 5e-6 in float32, 0.015 and 0.006 in bfloat16, 0.02 and 0.003 with 4 bits, 0.1 and 0.04 with integer matmuls.
TOLERANCES = {"float32": (1e-3, 1e-4), "bfloat16": (0.15, 0.03), "float16": (0.1, 0.03)}
QUANTIZED_TOLERANCES = {"nf4": (0.15, 0.03), "int8": (0.4, 0.1)}
WINDOWS = ("sliding_window", "attention_chunk_size")
#: Settings of config.json that a replacement may miss.
CAUSES = (*WINDOWS, "attn_logit_softcapping", "final_logit_softcapping", "logits_scaling", "logit_scale")
CAUSES += ("attention_multiplier", "residual_multiplier", "embedding_multiplier", "attention_bias", "mlp_bias")
CAUSES += ("query_pre_attn_scalar", "use_parallel_residual", "clip_qkv", "rope_parameters", "layer_types")


def check_training(
    model, settings: ModelSettings, rows: Sequence[dict[str, Any]], mode: Callable[[], Any], device: str
) -> None:
    """Compare the forward pass of training with the library's.

    Args:
        model: with its adapter, or without; left in training mode.
        rows: of training, `input_ids` of each.
        mode: makes the context in which training computes its loss.

    Raises:
        FrugalError: they differ by more than rounding.
    """
    base = without_adapter(model)
    ids = block(base.config.get_text_config(), [row["input_ids"] for row in rows])
    lengths = [len(ids) - len(ids) // 4, len(ids) // 4] if len(ids) >= 8 else [len(ids)]
    batch = collate([{"input_ids": ids, "segment_lengths": lengths}])
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    model.eval()
    try:
        with torch.no_grad(), mixed_precision(model, settings, device):
            with mode():
                arguments = forward_arguments(batch)
                loss = base(**arguments).loss.item()
                body = {key: arguments[key] for key in ("input_ids", "position_ids", "segments", "use_cache")}
                hidden = base.base_model(**body).last_hidden_state[0].float()
            with library_forward(base):
                plain, losses = [], []
                for piece in batch["input_ids"][0].split(lengths):
                    output = base(input_ids=piece[None], use_cache=False, output_hidden_states=True)
                    losses.append(F.cross_entropy(output.logits[0, :-1].float(), piece[1:], reduction="sum"))
                    plain.append(output.hidden_states[-1][0].float())
        expected = (sum(losses) / (len(ids) - len(lengths))).item()
        difference = relative_difference(hidden, torch.cat(plain))
        compare(base, settings, "training", difference, (loss, expected))
    finally:
        model.train()


def check_scoring(
    model,
    settings: ModelSettings,
    texts: Sequence[Sequence[int]],
    logits_of: Callable[[Any, torch.Tensor], torch.Tensor],
) -> None:
    """Compare the logits of scoring with the library's.

    Args:
        model: in eval mode, within `mixed_precision`.
        texts: token ids of each.
        logits_of: from the model and ids, (tokens,), to the logits that scoring uses, (tokens, vocabulary).

    Raises:
        FrugalError: they differ by more than rounding.
    """
    base = without_adapter(model)
    ids = torch.tensor(block(base.config.get_text_config(), texts), device=model.device)
    with torch.no_grad():
        logits = logits_of(model, ids).float()
        with library_forward(base):
            plain = base(input_ids=ids[None], use_cache=False).logits[0].float()
    loss, expected = (F.cross_entropy(scores, plain.argmax(-1)).item() for scores in (logits, plain))
    compare(base, settings, "scoring", relative_difference(logits, plain), (loss, expected))


def block(config, texts: Sequence[Sequence[int]]) -> list[int]:
    """The end of the longest text, longer than the model's attention window if the text is and LONGEST allows it."""
    longest = max(texts, key=len)
    windows = [getattr(config, name, None) or 0 for name in WINDOWS]
    windows = [size for size in windows if 0 < size < min(len(longest), LONGEST)]
    return list(map(int, longest[-max([TOKENS, *(size + size // 2 + 16 for size in windows)]) :]))


@contextmanager
def library_forward(base) -> Iterator[None]:
    """Within it, a model has the library's plainest attention."""
    attention = attention_name(base)
    base.set_attn_implementation("eager")
    try:
        yield
    finally:
        base.set_attn_implementation(attention)


def relative_difference(ours: torch.Tensor, plain: torch.Tensor) -> float:
    return ((ours - plain).norm() / plain.norm()).item()


def compare(base, settings: ModelSettings, what: str, difference: float, losses: tuple[float, float]) -> None:
    """Raise an error where the relative difference, or that of the losses, is no rounding."""
    tolerance, of_loss = QUANTIZED_TOLERANCES.get(settings.quantization) or TOLERANCES[settings.compute_dtype]
    loss, expected = losses
    if not isfinite(expected):  # broken weights, which training and scoring report themselves
        return
    if difference <= tolerance and abs(loss - expected) <= of_loss * max(1, abs(expected)):
        return
    config = base.config.get_text_config()
    causes = [name for name in CAUSES if getattr(config, name, None) not in (None, False)]
    raise FrugalError(
        f"{config.model_type}: the forward pass of {what} differs from the library's on one block (loss {loss:.4f} "
        f"instead of {expected:.4f}, hidden states by {difference:.1%}). The cause is likely one of these settings in "
        f"config.json: {', '.join(causes)}. Set model.attn_implementation to eager, or choose another base model"
    )
