"""One template, three documents: report.md, report.html and report.tex."""

from functools import partial
from pathlib import Path

import jinja2
import pandas as pd

from frugal.claims.ledger import write_ledger
from frugal.files import write_text
from frugal.report import claims, tables
from frugal.report.contents import CLAIMS_FILE, FIGURES, LANGUAGE_MODELS, RECOMMENDERS, REPORT_FORMATS, TABLES
from frugal.report.figures import FIGURE_FORMATS
from frugal.report.language_models import section as language_models
from frugal.report.movie_preference import section as movie_preference
from frugal.report.recommenders import section as recommenders
from frugal.report.results import Missing, Results
from frugal.report.views import VIEWS, Raw, View

TEMPLATES = Path(__file__).parent / "templates"
#: experiment -> the module that knows its layouts, drawings and text
SECTIONS = {"movie_preference": movie_preference} | dict.fromkeys(RECOMMENDERS, recommenders)
SECTIONS |= dict.fromkeys(LANGUAGE_MODELS, language_models)
#: experiment -> what its templates can name, from results and tables
CONTEXTS = {"movie_preference": movie_preference.context}
CONTEXTS |= {experiment: partial(recommenders.context, experiment) for experiment in RECOMMENDERS}
CONTEXTS |= {experiment: partial(language_models.context, experiment) for experiment in LANGUAGE_MODELS}
Loaded = dict[str, dict[str, tables.Table | None]]


class Dash(jinja2.ChainableUndefined):
    """A value that a result does not have prints as missing; it never ends the report."""

    def __str__(self) -> str:
        return tables.MISSING


def write_report(results: Results, folder: Path, ledger: pd.DataFrame) -> None:
    """Write report.md, .html and .tex into ``folder``, which holds tables/ and figures/; the ledger's tables too.

    Args:
        ledger: one row a claim, as `frugal.claims.ledger.make_ledger` gives it.

    Raises:
        FrugalError: a result file or a table is there and cannot be read.
    """
    loaded = {
        experiment: {name: tables.load(name, SECTIONS[experiment].LAYOUTS[name], folder / "tables") for name in names}
        for experiment, names in TABLES.items()
        if results.of(experiment)
    }
    stated = claims.build(ledger)
    for table in stated.values():
        tables.save(table, folder / "tables", [])
    write_ledger(ledger, folder / "tables" / CLAIMS_FILE)
    for form in REPORT_FORMATS:
        write_text(folder / f"report.{form}", render(results, loaded, stated, folder, form))


def render(results: Results, loaded: Loaded, stated: dict[str, tables.Table], folder: Path, form: str) -> str:
    """The report in one format.

    Args:
        loaded: experiment -> name -> table, of the experiments that the study has.
        stated: the tables of the claims ledger.
    """
    shown = loaded | {"claims": stated}
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
    markdown = environment.get_template("report.md.j2").render(
        study=results.study,
        format=form,
        results=results,
        code=view.code,
        link=view.link,
        side_by_side=view.side_by_side,
        table=lambda name: _table(name, results, shown, view),
        figure=lambda name: _figure(name, results, folder, view),
        missing=lambda experiment, *needs: _missing(results.missing(experiment, needs), view),
        sections=[CONTEXTS[experiment](results, loaded[experiment]) for experiment in loaded],
        claims=claims.sentences(stated["claims"].frame),
        datasets={name: results.summary(name) for experiment in loaded for name in results.datasets(experiment)},
    )
    if form == "md":
        return view.page(markdown, f"Frugal: the {results.study} study", SUBTITLE, None)
    # The page itself is not Markdown: what it prints has been escaped for its format before.
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), keep_trailing_newline=True)
    template = pages.get_template(f"page.{form}.j2")
    return view.page(markdown, f"Frugal: the {results.study} study", SUBTITLE, template)


SUBTITLE = "Training Transformers on limited hardware: results, and what they rest on."


def number(value: object, form: str = ",d") -> str:
    """A number as tables print it; a missing one as missing."""
    if value is None or isinstance(value, jinja2.Undefined) or value != value:
        return tables.MISSING
    return tables.format_value(value, form)


def _table(name: str, results: Results, loaded: Loaded, view: View) -> Raw:
    experiment = next(one for one, names in loaded.items() if name in names)
    table = loaded[experiment][name]
    if table is None:
        return view.missing(Missing(f"tables/{name}.csv", results.command("tables")))
    return view.table(table, results.missing(experiment, table.layout.needs))


def _figure(name: str, results: Results, folder: Path, view: View) -> Raw:
    if not all((folder / "figures" / f"{name}.{extension}").exists() for extension in FIGURE_FORMATS):
        return view.missing(Missing(f"figures/{name}", results.command("figures")))
    experiment = next(one for one, names in FIGURES.items() if name in names)
    drawing = SECTIONS[experiment].DRAWINGS[name]
    return view.figure(name, drawing.caption, results.missing(experiment, drawing.needs))


def _missing(missing: list[Missing], view: View) -> Raw:
    return Raw("\n\n".join(view.missing(one) for one in missing))
