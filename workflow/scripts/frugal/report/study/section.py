"""What the report says of the study as a whole: its abstract, its costs, other studies beside it."""

from typing import Any

import pandas as pd

from frugal.report.contents import STUDY_TABLES
from frugal.report.contents import across as across_name
from frugal.report.results import Missing, Results
from frugal.report.study.tables import layouts
from frugal.report.tables import format_value
from frugal.report.wording import Tables, duration, known, row_of, rows_of


def missing(name: str, results: Results) -> list[Missing]:
    """The result files that one of these tables lacks, of all experiments that it is about."""
    needs, only_trained = layouts(results)[name].needs, name == "efficiency"
    about = [one for one in results.experiments.values() if name in (*STUDY_TABLES, across_name(one.name))]
    return [entry for experiment in about for entry in experiment.missing(needs, only_trained)]


def abstract(sections: list[dict[str, Any]], tables: Tables, claims: list[str]) -> dict[str, Any]:
    """The study in a few sentences.

    Returns:
        opening: what was trained, and what it cost; claims: the ledger's counts.
    """
    return {"opening": _cost(rows_of(tables, "efficiency"), len(sections)), "claims": claims[:1]}


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
    for experiment in results.experiments.values():
        rows, principal = rows_of(tables, across_name(experiment.name)), experiment.principal
        own = row_of(rows, run=principal.name, study=results.name)
        if own is None:
            continue
        score = experiment.section.COMPARED
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
                found.append(f"{experiment.title}, {own['system']}, {studies}: {'; '.join(parts)}.")
    return found
