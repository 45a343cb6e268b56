"""The tables of an experiment on plain text, from its result files."""

from typing import Any

import numpy as np
import pandas as pd

from frugal.report import originals
from frugal.report.contents import LADDER, RATINGS
from frugal.report.frames import (
    Builder,
    Rows,
    adapted,
    compared,
    machine,
    metric_values,
    provenance,
    system_values,
    training_values,
)
from frugal.report.language_modeling.layouts import LAYOUTS
from frugal.report.results import ExperimentResults, Run
from frugal.report.tables import Layout
from frugal.report.wording import beginning
from frugal.stats import Comparison, compare_cases

#: Letters that a table shows of a longer text.
SHOWN = 40
#: The parts that a rung's estimated memory is split into.
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "overhead")
MEASURED = (
    "peak_mb",
    "tokens_per_second",
    "matmul_peak_share",
    "loss",
    "trainable_parameters",
    "adapter_mb",
)
SPLIT = ("train", "validation", "test")


def protocol(run: Run) -> str | None:
    """What is scored and how: perplexities can be compared only where this is the same; None without settings."""
    if not run.config:
        return None
    names = ("validation_documents", "test_documents", "max_test_tokens")
    parts = [run.config.get("dataset"), run.config.get("base_model")]
    parts += [run.section("corpus").get(name) for name in names]
    names = ("context_length", "stride", "add_bos", "join_documents")
    return ", ".join(map(str, parts + [run.section("evaluation").get(name) for name in names]))


def comparable(experiment: ExperimentResults) -> list[Run]:
    """The runs that score the same text in the same way as the principal one, itself included."""
    principal = experiment.principal
    return [run for run in experiment.runs if principal and protocol(run) == protocol(principal)]


def data(experiment: ExperimentResults) -> Rows:
    """One row a corpus, or several where runs cut it differently."""
    rows: dict[str, dict[str, Any]] = {}
    for run in experiment.trained:
        dataset, counts = (run.config or {}).get("dataset"), experiment.blocks(run)
        summary = experiment.summary(dataset) if dataset else {}
        skipped = summary.get("skipped") or {}
        row = {name: summary.get(name) for name in ("kept", "near_duplicates", "words")}
        row |= {"dataset": dataset, "skipped": sum(skipped.values()) if summary else None}
        row["reasons"] = "; ".join(f"{reason}: {count:,d}" for reason, count in skipped.items()) or None
        parts = counts.get("documents") or {}
        row["split"] = ", ".join(f"{parts.get(part, 0):,d}" for part in SPLIT) if parts else None
        row |= {f"tokens_{part}": count for part, count in (counts.get("tokens") or {}).items()}
        row |= {f"blocks_{part}": count for part, count in (counts.get("blocks") or {}).items()}
        row["block_length"] = run.section("corpus").get("block_length")
        rows.setdefault(str(row), row | {"names": []})["names"].append(run.label)
    return [row | {"runs": ", ".join(row["names"]) if len(rows) > 1 else None} for row in rows.values()]


def manifest(experiment: ExperimentResults) -> Rows:
    """One row a source document."""
    rows = []
    for dataset in experiment.datasets:
        table = experiment.manifest(dataset)
        for row in table.to_dict("records") if table is not None else ():
            shown = {
                name: beginning(str(row.get(name) or ""), SHOWN) or None for name in ("document", "title", "reason")
            }
            rows.append(row | shown | {"dataset": dataset})
    return rows


def perplexity(experiment: ExperimentResults) -> Rows:
    """The metrics of the untuned model and of every variant, with how they were measured."""
    columns = [column for column in LAYOUTS["perplexity"].columns if column.form != "text"]
    rows = []
    for run in experiment.runs:
        row = system_values(run) | {"protocol": protocol(run)} | metric_values(run, columns)
        if run.config and run.metrics:
            settings = run.section("evaluation")
            row |= {"text": f"{run.config.get('dataset')}, test", "context": settings.get("context_length")}
            row |= {"stride": settings.get("stride"), "bos": "yes" if settings.get("add_bos") else "no"}
            row["joined"] = "joined" if settings.get("join_documents") else "apart"
        rows.append(row)
    return rows


def compare_documents(first: pd.DataFrame, second: pd.DataFrame) -> Comparison | None:
    """How much lower the first system's log perplexity is, by `compare_cases` over documents.

    The statistic is a ratio of sums, sum(nll_second - nll_first) / sum(tokens), in nats a token; documents
    are resampled because tokens of one document are not independent.

    Args:
        first, second: one row a document, with the columns document, tokens and nll.

    Returns:
        None where the two did not score the same tokens of the same documents.
    """
    sides = [side[side["tokens"] > 0].set_index("document").sort_index() for side in (first, second)]
    if sides[0].empty or not sides[0]["tokens"].equals(sides[1]["tokens"]):
        return None
    gain, tokens = (sides[1]["nll"] - sides[0]["nll"]).to_numpy(float), sides[0]["tokens"].to_numpy(float)
    return compare_cases(np.column_stack([gain, tokens]), int(tokens.sum()))


def tests(experiment: ExperimentResults) -> Rows:
    """The principal run against every other one that scored the same text."""
    principal, rows = experiment.principal, []
    for run in comparable(experiment):
        if run is principal:
            continue
        row = compared(principal, run, None)
        if principal.documents is not None and run.documents is not None:
            found = compare_documents(principal.documents, run.documents)
            if found is None:  # another seed split the documents otherwise
                continue
            row["documents"] = found.users
            if found.users > 1:  # resampling one document tells nothing
                row |= vars(found) | {"ratio": np.exp(-found.difference)}
                row |= {"ratio_lower": np.exp(-found.upper), "ratio_upper": np.exp(-found.lower)}
        rows.append(row)
    return rows


