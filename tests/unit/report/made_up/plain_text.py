"""A study of the experiments on plain text alone, and what the tests of their section ask of it."""

import json

import pandas as pd
import yaml

from frugal.claims.ledger import load_claims, make_ledger
from frugal.files import write_json
from frugal.report.contents import LANGUAGE_MODELS, STUDY_TABLES, TABLES
from frugal.report.figures import save as save_figure
from frugal.report.figures import style
from frugal.report.language_models import findings as say
from frugal.report.language_models import section
from frugal.report.language_models.figures import DRAWINGS
from frugal.report.language_models.tables import build
from frugal.report.render import write_report
from frugal.report.results import Results
from frugal.report.study.tables import build as build_study
from frugal.report.tables import save

from .language_models import LANGUAGE_MODELS as RUNS


def results_of(root, **changes) -> Results:
    """The experiments on plain text of a study in ``root``."""
    runs = [f"{experiment}/{name}" for experiment, (_, runs) in RUNS.items() for name in runs]
    return Results(root / "results" / "trial", "trial", runs, root / "data", **{"ladder": ["climate"]} | changes)


def render(results: Results, folder):
    """The whole report of a study, as the three scripts make it."""
    for experiment in LANGUAGE_MODELS:
        for name in TABLES[experiment]:
            table = build(name, results)
            save(table, folder / "tables", results.missing(experiment, table.layout.needs))
    for name in STUDY_TABLES:
        save(build_study(name, results), folder / "tables", [])
    with style():
        for name, drawing in DRAWINGS.items():
            save_figure(drawing.draw(results), name, folder / "figures")
    write_report(results, folder, make_ledger(load_claims("config/claims.yaml"), results.root))
    return folder


def change(path, **parts) -> None:
    write_json(path, json.loads(path.read_text()) | parts)


def reconfigure(path, section_name: str, **parts) -> None:
    settings = yaml.safe_load(path.read_text())
    settings[section_name] |= parts
    path.write_text(yaml.safe_dump(settings))


def rows(results: Results, name: str) -> pd.DataFrame:
    return build(name, results).frame.set_index("run")


def tables_of(results: Results, experiment: str) -> dict:
    return {name: build(name, results) for name in TABLES[experiment]}


def sentences(results: Results, experiment: str) -> str:
    return " ".join(say.findings(tables_of(results, experiment), experiment, "tuned", experiment in results.ladder))


def context(results: Results, experiment: str) -> dict:
    return section.context(experiment, results, tables_of(results, experiment))
