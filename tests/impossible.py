"""Results that cannot be, whatever was trained: looked for in a study's results folder, each a sentence."""

import json
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

#: Metrics that are shares or means of shares; the name of a subset of cases may follow.
SHARES = r"(HR|recall|NDCG|coverage)@\d+|MRR|(accuracy|accuracy_liked_first|swap_consistency|p_a|auc|brier|ece)(_\w+)?"
SHARES += r"|token_accuracy"
#: What rounding may do to a mean.
ROUNDING = 1e-9


def findings(results: Path, data: Path) -> list[str]:
    """What is impossible in ``results``, a study's folder, and in the project's ``data``; empty if nothing is."""
    found = []
    for path in sorted(results.glob("*/*/metrics.json")):
        record, name = json.loads(path.read_text()), f"{path.parent.parent.name}/{path.parent.name}"
        checks = [bounds(record), cutoffs(record), counts(record), oracle(record, path.parent.name)]
        if (path.parent / "predictions.parquet").exists():
            checks.append(means(record, pd.read_parquet(path.parent / "predictions.parquet")))
        if (path.parent / "documents.parquet").exists():
            checks.append(sums(record, pd.read_parquet(path.parent / "documents.parquet")))
        vocabulary = random_vocabulary(path.parent / "config.yaml", data)
        if vocabulary and path.parent.name == "base":
            checks.append(ignorance(record, vocabulary))
        found += [f"{name}: {finding}" for check in checks for finding in check]
    for path in sorted(results.glob("report/tables/*.parquet")):
        found += [f"{path.stem}: {finding}" for finding in probabilities(pd.read_parquet(path))]
    for path in sorted(data.glob("prepared/*/summary.json")):
        found += [f"{path.parent.name}: {finding}" for finding in rows(json.loads(path.read_text()))]
    return found


def bounds(record: dict[str, Any]) -> Iterator[str]:
    """Values are finite, shares are from 0 to 1, perplexities from 1, and intervals hold their value."""
    for group in [record["metrics"], record.get("sampled") or {}, *(record.get("by_seed") or {}).values()]:
        for name, value in group.items():
            if value is None:
                continue
            if not math.isfinite(value):
                yield f"{name} is {value}"
            elif re.fullmatch(SHARES, name) and not 0 <= value <= 1 + ROUNDING:
                yield f"{name} is {value}, and a share is from 0 to 1"
            elif "perplexity" in name and value < 1:
                yield f"{name} is {value}, and no perplexity is below 1"
    for name, interval in (record.get("intervals") or {}).items():
        value = record["metrics"].get(name)
        if None not in (value, *interval) and not interval[0] - ROUNDING <= value <= interval[1] + ROUNDING:
            yield f"{name} is {value}, outside of its interval {interval}"


def cutoffs(record: dict[str, Any]) -> Iterator[str]:
    """HR, recall and coverage rise with k; NDCG and recall are at most HR."""
    for group in [record["metrics"], record.get("sampled") or {}, *(record.get("by_seed") or {}).values()]:
        at: dict[str, dict[int, float]] = {}
        for name, value in group.items():
            if "@" in name:
                metric, _, k = name.partition("@")
                at.setdefault(metric, {})[int(k)] = value
        for metric in ("HR", "recall", "coverage"):
            values = sorted(at.get(metric, {}).items())
            for (k, low), (more, high) in pairwise(values):
                if high < low - ROUNDING:
                    yield f"{metric}@{more} is {high}, below {metric}@{k}, {low}"
        for metric in ("NDCG", "recall"):
            for k, value in at.get(metric, {}).items():
                if value > at.get("HR", {}).get(k, 1) + ROUNDING:
                    yield f"{metric}@{k} is {value}, above HR@{k}, {at['HR'][k]}"


def counts(record: dict[str, Any]) -> Iterator[str]:
    """Of the targets not more are repeated, or cold, than there are, and a repeated one is not scored if left out."""
    targets = record.get("targets")
    for name in ("repeated", "cold") if targets else ():
        if not 0 <= targets[name] <= targets["targets"]:
            yield f"{targets[name]} of {targets['targets']} targets are {name}"
    for name, share in (record.get("ties") or {}).items():
        if share is not None and not 0 <= share <= 1:
            yield f"{share} is no share of ties ({name})"
    if targets and record.get("history") == "exclude" and record["cases"] > targets["targets"] - targets["repeated"]:
        yield f"{record['cases']} users are scored, and {targets['targets'] - targets['repeated']} targets are left"


