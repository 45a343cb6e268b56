"""The whole report: complete, without results, with hostile text, and the same twice."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from frugal.errors import FrugalError
from frugal.report.contents import (
    ACROSS,
    CLAIMS_FILE,
    CLAIMS_TABLES,
    FIGURE_FORMATS,
    FIGURES,
    REPORT_FORMATS,
    STUDY_TABLES,
    TABLE_FORMATS,
    TABLES,
)
from frugal.report.figures import style
from frugal.report.movie_preference.figures import DRAWINGS
from frugal.report.results import Results

#: The made-up study has results of these two experiments on another machine.
ALL_TABLES = [*(name for names in TABLES.values() for name in names), *STUDY_TABLES, *CLAIMS_TABLES]
ALL_TABLES += [ACROSS["ssept"], ACROSS["wikitext"]]
SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"
VOID = {"meta", "link", "br", "wbr", "hr", "img", "input"}


class Page(HTMLParser):
    """Collects what the tests ask about, and that every element is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.elements, self.references, self.text = [], [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.references += [(tag, k, v) for k, v in attributes.items() if k in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and "script" not in self.open:
            self.text += data


def run(script: str, *arguments: str) -> None:
    finished = subprocess.run(
        [sys.executable, SCRIPTS / script, *arguments], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_listed_file_is_written(written):
    expected = {f"report.{form}" for form in REPORT_FORMATS}
    expected |= {f"tables/{name}.{form}" for name in ALL_TABLES for form in TABLE_FORMATS} | {f"tables/{CLAIMS_FILE}"}
    expected |= {f"figures/{f}.{form}" for names in FIGURES.values() for f in names for form in FIGURE_FORMATS}
    assert set(files(written)) == expected
    assert set(DRAWINGS) == set(FIGURES["movie_preference"])


def test_same_results_give_the_same_bytes(study, written, synthetic, tmp_path):
    again, shared = tmp_path / "again", synthetic.options(study)
    run("make_tables.py", *shared, "--output", str(again / "tables"))
    run("plot_figures.py", *shared, "--output", str(again / "figures"))
    run("write_report.py", *shared, "--report", str(again))
    first, second = files(written), files(again)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_a_complete_report_misses_nothing(written):
    text = (written / "report.md").read_text()
    assert "missing" not in text.split("## Provenance")[0]
    assert "\u2014" not in text
    assert "41,943,040" in text
    assert "no difference found" in text
    assert "which cannot be told from guessing" in text
    assert f"SHA-256 `{'c' * 64}`" in text


@pytest.mark.parametrize("form", REPORT_FORMATS)
def test_all_tables_and_figures_are_in_every_format(written, form):
    text = (written / f"report.{form}").read_text()
    for name in (figure for names in FIGURES.values() for figure in names):
        assert name in text
    captions = {"md": r"\*\*Table \d+\.\*\*", "html": r"<b>Table \d+\.</b>", "tex": r"\\input\{tables/"}
    assert len(re.findall(captions[form], text)) == len(ALL_TABLES)


def test_html_is_one_well_formed_file_without_references(written):
    page = Page((written / "report.html").read_text())
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.elements.count("script") == 1
    assert "link" not in page.elements
    assert "img" not in page.elements
    outside = [r for r in page.references if not r[2].startswith(("#", "data:text/csv;base64,"))]
    assert all(tag == "a" and key == "href" and value.startswith("https://") for tag, key, value in outside)
    inside = [value[1:] for _, _, value in page.references if value.startswith("#")]
    assert set(inside) <= set(page.ids)


def test_hostile_text_is_only_text(written, synthetic):
    line = " ".join(synthetic.hostile.split())[:-2]
    page = Page((written / "report.html").read_text())
    assert line in " ".join(page.text.split())
    assert "b" in page.elements  # table numbers; the answer's own tag is not among them
    assert "<b>x</b>" not in (written / "report.html").read_text()
    assert "Not a heading" not in [
        heading.strip() for heading in re.findall(r"^#+ (.*)$", (written / "report.md").read_text(), re.M)
    ]
    latex = (written / "report.tex").read_text()
    assert "\\#\\# Not a heading" in latex
    assert "\\$\\%\\&\\_\\#\\{\\}" in latex


def test_without_any_result_everything_is_missing_and_nothing_fails(synthetic, tmp_path):
    synthetic.write(tmp_path, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| tuned | \u2014 | \u2014 |" in text
    assert "make it with* `snakemake movie_preference`" in text
    assert "What training costs: missing." in text
    assert Page((tmp_path / "report" / "report.html").read_text()).open == []


def test_one_missing_run_is_a_row_of_dashes_and_a_command(study, synthetic, tmp_path):
    shutil.copytree(study / "results", tmp_path / "results", ignore=shutil.ignore_patterns("report"))
    shutil.copytree(study / "data", tmp_path / "data")
    lost = tmp_path / "results" / "trial" / "movie_preference" / "always_a"
    (lost / "metrics.json").unlink()
    shared = synthetic.options(tmp_path)
    run("make_tables.py", *shared, "--output", str(tmp_path / "report" / "tables"))
    table = (tmp_path / "report" / "tables" / "movie_preference_accuracy.md").read_text()
    assert "| always\\_a | \u2014 | \u2014 | \u2014 | \u2014 | \u2014 |" in table
    assert f"make it with `snakemake {lost}/metrics.json`" in table
    run("write_report.py", *shared, "--report", str(tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    assert "The shortcut of the always-A data: missing." in text
    assert "missing: figures/movie\\_preference\\_loss; make it with* `snakemake figures`" in text


def test_a_broken_file_is_named(tmp_path):
    folder = tmp_path / "movie_preference" / "base"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text('{"metrics": ')
    run_of = Results(tmp_path, "trial", ["movie_preference/base"]).runs[0]
    with pytest.raises(FrugalError, match=r"base/metrics\.json: cannot be read .*delete it and run `snakemake"):
        _ = run_of.metrics
    with pytest.raises(FrugalError, match="'base' must be experiment/name"):
        Results(tmp_path, "trial", ["base"])


def test_commands_name_the_configuration(tmp_path):
    results = Results(tmp_path, "smoke", ["movie_preference/base"], configfile="config/smoke.yaml")
    command = results.missing("movie_preference", ["metrics.json"])[0].command
    assert command == f"snakemake --configfile config/smoke.yaml -- {tmp_path}/movie_preference/base/metrics.json"


def test_figures_draw_what_is_there(study, synthetic):
    results = Results(study / "results" / "trial", "trial", synthetic.runs, study / "data")
    with style():
        figure = DRAWINGS["movie_preference_accuracy"].draw(results)
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert names[-4:] == ["untuned model", "tuned", "always_a", "next_film"]
        panels = DRAWINGS["movie_preference_position_bias"].draw(results).axes
        assert [panel.get_title() for panel in panels] == ["untuned model", "tuned", "always_a"]
        loss = DRAWINGS["movie_preference_loss"].draw(results).axes[0]
        assert loss.get_xlabel() == "optimiser step"
        assert loss.get_ylabel() == "training loss (nats per token)"
