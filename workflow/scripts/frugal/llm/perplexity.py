"""Perplexity over windows: each token of a text is scored once; exp(sum of negative log-likelihoods / tokens).

A window's last token is predicted and not read, so that windows without overlap leave out no token. Padding is not
scored. Batch size and padding side do not change the result beyond rounding.

With ``bos_token_id`` and a stride of the whole context this is lm-evaluation-harness' `loglikelihood_rolling`
(lm_eval/utils.py, get_rolling_token_windows), and so its `word_perplexity`, where words are separated by white
space. Without it nothing predicts the first token of a text (with `join_documents`: of the first text). That token is
not scored and not counted, but `words` and `bytes` are those of the whole text, which lowers word perplexity and bits
per byte by that token's share.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from frugal.config.language_modeling import EvaluationSettings
from frugal.errors import FrugalError
from frugal.llm.loading import without_adapter
from frugal.stats import bootstrap, percentile_interval

#: Number of positions whose logits are in memory at once: 256 x 128,256 in float32 are 125 MB.
POSITIONS_AT_ONCE = 256


@dataclass(frozen=True)
class Window:
    """A piece of a text: the model reads tokens[begin : end - 1], and tokens[scored_from : end] are scored."""

    begin: int
    end: int
    scored_from: int


def windows(length: int, context_length: int, stride: int) -> Iterator[Window]:
    """Windows over a text of ``length`` tokens: each but the first token is scored exactly once.

    The model reads at most ``context_length`` tokens at once. The first window scores all tokens that it can, each
    later one the next ``stride`` tokens, with the longest context that fits.
    """
    scored_from, end = 1, min(length, context_length + 1)
    while scored_from < end:
        yield Window(max(0, end - 1 - context_length), end, scored_from)
        scored_from, end = end, min(length, end + stride)


def bos_token(tokenizer, settings: EvaluationSettings) -> int | None:
    """The token to put before each text; None without `add_bos`.

    Raises:
        FrugalError: the tokenizer has none.
    """
    if settings.add_bos and tokenizer.bos_token_id is None:
        raise FrugalError("evaluation.add_bos: the tokenizer has no BOS token; set it to false")
    return tokenizer.bos_token_id if settings.add_bos else None


@torch.inference_mode()
def score(
    model,
    documents: pd.DataFrame,
    settings: EvaluationSettings,
    pad_token_id: int,
    bos_token_id: int | None = None,
    padding_side: Literal["left", "right"] = "right",
) -> pd.DataFrame:
    """Score texts; one row a document, in order.

    Args:
        model: a causal language model of transformers, with an adapter or without, in eval mode.
        documents: document, input_ids (without BOS), words, bytes.
        pad_token_id: any token; it is masked out.
        bos_token_id: read before each text, or before all of them joined, and never scored; None for none.

    Returns:
        document, tokens (scored), nll (their summed negative log-likelihood, in nats), correct (tokens that the
        model finds likeliest), words, bytes.

    Raises:
        FrugalError: no token can be scored, or the model's likelihoods are not numbers.
    """
    body, logits = body_and_logits(model)
    texts, owners = _texts(documents, settings.join_documents, [] if bos_token_id is None else [bos_token_id])
    pieces = [
        (text, window)
        for text, tokens in enumerate(texts)
        for window in windows(len(tokens), settings.context_length, settings.stride)
    ]
    if not pieces:
        raise FrugalError("no test document has a token to score: each needs two, or one after a BOS token")
    # Windows of similar length share a batch, so that little is padded.
    pieces.sort(key=lambda piece: piece[1].begin - piece[1].end)
    totals = np.zeros((len(documents), 3))
    shown = time.monotonic()
    for start in range(0, len(pieces), settings.batch_size):
        batch = pieces[start : start + settings.batch_size]
        inputs, targets, scored = _batch(texts, batch, pad_token_id, padding_side)
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        hidden = body(**inputs, use_cache=False).last_hidden_state
        nll, correct = _likelihoods(logits, hidden[scored.to(model.device)], targets[scored].to(model.device))
        owner = np.concatenate([owners[text][window.scored_from : window.end] for text, window in batch])
        for column, values in enumerate((np.ones(len(owner)), nll, correct)):
            totals[:, column] += np.bincount(owner, weights=values, minlength=len(documents))
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"{start + len(batch)}/{len(pieces)} windows scored", file=sys.stderr, flush=True)
    table = documents[["document", "words", "bytes"]].reset_index(drop=True)
    table.insert(1, "tokens", totals[:, 0].astype(np.int64))
    table.insert(2, "nll", totals[:, 1])
    table.insert(3, "correct", totals[:, 2].astype(np.int64))
    if not np.isfinite(table["nll"]).all():
        name = table["document"][~np.isfinite(table["nll"])].iloc[0]
        raise FrugalError(f"{name}: the model's likelihood is not a number; its weights are broken, train it again")
    return table


def _texts(documents: pd.DataFrame, join: bool, prefix: list[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The texts to score, each after ``prefix``, and for each token the row of its document."""
    tokens = [np.asarray(ids, dtype=np.int64) for ids in documents["input_ids"]]
    groups = [range(len(tokens))] if join else [[row] for row in range(len(tokens))]
    texts = [np.concatenate([np.array(prefix, dtype=np.int64), *(tokens[row] for row in group)]) for group in groups]
    # The prefix is never scored, so its owner does not matter.
    owners = [np.repeat([group[0], *group], [len(prefix), *(len(tokens[row]) for row in group)]) for group in groups]
    return texts, owners


