"""The sections on `ssept` and `bert4rec`: their tables, their figures, and what their text is composed from."""

from typing import Any

from frugal.report.frames import software
from frugal.report.recommenders.figures import DRAWINGS
from frugal.report.recommenders.findings import findings, headline
from frugal.report.recommenders.layouts import LAYOUTS
from frugal.report.recommenders.originals import Original, anchors, uniform_ratio
from frugal.report.recommenders.tables import build, comparable, data, label
from frugal.report.results import Results
from frugal.report.tables import Table

__all__ = ["DRAWINGS", "LAYOUTS", "build", "context"]

TITLES = {"ssept": "SSE-PT", "bert4rec": "BERT4Rec"}


def context(experiment: str, results: Results, tables: dict[str, Table | None]) -> dict[str, Any]:
    """What the section's templates can name."""
    principal = results.principal(experiment)
    name = principal.name if principal else None
    measured = experiment in results.efficiency or bool(results.measurements(experiment))
    return {
        "name": experiment,
        "title": TITLES[experiment],
        "headline": headline(tables, experiment, name),
        "findings": findings(tables, experiment, name, measured),
        "config": (principal.config if principal else None) or {},
        "principal": label(principal) if principal else None,
        "variants": [run.name for run in results.trained(experiment)],
        "ordered": all(row["ordered"] != "no" for row in data(results, experiment)),
        # A table that never has rows in this study is left out; one that is not there is said to be missing.
        "has": {name.removeprefix(f"{experiment}_"): _has_rows(table) for name, table in tables.items()},
        "measures_efficiency": measured,
        "notes": {label(run): run.record["note"] for run in results.of(experiment) if (run.record or {}).get("note")},
        "warm_starts": warm_starts(results, experiment),
        "ratios": ratios(results, experiment),
        "original": Original(),
        "anchors": anchors(),
        "uniform_ratio": uniform_ratio(),
        "software": software(results.of(experiment), label),
    }


def _has_rows(table: Table | None) -> bool:
    return table is None or not table.frame.empty


def warm_starts(results: Results, experiment: str) -> list[dict[str, Any]]:
    """The runs that start from other weights: where from, and which tensors were taken and which were not."""
    found = []
    for run in results.trained(experiment):
        start = (run.config or {}).get("warm_start")
        if start:
            seeds = (run.training.get("by_seed") or {}).values()
            record = next((seed["warm_start"] for seed in seeds if seed.get("warm_start")), {})
            skipped = [f"{entry['name']} ({entry['reason']})" for entry in record.get("skipped") or ()]
            source = start.get("variant") or start.get("path")
            found.append({"system": label(run), "source": source, "record": record, "skipped": skipped})
    return found


def ratios(results: Results, experiment: str) -> list[float]:
    """NDCG@10 over HR@10 of every system with hits, smallest first."""
    known = [run.metrics for run in comparable(results, experiment) if run.metrics.get("HR@10")]
    return sorted(metrics["NDCG@10"] / metrics["HR@10"] for metrics in known if "NDCG@10" in metrics)
