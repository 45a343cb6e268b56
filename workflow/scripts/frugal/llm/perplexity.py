"""Perplexity: each token of a text scored once, in windows; sums of negative log-likelihoods, then the exponential.

A window's last token is predicted and never read, so that windows that do not overlap leave no token out.
Padding is never scored. Neither batch size nor padding side changes the result beyond rounding.

With ``bos_token_id`` and a stride of the whole context this is lm-evaluation-harness' `loglikelihood_rolling`
(lm_eval/utils.py, get_rolling_token_windows), and so its `word_perplexity`, where words are separated by white
space. Without it nothing predicts the first token of a text (with `join_documents`: of the first text): that
token is not scored, and neither counts as a token nor adds to the sum; `words` and `bytes` are those of the
whole text all the same, which lowers word perplexity and bits per byte by that one token's share.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from frugal.config.language_modeling import EvaluationSettings
from frugal.errors import FrugalError

#: Positions whose logits are in memory at a time: 256 x 128,256 in float32 are 125 MB.
POSITIONS_AT_ONCE = 256
#: What some models do to the logits behind the output embeddings, which this module does not.
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass(frozen=True)
class Window:
    """A piece of a text: the model reads tokens[begin : end - 1], and tokens[scored_from : end] are scored."""

    begin: int
    end: int
    scored_from: int


def windows(length: int, context_length: int, stride: int) -> Iterator[Window]:
    """Windows over a text of ``length`` tokens: each but the first token is scored exactly once.

    The model reads at most ``context_length`` tokens at once. The first window scores all that it can, each
    later one the next ``stride`` tokens, after as much context as fits.
    """
    scored_from, end = 1, min(length, context_length + 1)
    while scored_from < end:
        yield Window(max(0, end - 1 - context_length), end, scored_from)
        scored_from, end = end, min(length, end + stride)


def bos_token(tokenizer, settings: EvaluationSettings) -> int | None:
    """The token that the settings want before a text, or None.

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
        FrugalError: no token can be scored, the model's likelihoods are not numbers, or it changes its logits.
    """
    body, head = _body_and_head(model)
    texts, owners = _texts(documents, settings.join_documents, [] if bos_token_id is None else [bos_token_id])
    pieces = [
        (text, window)
        for text, tokens in enumerate(texts)
        for window in windows(len(tokens), settings.context_length, settings.stride)
    ]
    if not pieces:
        raise FrugalError("no test document has a token to score: each needs two, or one after a BOS token")
    # Windows of like length share a batch, so that little is padded.
    pieces.sort(key=lambda piece: piece[1].begin - piece[1].end)
    totals = np.zeros((len(documents), 3))
    shown = time.monotonic()
    for start in range(0, len(pieces), settings.batch_size):
        batch = pieces[start : start + settings.batch_size]
        inputs, targets, scored = _batch(texts, batch, pad_token_id, padding_side)
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        hidden = body(**inputs, use_cache=False).last_hidden_state
        nll, correct = _likelihoods(head, hidden[scored.to(model.device)], targets[scored].to(model.device))
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
    """The texts that windows move over, ``prefix`` before each, and the document's row that each token is of."""
    tokens = [np.asarray(ids, dtype=np.int64) for ids in documents["input_ids"]]
    groups = [range(len(tokens))] if join else [[row] for row in range(len(tokens))]
    texts = [np.concatenate([np.array(prefix, dtype=np.int64), *(tokens[row] for row in group)]) for group in groups]
    # The prefix is never scored, and so needs no owner of its own.
    owners = [np.repeat([group[0], *group], [len(prefix), *(len(tokens[row]) for row in group)]) for group in groups]
    return texts, owners


def _body_and_head(model) -> tuple[Any, Any]:
    """What gives the hidden states, adapter included, and what turns them into logits."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    for name in LOGIT_CHANGES:
        if getattr(causal.config, name, None):
            raise FrugalError(f"{causal.config.model_type}: models with {name} in config.json cannot be scored")
    return causal.base_model, causal.get_output_embeddings()


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


def _likelihoods(head, hidden: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Negative log-likelihood of each target, and whether it is the likeliest token.

    Args:
        hidden: (positions, hidden size).
        targets: (positions,).
    """
    nll, correct = [], []
    for states, wanted in zip(hidden.split(POSITIONS_AT_ONCE), targets.split(POSITIONS_AT_ONCE), strict=True):
        logits = head(states).float()
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
        token_accuracy: share of the scored tokens that the model found likeliest.
        nll_per_token: nats.
        tokens, words, bytes, documents: what was scored.
        A value too large for a float64 (one "word" of a million bytes) is None.
    """
    sums = table[SUMS].to_numpy(dtype=float).sum(0)
    values = {name: _finite(value) for name, value in _ratios(sums[None]).items()}
    counts = {name: int(table[name].sum()) for name in ("tokens", "words", "bytes")}
    return {**values, "nll_per_token": float(sums[0] / sums[1]), **counts, "documents": len(table)}


def intervals(table: pd.DataFrame, samples: int, seed: int, level: float = 0.95) -> dict[str, list[float | None]]:
    """Percentile intervals over resampled documents, of ratios of sums; name -> [lower, upper]."""
    rng = np.random.default_rng(seed)
    values = table[SUMS].to_numpy(dtype=float)
    count = len(values)
    chunk = max(1, 5_000_000 // count)
    draws = [
        rng.multinomial(count, np.full(count, 1 / count), size=min(chunk, samples - start)) @ values
        for start in range(0, samples, chunk)
    ]
    sums = np.concatenate(draws)
    tail = (1 - level) / 2
    # A draw of documents without a scored token says nothing.
    ratios = _ratios(sums[sums[:, 1] > 0])
    with np.errstate(invalid="ignore"):
        return {name: [_finite(np.quantile(v, q)) for q in (tail, 1 - tail)] for name, v in ratios.items()}


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


def _finite(value: np.ndarray) -> float | None:
    value = float(np.squeeze(value))
    return value if np.isfinite(value) else None