def body_and_logits(model) -> tuple[Any, Callable[[torch.Tensor], torch.Tensor]]:
    """The module that computes hidden states, with its adapter, and the function from these to float32 logits.

    `forward_check.check_scoring` holds it beside the library's own.
    """
    causal = without_adapter(model)
    head, config = causal.get_output_embeddings(), getattr(causal.config, "text_config", causal.config)
    factor = getattr(config, "logit_scale", None) or 1  # Cohere
    divisor = getattr(config, "logits_scaling", None) or 1  # Granite
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        values = head(hidden).float()
        if factor != divisor:
            values = values * (factor / divisor)
        return cap * torch.tanh(values / cap) if cap else values

    return causal.base_model, logits


def window_logits(model, ids: torch.Tensor) -> torch.Tensor:
    """The logits that `score` uses for one window, (tokens, vocabulary), from its ids, (tokens,)."""
    body, logits = body_and_logits(model)
    positions = torch.arange(len(ids), device=ids.device)[None]
    inputs = {"input_ids": ids[None], "attention_mask": torch.ones_like(positions), "position_ids": positions}
    return logits(body(**inputs, use_cache=False).last_hidden_state[0])


def _batch(
    texts: list[np.ndarray], pieces: list[tuple[int, Window]], pad: int, padding_side: str
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """The model's inputs, the token that follows each position, and which positions are scored; batch x length."""
    width = max(window.end - window.begin - 1 for _, window in pieces)
    ids, targets = (torch.full((len(pieces), width), pad) for _ in range(2))
    mask, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, (text, window) in enumerate(pieces):
        tokens = torch.from_numpy(texts[text][window.begin : window.end])
        read = len(tokens) - 1
        left = 0 if padding_side == "right" else width - read
        ids[row, left : left + read] = tokens[:-1]
        targets[row, left : left + read] = tokens[1:]
        mask[row, left : left + read] = 1
        scored[row, left + window.scored_from - window.begin - 1 : left + read] = True
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}, targets, scored


def _likelihoods(logits_of, hidden: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Negative log-likelihood of each target, and whether it is the most likely token.

    Args:
        hidden: (positions, hidden size).
        targets: (positions,).
    """
    nll, correct = [], []
    for states, wanted in zip(hidden.split(POSITIONS_AT_ONCE), targets.split(POSITIONS_AT_ONCE), strict=True):
        logits = logits_of(states)
        nll.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
        correct.append(logits.argmax(-1) == wanted)
    return torch.cat(nll).double().cpu().numpy(), torch.cat(correct).cpu().numpy()


SUMS = ["nll", "tokens", "words", "bytes", "correct"]


def metrics(table: pd.DataFrame) -> dict[str, float | None]:
    """Metrics of the documents in a table of `score`: sums over all of them first, then the exponential.

    Returns:
        perplexity: exp(nll / tokens); depends on the tokenizer.
        word_perplexity: exp(nll / words); comparable between tokenizers, as is bits_per_byte.
        bits_per_byte: nll / ln 2 / bytes.
        token_accuracy: share of the scored tokens that were the most likely ones.
        nll_per_token: nats.
        tokens, words, bytes, documents: numbers of them that were scored.
        A value too large for a float64 (one "word" of a million bytes) is None.
    """
    sums = table[SUMS].to_numpy(dtype=float).sum(0)
    values = {name: _finite(value) for name, value in _ratios(sums[None]).items()}
    counts = {name: int(table[name].sum()) for name in ("tokens", "words", "bytes")}
    return {**values, "nll_per_token": float(sums[0] / sums[1]), **counts, "documents": len(table)}


def intervals(table: pd.DataFrame, samples: int, seed: int) -> dict[str, list[float | None]]:
    """Bootstrap intervals of ratios of sums over documents; name -> [lower, upper]."""
    values = table[SUMS].to_numpy(dtype=float)

    def ratios(counts: np.ndarray) -> dict[str, np.ndarray]:
        sums = counts @ values
        return _ratios(sums[sums[:, 1] > 0])  # documents without a scored token have no perplexity

    draws = bootstrap(ratios, np.ones(len(values)), samples, seed)
    with np.errstate(invalid="ignore"):
        return {name: [_finite(bound) for bound in percentile_interval(v)] for name, v in draws.items()}


def _ratios(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of (samples, 5) sums."""
    nll, tokens, words, size, correct = sums.T
    with np.errstate(over="ignore", divide="ignore"):
        return {
            "perplexity": np.exp(nll / tokens),
            "word_perplexity": np.exp(nll / words),
            "bits_per_byte": nll / np.log(2) / size,
            "token_accuracy": correct / tokens,
        }


def _finite(value: np.ndarray | float) -> float | None:
    value = float(np.squeeze(value))
    return value if np.isfinite(value) else None
