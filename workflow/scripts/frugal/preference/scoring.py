"""The log-probabilities that a language model gives to answers, and the answers that it generates.

All functions take prompts of any length in one list, put prompts of similar length into one batch,
pad on the left, and return results in the order of the prompts. The batch size changes speed only.
"""

import sys
import time
from collections.abc import Iterator, Sequence

import torch

from frugal.llm.answering import greedy_tokens
from frugal.preference.prompts import answer_tokens


@torch.inference_mode()
def choice_log_probabilities(
    model, tokenizer, prompts: Sequence[str], answers: Sequence[str], batch_size: int
) -> torch.Tensor:
    """Log-probabilities of the answers A and B at the token that tells them apart.

    Args:
        prompts: n prompts, each ending where the answer begins.
        answers: the two answers, such as "Option A." and "Option B.".

    Returns:
        float32, n x 2: natural log-probabilities over the whole vocabulary of A's and B's token.
    """
    prefix, token_a, token_b = answer_tokens(tokenizer, answers)
    sequences = [tokenizer(text)["input_ids"] + prefix for text in prompts]
    result = torch.empty(len(prompts), 2)
    for indices, ids, mask in _batches(sequences, tokenizer.pad_token_id, batch_size, model.device, "scored"):
        logits = model(**_inputs(ids, mask), logits_to_keep=1).logits[:, -1].float()
        log_probabilities = logits.log_softmax(-1)[:, [token_a, token_b]]
        result[indices] = log_probabilities.cpu()
    return result


@torch.inference_mode()
def continuation_log_probabilities(
    model, tokenizer, prompts: Sequence[str], continuations: Sequence[str], batch_size: int
) -> torch.Tensor:
    """Log-probability of each continuation, its end token included, after its prompt.

    Returns:
        float32, n: sums of natural log-probabilities over the continuation's tokens.
    """
    tails = [
        tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for text in continuations
    ]
    sequences = [tokenizer(text)["input_ids"] + tail for text, tail in zip(prompts, tails, strict=True)]
    result = torch.empty(len(prompts))
    for indices, ids, mask in _batches(sequences, tokenizer.pad_token_id, batch_size, model.device, "scored"):
        longest = max(len(tails[i]) for i in indices)
        logits = model(**_inputs(ids, mask), logits_to_keep=longest + 1).logits[:, :-1].float()
        targets = ids[:, -longest:]
        tokens = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        for row, index in enumerate(indices):
            result[index] = tokens[row, -len(tails[index]) :].sum().cpu()
    return result


@torch.inference_mode()
def generate(model, tokenizer, prompts: Sequence[str], max_new_tokens: int, batch_size: int) -> tuple[list[str], float]:
    """Greedy answers to ``prompts``, and the seconds spent on each prompt on average."""
    answers = [""] * len(prompts)
    sequences = [tokenizer(text)["input_ids"] for text in prompts]
    start = time.perf_counter()
    for indices, ids, mask in _batches(sequences, tokenizer.pad_token_id, batch_size, model.device, "generated"):
        output = greedy_tokens(model, tokenizer, ids, mask, max_new_tokens)
        for index, tokens in zip(indices, output, strict=True):
            answers[index] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return answers, (time.perf_counter() - start) / max(len(prompts), 1)


def _inputs(ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """A model's inputs; positions count from a row's first token, not from its padding."""
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


def prompt_logits(model, ids: torch.Tensor) -> torch.Tensor:
    """The logits of one prompt beside a longer one, (tokens, vocabulary), from its ids, (tokens,)."""
    padding = ids.new_zeros(8)
    padded, mask = torch.cat([padding, ids])[None], torch.cat([padding, torch.ones_like(ids)])[None]
    return model(**_inputs(padded, mask)).logits[0, len(padding) :]


def _batches(
    sequences: Sequence[list[int]], pad: int, batch_size: int, device, verb: str
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Batches of like length, longest first: places in ``sequences``, token ids, attention mask."""
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    shown = time.monotonic()
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        width = max(len(sequences[i]) for i in indices)
        ids = torch.full((len(indices), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, index in enumerate(indices):
            ids[row, width - len(sequences[index]) :] = torch.tensor(sequences[index])
            mask[row, width - len(sequences[index]) :] = 1
        yield indices, ids.to(device), mask.to(device)
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(
                f"{min(start + batch_size, len(order))}/{len(order)} prompts {verb}",
                file=sys.stderr,
                flush=True,
            )
