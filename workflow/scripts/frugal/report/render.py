"""One template, three documents: report.md, report.html and report.tex."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from frugal.claims.ledger import write_ledger
from frugal.files import write_text
from frugal.report import claims, originals, tables
from frugal.report.contents import CLAIMS_FILE, FIGURE_FORMATS, REPORT_FORMATS, across
from frugal.report.frames import software
from frugal.report.results import ExperimentResults, Missing, Results
from frugal.report.study import section as study
from frugal.report.study import threats
from frugal.report.study.tables import layouts
from frugal.report.views import VIEWS, Raw, View
from frugal.report.wording import Tables

TEMPLATES = Path(__file__).parent / "templates"
SUBTITLE = "Training Transformers on limited hardware: results, and what they rest on."


class Dash(jinja2.ChainableUndefined):
    """A value that a result does not have prints as missing; it never ends the report."""

    def __str__(self) -> str:
        return tables.MISSING


@dataclass(frozen=True)
class Content:
    """What a report is made of.

    Attributes:
        experiments: experiment -> part -> table; None where its file is not there.
        study: name -> table, of the study as a whole.
        ledger: the claims; None where no experiment reproduces an original.
        claims: name -> table, of the ledger.
        random_models: base models whose weights are random.
    """

    results: Results
    folder: Path
    experiments: dict[str, Tables]
    study: Tables
    ledger: pd.DataFrame | None
    claims: Tables
    random_models: Collection[str] = ()


def load(results: Results, folder: Path, ledger: pd.DataFrame | None, random_models: Collection[str] = ()) -> Content:
    """The content of a report whose tables are in ``folder``.

    Raises:
        FrugalError: a table is there and cannot be read.
    """
    experiments = {
        name: {part: tables.load(f"{name}_{part}", one.section.LAYOUTS[part], folder / "tables") for part in one.tables}
        for name, one in results.experiments.items()
    }
    whole = {name: tables.load(name, layout, folder / "tables") for name, layout in layouts(results).items()}
    stated = {} if ledger is None else claims.build(ledger)
    return Content(results, folder, experiments, whole, ledger, stated, random_models)


def write_report(
    results: Results, folder: Path, ledger: pd.DataFrame | None, random_models: Collection[str] = ()
) -> None:
    """Write report.md, .html and .tex into ``folder``, which holds tables/ and figures/; the ledger's tables too.

    Args:
        ledger: one row a claim, as `frugal.claims.ledger.make_ledger` gives it; None leaves the claims out.
        random_models: see `Content`.

    Raises:
        FrugalError: a result file or a table is there and cannot be read.
    """
    content = load(results, folder, ledger, random_models)
    for table in content.claims.values():
        tables.save(table, folder / "tables", [])
    if ledger is not None:
        write_ledger(ledger, folder / "tables" / CLAIMS_FILE)
    for form in REPORT_FORMATS:
        write_text(folder / f"report.{form}", render(content, form))


def render(content: Content, form: str) -> str:
    """The report in one format."""
    results, view = content.results, VIEWS[form](content.folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, TEMPLATES.parent]),
        undefined=Dash,
        finalize=view.finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "raw": Raw}
    sections = [_section(experiment, content) for experiment in results.experiments.values()]
    stated = [] if content.ledger is None else claims.sentences(content.ledger)
    markdown = environment.get_template("report.md.j2").render(
        results=results,
        code=view.code,
        link=view.link,
        folded=view.folded,
        side_by_side=view.side_by_side,
        table=lambda name, it=None: _table(name, it, content, view),
        figure=lambda part, it: _figure(part, it["experiment"], content.folder, view),
        missing=lambda it, *needs: _missing(it["experiment"].missing(needs), view),
        sections=sections,
        abstract=study.abstract(sections, content.study, stated),
        across=[name for one in results.experiments if (name := across(one)) in content.study],
        comparisons=study.comparisons(results, content.study),
        threats=threats.of_the_study(results, content.experiments),
        claims=stated,
        datasets={name: one.summary(name) for one in results.experiments.values() for name in one.datasets},
    )
    title = f"Frugal: the {results.name} study"
    if form == "md":
        return view.page(markdown, title, SUBTITLE, None)
    # The page itself is not Markdown: what it prints has been escaped for its format before.
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), keep_trailing_newline=True)
    return view.page(markdown, title, SUBTITLE, pages.get_template(f"page.{form}.j2"))


def _section(experiment: ExperimentResults, content: Content) -> dict[str, Any]:
    """What the templates know of one experiment, as `it`."""
    section, principal = experiment.section, experiment.principal
    loaded, original = content.experiments[experiment.name], originals.load(experiment.reproduces)
    return {
        "experiment": experiment,
        "name": experiment.name,
        "kind": experiment.kind.name,
        "title": experiment.title,
        "reproduces": experiment.reproduces,
        "original": original.FACTS if hasattr(original, "FACTS") else None,
        "parts": experiment.tables,
        "headline": section.headline(experiment, loaded),
        "findings": section.findings(experiment, loaded),
        "config": principal.config or {},
        "compute_dtype": principal.compute_dtype,
        "principal": principal.label,
        "software": software(experiment.runs),
        "threats": threats.of_experiment(experiment, loaded, content.random_models),
        **section.context(experiment, loaded),
        **(original.context(experiment, loaded) if hasattr(original, "context") else {}),
    }


def number(value: object, form: str = ",d") -> str:
    """A number as tables print it; a missing one as missing."""
    if value is None or isinstance(value, jinja2.Undefined) or value != value:
        return tables.MISSING
    return tables.format_value(value, form)


def _table(name: str, it: dict[str, Any] | None, content: Content, view: View) -> Raw:
    """A table of an experiment by its part, or one of the study's or the ledger's by its name."""
    results = content.results
    if it is not None:
        experiment = it["experiment"]
        table, path = content.experiments[experiment.name][name], f"{experiment.name}_{name}"
        needed = experiment.missing(table.layout.needs) if table else []
    elif name in content.claims:
        table, path, needed = content.claims[name], name, []
    else:
        table, path, needed = content.study[name], name, study.missing(name, results)
    if table is None:
        return view.missing(Missing(f"tables/{path}.csv", results.command("tables")))
    return view.table(table, needed)


def _figure(part: str, experiment: ExperimentResults, folder: Path, view: View) -> Raw:
    name = f"{experiment.name}_{part}"
    if not all((folder / "figures" / f"{name}.{extension}").exists() for extension in FIGURE_FORMATS):
        return view.missing(Missing(f"figures/{name}", experiment.study.command("figures")))
    drawing = experiment.section.DRAWINGS[part]
    return view.figure(name, drawing.caption, experiment.missing(drawing.needs))


def _missing(missing: list[Missing], view: View) -> Raw:
    return Raw("\n\n".join(view.missing(one) for one in missing))
