"""One template, three documents: report.md, report.html and report.tex."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jinja2
import pandas as pd

from frugal.claims.ledger import write_ledger
from frugal.files import write_text
from frugal.report import claims, tables
from frugal.report.contents import (
    ACROSS,
    CLAIMS_FILE,
    FIGURES,
    LANGUAGE_MODELS,
    RECOMMENDERS,
    REPORT_FORMATS,
    TABLES,
)
from frugal.report.figures import FIGURE_FORMATS
from frugal.report.language_models import section as language_models
from frugal.report.movie_preference import section as movie_preference
from frugal.report.recommenders import section as recommenders
from frugal.report.results import Missing, Results
from frugal.report.study import section as study
from frugal.report.study import threats
from frugal.report.views import VIEWS, Raw, View
from frugal.report.wording import Tables

TEMPLATES = Path(__file__).parent / "templates"
#: experiment -> the module that knows its layouts, drawings and text
SECTIONS = {"movie_preference": movie_preference} | dict.fromkeys(RECOMMENDERS, recommenders)
SECTIONS |= dict.fromkeys(LANGUAGE_MODELS, language_models)
#: experiment -> what its templates can name, from results and tables
CONTEXTS = {"movie_preference": movie_preference.context}
CONTEXTS |= {experiment: partial(recommenders.context, experiment) for experiment in RECOMMENDERS}
CONTEXTS |= {experiment: partial(language_models.context, experiment) for experiment in LANGUAGE_MODELS}


class Dash(jinja2.ChainableUndefined):
    """A value that a result does not have prints as missing; it never ends the report."""

    def __str__(self) -> str:
        return tables.MISSING


@dataclass(frozen=True)
class Content:
    """What a report is made of.

    Attributes:
        experiments: experiment -> name -> table, of the experiments that the study has; None where it is not there.
        study: name -> table, of the study as a whole.
        stated: name -> table, of the claims ledger.
        notes: what the configuration says of the study's validity.
        random_models: base models whose weights are random.
    """

    results: Results
    folder: Path
    experiments: dict[str, Tables]
    study: Tables
    stated: Tables
    notes: Collection[str] = ()
    random_models: Collection[str] = ()


def write_report(
    results: Results,
    folder: Path,
    ledger: pd.DataFrame,
    notes: Collection[str] = (),
    random_models: Collection[str] = (),
) -> None:
    """Write report.md, .html and .tex into ``folder``, which holds tables/ and figures/; the ledger's tables too.

    Args:
        ledger: one row a claim, as `frugal.claims.ledger.make_ledger` gives it.
        notes, random_models: see `Content`.

    Raises:
        FrugalError: a result file or a table is there and cannot be read.
    """
    experiments = {
        experiment: {name: tables.load(name, SECTIONS[experiment].LAYOUTS[name], folder / "tables") for name in names}
        for experiment, names in TABLES.items()
        if results.of(experiment)
    }
    whole = {name: tables.load(name, study.LAYOUTS[name], folder / "tables") for name in study.table_names(results)}
    stated = claims.build(ledger)
    for table in stated.values():
        tables.save(table, folder / "tables", [])
    write_ledger(ledger, folder / "tables" / CLAIMS_FILE)
    content = Content(results, folder, experiments, whole, stated, notes, random_models)
    for form in REPORT_FORMATS:
        write_text(folder / f"report.{form}", render(content, form))


def render(content: Content, form: str) -> str:
    """The report in one format."""
    results, folder, loaded = content.results, content.folder, content.experiments
    view = VIEWS[form](folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=Dash,
        finalize=view.finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "raw": Raw}
    sections = [CONTEXTS[experiment](results, loaded[experiment]) for experiment in loaded]
    stated = claims.sentences(content.stated["claims"].frame)
    markdown = environment.get_template("report.md.j2").render(
        study=results.study,
        format=form,
        results=results,
        code=view.code,
        link=view.link,
        side_by_side=view.side_by_side,
        table=lambda name: _table(name, content, view),
        figure=lambda name: _figure(name, content, view),
        missing=lambda experiment, *needs: _missing(results.missing(experiment, needs), view),
        sections=sections,
        abstract=study.abstract(results, sections, content.study, stated),
        across=[name for name in content.study if name in ACROSS.values()],
        comparisons=study.comparisons(results, content.study),
        threats=threats.of_the_study(results, loaded, content.notes),
        threats_of=lambda it: threats.of_experiment(results, it["name"], loaded[it["name"]], content.random_models),
        claims=stated,
        datasets={name: results.summary(name) for experiment in loaded for name in results.datasets(experiment)},
    )
    title = f"Frugal: the {results.study} study"
    if form == "md":
        return view.page(markdown, title, SUBTITLE, None)
    # The page itself is not Markdown: what it prints has been escaped for its format before.
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), keep_trailing_newline=True)
    template = pages.get_template(f"page.{form}.j2")
    return view.page(markdown, title, SUBTITLE, template)


SUBTITLE = "Training Transformers on limited hardware: results, and what they rest on."


def number(value: object, form: str = ",d") -> str:
    """A number as tables print it; a missing one as missing."""
    if value is None or isinstance(value, jinja2.Undefined) or value != value:
        return tables.MISSING
    return tables.format_value(value, form)


def _table(name: str, content: Content, view: View) -> Raw:
    results = content.results
    groups = content.experiments | {"study": content.study, "claims": content.stated}
    group, table = next((group, tables[name]) for group, tables in groups.items() if name in tables)
    if table is None:
        return view.missing(Missing(f"tables/{name}.csv", results.command("tables")))
    if group == "claims":
        return view.table(table, [])
    if group == "study":
        return view.table(table, study.missing(name, results))
    return view.table(table, results.missing(group, table.layout.needs))


def _figure(name: str, content: Content, view: View) -> Raw:
    results = content.results
    if not all((content.folder / "figures" / f"{name}.{extension}").exists() for extension in FIGURE_FORMATS):
        return view.missing(Missing(f"figures/{name}", results.command("figures")))
    experiment = next(one for one, names in FIGURES.items() if name in names)
    drawing = SECTIONS[experiment].DRAWINGS[name]
    return view.figure(name, drawing.caption, results.missing(experiment, drawing.needs))


def _missing(missing: list[Missing], view: View) -> Raw:
    return Raw("\n\n".join(view.missing(one) for one in missing))