def oracle(record: dict[str, Any], run: str) -> Iterator[str]:
    """No baseline knows all answers, and one that always answers A is right half of the time."""
    metrics = record["metrics"]
    if run == "baseline_always_a" and metrics.get("accuracy") != 0.5:
        yield f"accuracy is {metrics.get('accuracy')}, and each pair is asked once with A right and once with B"
    for name in ("NDCG@10", "accuracy"):
        if run.startswith("baseline_") and metrics.get(name, 0) >= 1:
            yield f"{name} is {metrics[name]}: a baseline that is right everywhere has seen the answers"


def means(record: dict[str, Any], predictions: pd.DataFrame) -> Iterator[str]:
    """Metrics are the means of the users' values, and each seed has the same users, once."""
    if "rank" not in predictions or not record["metrics"]:
        return
    if (predictions["rank"] < 1).any():
        yield "a rank is below 1"
    for name in ("HR@10", "NDCG@10", "recall@10", "MRR"):
        mean = predictions.groupby("seed")[name].mean().mean()
        if not math.isclose(mean, record["metrics"][name], abs_tol=1e-6):
            yield f"{name} is {record['metrics'][name]}, and its mean over users is {mean}"
    for seed, users in predictions.groupby("seed")["user"]:
        if len(users) != record["cases"] or users.duplicated().any():
            yield f"seed {seed} has {users.nunique()} users in {len(users)} rows, and metrics.json {record['cases']}"


def sums(record: dict[str, Any], documents: pd.DataFrame) -> Iterator[str]:
    """Counts are the sums over documents, and the perplexity follows from them."""
    metrics = record["metrics"]
    for name in ("tokens", "words", "bytes"):
        if metrics[name] != documents[name].sum():
            yield f"{name} is {metrics[name]}, and the documents have {documents[name].sum()}"
    perplexity = math.exp(documents["nll"].sum() / documents["tokens"].sum())
    if not math.isclose(perplexity, metrics["perplexity"], rel_tol=1e-6):
        yield f"perplexity is {metrics['perplexity']}, and that of the documents is {perplexity}"


def random_vocabulary(config: Path, data: Path) -> int | None:
    """The size of the vocabulary of a run's base model if its weights are random; None if they are not."""
    name = (yaml.safe_load(config.read_text()) if config.exists() else {}).get("base_model") or ""
    if "random" not in name:
        return None
    return json.loads((data / "models" / name / "config.json").read_text())["vocab_size"]


def ignorance(record: dict[str, Any], vocabulary: int) -> Iterator[str]:
    """A model that knows nothing is as unsure as its vocabulary is large."""
    perplexity = record["metrics"].get("perplexity")
    if perplexity is not None and not vocabulary / 2 <= perplexity <= 2 * vocabulary:
        yield f"perplexity is {perplexity}, and random weights over {vocabulary} tokens give about {vocabulary}"


def probabilities(table: pd.DataFrame) -> Iterator[str]:
    """p-values are from 0 to 1, and corrections for several tests do not lower them."""
    for name in {"p", "p_holm"} & set(table.columns):
        values = pd.to_numeric(table[name], errors="coerce").dropna()
        for value in values[(values < 0) | (values > 1)]:
            yield f"{name} is {value}"
    if {"p", "p_holm"} <= set(table.columns):
        low, high = (pd.to_numeric(table[name], errors="coerce") for name in ("p", "p_holm"))
        for before, after in zip(low[high < low - ROUNDING], high[high < low - ROUNDING], strict=True):
            yield f"p_holm is {after}, below p, {before}"


def rows(summary: dict[str, Any]) -> Iterator[str]:
    """Every row of interactions that was read was kept, skipped, a duplicate, or outside of the core."""
    if "rows_kept" not in summary:
        return
    removed = sum(summary["skipped"].values()) + summary["duplicates"]["removed"]
    removed += (summary["k_core"] or {}).get("removed", 0)
    if summary["rows_read"] != summary["rows_kept"] + removed:
        yield f"{summary['rows_read']} rows were read, {summary['rows_kept']} kept and {removed} left out"
