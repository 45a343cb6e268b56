"""The log-probabilities that a language model gives to answers, and the answers that it generates.

All functions take prompts of any length in one list, put prompts of similar length into one batch,
pad on the left, and return results in the order of the prompts. The batch size changes speed only; so does reading what
prompts begin with in common once, by the model's cache.
"""

import sys
import time
from collections.abc import Iterator, Sequence

import torch

from frugal.llm.answering import greedy_tokens
from frugal.llm.forward_check import WINDOWS
from frugal.llm.loading import without_adapter
from frugal.preference.prompts import answer_tokens


@torch.inference_mode()
def choice_log_probabilities(
    model, tokenizer, prompts: Sequence[str], answers: Sequence[str], batch_size: int, alike: int = 1
) -> torch.Tensor:
    """Log-probabilities of the answers A and B at the token that tells them apart.

    Args:
        prompts: n prompts, each ending where the answer begins.
        answers: the two answers, such as "Option A." and "Option B.".
        alike: the number of consecutive prompts that begin alike; what they have in common is read once.

    Returns:
        float32, n x 2: natural log-probabilities over the whole vocabulary of A's and B's token.
    """
    prefix, token_a, token_b = answer_tokens(tokenizer, answers)
    sequences = [tokenizer(text)["input_ids"] + prefix for text in prompts]
    result = torch.empty(len(prompts), 2)
    for indices, _, logits in _last_logits(model, tokenizer, sequences, [1] * len(prompts), batch_size, alike):
        result[indices] = logits[:, -1].log_softmax(-1)[:, [token_a, token_b]].cpu()
    return result


@torch.inference_mode()
def continuation_log_probabilities(
    model, tokenizer, prompts: Sequence[str], continuations: Sequence[str], batch_size: int, alike: int = 1
) -> torch.Tensor:
    """Log-probability of each continuation, its end token included, after its prompt.

    Args:
        alike: as for `choice_log_probabilities`.

    Returns:
        float32, n: sums of natural log-probabilities over the continuation's tokens.
    """
    tails = [
        tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for text in continuations
    ]
    sequences = [tokenizer(text)["input_ids"] + tail for text, tail in zip(prompts, tails, strict=True)]
    counts = [len(tail) + 1 for tail in tails]
    result = torch.empty(len(prompts))
    for indices, ids, logits in _last_logits(model, tokenizer, sequences, counts, batch_size, alike):
        targets = ids[:, -logits.shape[1] + 1 :]
        tokens = logits[:, :-1].log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        for row, index in enumerate(indices):
            result[index] = tokens[row, -len(tails[index]) :].sum().cpu()
    return result


@torch.inference_mode()
def generate(model, tokenizer, prompts: Sequence[str], max_new_tokens: int, batch_size: int) -> tuple[list[str], float]:
    """Greedy answers to ``prompts``, and the seconds spent on each prompt on average."""
    answers = [""] * len(prompts)
    sequences = [tokenizer(text)["input_ids"] for text in prompts]
    start = time.perf_counter()
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    for indices in _progress(order, batch_size, 1, "generated"):
        ids, mask = _padded([sequences[i] for i in indices], tokenizer.pad_token_id, model.device)
        output = greedy_tokens(model, tokenizer, ids, mask, max_new_tokens)
        for index, tokens in zip(indices, output, strict=True):
            answers[index] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return answers, (time.perf_counter() - start) / max(len(prompts), 1)


def prompt_logits(model, ids: torch.Tensor) -> torch.Tensor:
    """The logits of one prompt, (tokens, vocabulary), from its ids, (tokens,).

    They are read as those of prompts that begin alike: first the beginning, then the end, beside a longer one.
    """
    begin = len(ids) // 2 if _sees_all(model, len(ids)) else 0
    padding = ids.new_zeros(8)
    padded = torch.cat([padding, ids[begin:]])[None]
    mask = torch.cat([padding, torch.ones_like(ids[begin:])])[None]
    if not begin:
        return model(**_inputs(padded, mask)).logits[0, len(padding) :]
    first = model(input_ids=ids[None, :begin], use_cache=True)
    rest = model(**_inputs(padded, mask, begin), past_key_values=first.past_key_values)
    return torch.cat([first.logits[0], rest.logits[0, len(padding) :]])


def _last_logits(
    model, tokenizer, sequences: Sequence[list[int]], counts: Sequence[int], batch_size: int, alike: int
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """The logits of at least the last ``counts`` tokens of each of ``sequences``.

    Yields:
        Of each batch: places in ``sequences``; ids, (rows, length), without what was read before; logits, float32,
        (rows, tokens, vocabulary).
    """
    groups = [range(first, first + alike) for first in range(0, len(sequences), alike)]
    shared = alike > 1 and _sees_all(model, max(map(len, sequences)))
    begins = [_begin([sequences[i] for i in group], [counts[i] for i in group]) if shared else 0 for group in groups]
    order = sorted(range(len(groups)), key=lambda g: (-begins[g], -max(len(sequences[i]) for i in groups[g])))
    for batch in _progress(order, max(1, batch_size // alike), alike, "scored"):
        begin, cache = min(begins[g] for g in batch), None
        indices = [i for g in batch for i in groups[g]]
        ids, mask = _padded([sequences[i][begin:] for i in indices], tokenizer.pad_token_id, model.device)
        if begin:
            common = torch.tensor([sequences[groups[g][0]][:begin] for g in batch], device=model.device)
            cache = model(input_ids=common, use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(alike)
        keep = max(counts[i] for i in indices)
        output = model(**_inputs(ids, mask, begin), past_key_values=cache, logits_to_keep=keep)
        yield indices, ids, output.logits.float()


def _sees_all(model, length: int) -> bool:
    """Whether a token sees all before it, in texts of ``length`` tokens: a window would count the padding between a
    beginning that was read before and the end."""
    config = without_adapter(model).config.get_text_config()
    windows = (getattr(config, name, None) for name in WINDOWS)
    full = set(getattr(config, "layer_types", None) or ()) <= {"full_attention"}
    return full and not any(window and window < length for window in windows)


def _begin(rows: Sequence[list[int]], counts: Sequence[int]) -> int:
    """How many tokens ``rows`` begin with in common, before the last ``counts`` of each."""
    ends = min(len(row) - count for row, count in zip(rows, counts, strict=True))
    return next((i for i in range(ends) if len({row[i] for row in rows}) > 1), ends)


def _inputs(ids: torch.Tensor, mask: torch.Tensor, before: int = 0) -> dict[str, torch.Tensor]:
    """A model's inputs after ``before`` tokens; positions count from a row's first token, not from its padding."""
    positions = before + (mask.cumsum(-1) - 1).clamp(min=0)
    if before:
        mask = torch.cat([mask.new_ones(len(mask), before), mask], dim=1)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


def _padded(sequences: Sequence[list[int]], pad: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, int64, (rows, length), padded on the left."""
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = torch.tensor(sequence)
        mask[row, width - len(sequence) :] = 1
    return ids.to(device), mask.to(device)


def _progress(order: Sequence[int], batch_size: int, prompts: int, verb: str) -> Iterator[Sequence[int]]:
    """``order`` in batches; every few seconds a line says how many prompts are done, ``prompts`` of each entry."""
    shown = time.monotonic()
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            done = min(start + batch_size, len(order)) * prompts
            print(f"{done}/{len(order) * prompts} prompts {verb}", file=sys.stderr, flush=True)
