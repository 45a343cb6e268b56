"""What the report says of the study as a whole: its abstract, its costs, other studies beside it."""

from typing import Any

import pandas as pd

from frugal.report.contents import ACROSS, RECOMMENDERS, STUDY_TABLES, TABLES
from frugal.report.results import Missing, Results
from frugal.report.study.layouts import LAYOUTS, SCORES, TITLES
from frugal.report.study.others import compared_experiments
from frugal.report.study.tables import build
from frugal.report.tables import format_value
from frugal.report.wording import Tables, duration, known, row_of, rows_of

__all__ = ["LAYOUTS", "abstract", "build", "comparisons", "missing", "table_names"]

#: What one sentence compares where two studies have the same settings; the first score of a table is too coarse here.
PRINCIPAL_SCORE = {experiment: scores[0] for experiment, scores in SCORES.items()}
PRINCIPAL_SCORE |= {experiment: SCORES[experiment][1] for experiment in RECOMMENDERS}


def table_names(results: Results) -> list[str]:
    """The study's own tables: costs and machines, and one for each experiment that other studies have too."""
    experiments = [one for one in compared_experiments(results.compare) if results.of(one)]
    return [*STUDY_TABLES, *(ACROSS[experiment] for experiment in experiments)]


def missing(name: str, results: Results) -> list[Missing]:
    """The result files that one of these tables lacks, of all experiments that it is about."""
    experiments = {one: ACROSS[one] == name or name in STUDY_TABLES for one in TABLES}
    needs, only_trained = LAYOUTS[name].needs, name == "efficiency"
    found = [results.missing(one, needs, only_trained) for one, about in experiments.items() if about]
    return [entry for entries in found for entry in entries]


def abstract(results: Results, sections: list[dict[str, Any]], tables: Tables, claims: list[str]) -> dict[str, Any]:
    """The study in a few sentences.

    Returns:
        opening: what was trained, and what it cost; findings: title -> one sentence; claims: the ledger's counts.
    """
    headlines = {section["title"]: section["headline"] for section in sections}
    return {"opening": _cost(rows_of(tables, "efficiency"), len(headlines)), "findings": headlines, "claims": claims[0]}


def _cost(efficiency: pd.DataFrame, experiments: int) -> str:
    if efficiency.empty or efficiency["minutes"].isna().all():
        return "What was trained and what it cost is missing."
    trained = efficiency.dropna(subset=["minutes", "trainings", "device"])
    minutes, trainings = (trained["minutes"] * trained["trainings"]).sum(), int(trained["trainings"].sum())
    absent = len(efficiency) - len(trained)
    text = (
        f"In {experiments} experiment{'s' * (experiments != 1)}, {trainings:,d} trainings took {duration(minutes)} "
        f"together on {' and '.join(dict.fromkeys(trained['device']))}; none needed more than "
        f"{trained['peak_rss_mb'].max():,.0f} MB of memory"
    )
    if trained["peak_device_mb"].notna().any():
        text += f", or {trained['peak_device_mb'].max():,.0f} MB of GPU memory"
    return f"{text}." + (f" {absent} more {'is' if absent == 1 else 'are'} missing." if absent else "")


def comparisons(results: Results, tables: Tables) -> list[str]:
    """For each experiment's principal run, the other studies against this one."""
    found = []
    for experiment in dict.fromkeys(run.experiment for run in results.runs):
        rows, principal = rows_of(tables, ACROSS[experiment]), results.principal(experiment)
        own = row_of(rows, run=principal.name if principal else "", study=results.study)
        if own is None:
            continue
        score = PRINCIPAL_SCORE[experiment]
        for _, other in rows[(rows["run"] == own["run"]) & (rows["study"] != own["study"])].iterrows():
            parts = []
            if known(own, "per_second") and known(other, "per_second", "device"):
                ratio = other["per_second"] / own["per_second"]
                devices = f"{other['device']} against {own['device']}"
                parts.append(f"{ratio:.3g} times the speed in training ({devices})")
            if known(own, score.name) and known(other, score.name, "settings"):
                shown = [format_value(row[score.name], score.form) for row in (other, own)]
                settings = "the same settings" if other["settings"] == "the same" else "other settings"
                parts.append(f"{score.label} {shown[0]} against {shown[1]}, with {settings}")
            if parts:
                studies = f"{other['study']} against {own['study']}"
                found.append(f"{TITLES[experiment]}, {own['system']}, {studies}: {'; '.join(parts)}.")
    return found