def training(experiment: ExperimentResults) -> Rows:
    """The training record of every trained run, and how its validation loss went on."""
    columns = {column.name: column for part in ("training", "cost") for column in LAYOUTS[part].columns}
    rows = []
    for run in experiment.trained:
        row = training_values(run, Layout("", tuple(columns.values())))
        row["adapted"] = adapted(run.training)
        row["learning_rate"] = run.section("training").get("learning_rate")
        if run.training:
            hardware = run.provenance.get("hardware") or {}
            row["device"] = machine(hardware, on_gpu=run.training.get("peak_device_mb") is not None)
        rows.append(row | (course(run.history) if run.history is not None else {}))
    return rows


def course(history: pd.DataFrame) -> dict[str, Any]:
    """The epochs of a training, and how its losses went on after the best validation loss.

    Returns:
        epochs; validations, how often the validation loss was measured; where it was: best_eval_loss and
        final_eval_loss; where training went on after the best one: loss_before and loss_after, the means of
        the training losses logged after it and of as many before it.
    """
    found: dict[str, Any] = {"epochs": history["epoch"].max()} if "epoch" in history else {}
    if not {"eval_loss", "loss"} <= set(history):
        return found
    validation, losses = history.dropna(subset=["eval_loss"]), history.dropna(subset=["loss"])
    found["validations"] = len(validation)
    if validation.empty:
        return found
    best = validation.loc[validation["eval_loss"].idxmin()]
    found |= {"best_eval_loss": best["eval_loss"], "final_eval_loss": validation["eval_loss"].iloc[-1]}
    later = losses["step"] > best["step"]
    before, after = losses.loc[~later, "loss"], losses.loc[later, "loss"]
    if len(before) and len(after):
        found |= {"loss_before": before.tail(len(after)).mean(), "loss_after": after.mean()}
    return found


def ladder(experiment: ExperimentResults) -> Rows:
    """The rungs as they were measured, with the estimate beside; a failed rung has no measurements."""
    measured, rows = experiment.read(LADDER), []
    for rung in measured.get("rungs") or ():
        row = {name: rung.get(name) for name in ("rung", "changed", "error")}
        if not rung.get("error"):
            row |= {name: rung.get(name) for name in MEASURED}
            row["emulated"] = "yes" if rung.get("emulated") else None
        # A rung that fails with the ladder's batch may hold a smaller one.
        estimate, peak, probes = rung.get("estimate") or {}, row.get("peak_mb"), rung.get("probes") or ()
        row |= {name: estimate.get(name) for name in PARTS} | {"estimate_mb": estimate.get("total")}
        row["deviation"] = estimate["total"] / peak - 1 if peak and estimate.get("total") else None
        row["largest_batch"] = rung.get("largest_batch")
        # A search that nothing stopped ended at its own limit.
        row["unbounded"] = float(bool(probes) and all(probe["fits"] for probe in probes))
        row |= {name: measured.get(name) for name in ("memory_budget_mb", "block_length", "batch_size", "steps")}
        rows.append(row)
    return rows


def answers(experiment: ExperimentResults) -> Rows:
    """The prompts that both the untuned and the principal model were given, with both answers."""
    base, principal = experiment.find("base"), experiment.principal
    if not all(run is not None and run.answers is not None for run in (base, principal)):
        return []
    tuned = {row["prompt"]: row["answer"] for row in principal.answers}
    return [
        {"prompt": row["prompt"], "base": row["answer"], "tuned": tuned[row["prompt"]]}
        for row in base.answers
        if row["prompt"] in tuned
    ]


def prompts(experiment: ExperimentResults) -> Rows:
    """The beginnings of prompts and answers, and both whole."""
    return [
        {name: beginning(text, SHOWN) or "(nothing)" for name, text in row.items()}
        | {f"{name}_text": text for name, text in row.items()}
        for row in answers(experiment)
    ]


def ratings(experiment: ExperimentResults) -> Rows:
    """One row a criterion, and one over all."""
    record = experiment.read(RATINGS)
    means, counts, wins, alpha = (record.get(name) or {} for name in ("means", "n", "win_rate", "alpha"))
    base, tuned = (means.get(name) or {} for name in ("base", "tuned"))
    numbers = counts.get("base") or {}
    return [
        {"criterion": name, "base": base.get(name), "tuned": tuned.get(name), "n": numbers.get(name)}
        | {"win_rate": wins.get(name), "alpha": alpha.get(name)}
        for name in dict.fromkeys([*base, *wins])
    ]


def anchors(experiment: ExperimentResults) -> Rows:
    """Published perplexities, and that of the same untuned model on the same text where this study has it."""
    base, published = experiment.find("base"), originals.load(experiment.reproduces)
    config, metrics = (base.config or {}, base.metrics) if base else ({}, {})
    rows = []
    for one in published.ANCHORS:
        same = (config.get("dataset"), config.get("base_model")) == (published.ANCHOR_DATASET, one.base_model)
        row = {"model": one.model, "published": one.perplexity, "published_words": one.word_perplexity}
        quantization = config["model"]["quantization"] if same else "none"
        row["weights"] = None if quantization == "none" else quantization  # the published ones are not quantised
        rows.append(row | {name: metrics.get(name) if same else None for name in ("perplexity", "word_perplexity")})
    return rows


BUILDERS: dict[str, Builder] = {
    "data": data,
    "manifest": manifest,
    "perplexity": perplexity,
    "tests": tests,
    "training": training,
    "cost": training,
    "ladder": ladder,
    "prompts": prompts,
    "ratings": ratings,
    "anchors": anchors,
    "provenance": provenance,
}
