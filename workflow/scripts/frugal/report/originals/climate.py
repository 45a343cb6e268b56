"""What the original climate project states, and the places that it left blank, filled from results of this study."""

from dataclasses import dataclass
from typing import Any

from frugal.claims.analytic import lora_trainable_parameters, lora_trainable_share

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
BATCHES = ("per_device_train_batch_size", "gradient_accumulation_steps", "effective_batch_size")


@dataclass(frozen=True)
class Original:
    """The original climate project's own statements; it left its results blank."""

    model: str = "Llama 3.2 3B"
    gpu: str = "H100"
    r: int = 8
    share: str = "~0.1 %"

    @property
    def trainable_computed(self) -> int:
        return lora_trainable_parameters("llama-3.2-3b", self.r, ATTENTION)

    @property
    def share_computed(self) -> float:
        """Trainable weights over all weights, the adapter's included."""
        return lora_trainable_share("llama-3.2-3b", self.r, ATTENTION) / 100


FACTS = Original()


def context(experiment: Any, tables: dict[str, Any]) -> dict[str, Any]:
    """What its template names beside `original`.

    Args:
        experiment: `frugal.report.results.ExperimentResults`.
        tables: part -> table.
    """
    return {"blanks": blanks(experiment, tables)}


def blanks(experiment: Any, tables: dict[str, Any]) -> dict[str, str]:
    """What the original left blank in its report -> what was measured here."""
    from frugal.report.language_modeling import findings as say
    from frugal.report.wording import duration, known, row_of, rows_of

    principal = experiment.principal.name
    tests, training, ladder = (rows_of(tables, part) for part in ("tests", "training", "ladder"))
    row = row_of(training, run=principal)
    batch = "The study's settings do not ask for the search."
    if "ladder" in experiment.tables:
        batch = say.largest_batch(ladder)
    size, accumulation, effective = (f"{row[name]:,.0f}" if known(row, name) else None for name in BATCHES)
    memory = f"{say.memory(row)}, on {row['device']}." if known(row, "peak_rss_mb", "device") else "missing."
    return {
        "Largest batch on the device": f"Training used {size}. {batch}" if size else batch,
        "Gradient accumulation": f"{accumulation} batches a step." if accumulation else "missing.",
        "Effective batch size": f"{effective} a step." if effective else "missing.",
        "Memory used": memory,
        "Training time": f"{duration(row['minutes'])}." if known(row, "minutes") else "missing.",
        "Perplexity on the test set": say.perplexity(rows_of(tables, "perplexity"), principal),
        "Interpretation": f"{say.improvement(tests)} {say.overfitting(training, principal)}",
        "Conclusion": " ".join(conclusion(experiment, tables)),
    }


def conclusion(experiment: Any, tables: dict[str, Any]) -> list[str]:
    """One verdict on the tuning, and one on the savings of memory."""
    from frugal.report.language_modeling import findings as say
    from frugal.report.tables import format_value
    from frugal.report.wording import known, row_of, rows_of

    tests = rows_of(tables, "tests")
    test, row = row_of(tests, run="base"), row_of(rows_of(tables, "training"), run=experiment.principal.name)
    if not known(test, "ratio", "verdict") or not known(row, "trainable_share", "adapter_mb"):
        return [say.improvement(tests)]
    change = format_value(abs(test["ratio"] - 1), ".1%")
    outcome = {
        "better": f"lowered the perplexity by {change} %",
        "worse": f"raised the perplexity by {change} %",
        "no difference found": "did not change the perplexity significantly",
    }[test["verdict"]]
    text = (
        f"Training {format_value(row['trainable_share'], '.3%')} % of the weights, an adapter of "
        f"{row['adapter_mb']:.1f} MB, {outcome}."
    )
    return [text, *(say.ladder(rows_of(tables, "ladder"))[:1] if "ladder" in experiment.tables else [])]
