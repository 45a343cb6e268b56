"""The sources of the tables on plain text."""

from typing import Any

import pandas as pd

from .sources import (
    PROVENANCE,
    Cell,
    Source,
    adapted,
    compared,
    minutes,
    principal,
    score,
    setting,
    summary,
    told,
    trained,
)
from .study import mentions


def of_a_run(read) -> Source:
    """A value that one of the runs with the row's data set must have."""

    def source(cell: Cell) -> bool:
        runs = cell.study.trained(cell.experiment)
        return any(read(cell, run) == cell.shown for run in runs)

    return source


def block_count(cell: Cell, run: str) -> Any:
    kind, part = cell.column.split("_")
    return cell.study.blocks(cell.experiment, run).get(kind, {}).get(part)


def split(cell: Cell, run: str) -> str:
    documents = cell.study.blocks(cell.experiment, run)["documents"]
    return ", ".join(f"{documents[part]:,d}" for part in ("train", "validation", "test"))


def manifest(cell: Cell) -> Any:
    """By the document's place: the rows are those of the manifest, in its order."""
    rows = cell.study.prepared(cell.row["dataset"], "manifest.parquet")
    here = cell.frame[cell.frame["dataset"] == cell.row["dataset"]]
    expected = rows.iloc[list(here.index).index(cell.row.name)].get(cell.column)
    if isinstance(expected, str):
        shown = "" if pd.isna(cell.shown) else str(cell.shown).removesuffix(" …")
        return " ".join(expected.split()).startswith(shown)
    return expected


def history(cell: Cell) -> pd.DataFrame:
    return cell.study.frame(f"{cell.experiment}/{cell.run}/history.csv")


def validation(cell: Cell) -> pd.Series:
    return history(cell).set_index("step")["eval_loss"].dropna()


def training_loss(cell: Cell) -> float | None:
    """The mean training loss after the best validation, or of as many logged losses before it."""
    losses, best = history(cell).dropna(subset=["loss"]), validation(cell).idxmin()
    after, before = losses[losses["step"] > best]["loss"], losses[losses["step"] <= best]["loss"]
    if after.empty or before.empty:
        return None
    return (after if cell.column == "loss_after" else before.tail(len(after))).mean()


def answers(cell: Cell) -> Any:
    """A prompt, or what a model wrote after it, as it stands in answers.jsonl; a shown beginning of it."""
    name = cell.column.removesuffix("_text")
    run = principal(cell) if name == "tuned" else "base"
    rows = cell.study.lines(f"{cell.experiment}/{run}/answers.jsonl")
    whole = next(row for row in rows if row["prompt"] == cell.row["prompt_text"])[
        "prompt" if name == "prompt" else "answer"
    ]
    if cell.column.endswith("_text"):
        return (cell.shown if isinstance(cell.shown, str) else "") == whole
    return " ".join(whole.split()).startswith(cell.shown.removesuffix(" …")) or (
        cell.shown == "(nothing)" and not whole
    )


def rung(cell: Cell) -> Any:
    """A number of the measurement, or of its estimate; a rung that failed has no measurements."""
    record = cell.study.json(f"{cell.experiment}/ladder/measurements.json")
    one = next(entry for entry in record["rungs"] if entry["rung"] == cell.row["rung"])
    estimate, column = one.get("estimate") or {}, cell.column
    if column in ("memory_budget_mb", "block_length", "batch_size", "steps"):
        return record[column]
    if column == "deviation":
        return None if one["error"] or not estimate else estimate["total"] / one["peak_mb"] - 1
    if column == "unbounded":
        probes = one.get("probes") or []
        return float(bool(probes) and all(probe["fits"] for probe in probes))
    if column in ("weights", "gradients", "optimizer", "activations", "logits", "overhead"):
        return estimate.get(column)
    if column == "estimate_mb":
        return estimate.get("total")
    if column == "emulated":
        return "yes" if one.get("emulated") else None
    return one.get(column) if not one["error"] or column in ("changed", "error", "largest_batch") else None


def rated(cell: Cell) -> float | None:
    """A mean, a count, a share or an agreement of ratings.json."""
    record = cell.study.json(f"{cell.experiment}/rating/ratings.json")
    place = {"base": record["means"]["base"], "tuned": record["means"]["tuned"], "n": record["n"]["base"]}
    return place.get(cell.column, record.get(cell.column, {})).get(cell.row["criterion"])


def same_model(cell: Cell) -> float | None:
    """The untuned model's perplexity beside a published one, where model and text are the same."""
    config = cell.study.config(cell.experiment, "base")
    names = {"Llama 3.2 1B": "llama-3.2-1b", "Llama 3.2 3B": "llama-3.2-3b", "Llama 3 8B": "llama-3-8b"}
    if (config["dataset"], config["base_model"]) != ("wikitext-2-raw", names[cell.row["model"]]):
        return None
    if cell.column == "weights":
        return {"none": None}.get(config["model"]["quantization"], config["model"]["quantization"])
    return cell.study.record(cell.experiment, "base")["metrics"][cell.column]


def skipped(cell: Cell) -> dict[str, int]:
    return cell.study.prepared(cell.row["dataset"])["skipped"]


COURSE = {
    "adapted": adapted,
    "learning_rate": setting("training", "learning_rate"),
    "epochs": lambda cell: history(cell)["epoch"].max(),
    "best_eval_loss": lambda cell: validation(cell).min(),
    "final_eval_loss": lambda cell: validation(cell).iloc[-1],
    "validations": lambda cell: len(validation(cell)),
    "loss_before": training_loss,
    "loss_after": training_loss,
    "minutes": minutes,
    "device": told("hardware"),
    "*": trained,
}
TABLES: dict[str, dict[str, Source]] = {
    "data": {
        "dataset": of_a_run(lambda cell, run: cell.study.config(cell.experiment, run)["dataset"]),
        "kept": summary("kept"),
        "near_duplicates": summary("near_duplicates"),
        "words": summary("words"),
        "skipped": lambda cell: sum(skipped(cell).values()),
        "reasons": lambda cell: pd.isna(cell.shown) or mentions(cell.shown, skipped(cell)),
        "split": of_a_run(split),
        "block_length": of_a_run(lambda cell, run: cell.study.config(cell.experiment, run)["corpus"]["block_length"]),
        "*": of_a_run(block_count),
    },
    "manifest": {"*": manifest},
    "perplexity": {
        "text": told("config"),
        "protocol": told("config"),
        "context": setting("evaluation", "context_length"),
        "stride": setting("evaluation", "stride"),
        "bos": lambda cell: "yes" if setting("evaluation", "add_bos")(cell) else "no",
        "joined": lambda cell: "joined" if setting("evaluation", "join_documents")(cell) else "apart",
        "*": score,
    },
    "tests": compared(principal, lambda cell: cell.run),
    "training": COURSE,
    "cost": COURSE,
    "ladder": {"*": rung},
    "prompts": {"*": answers},
    "ratings": {"*": rated},
    "anchors": dict.fromkeys(("perplexity", "word_perplexity", "weights"), same_model),
    "provenance": PROVENANCE,
}
