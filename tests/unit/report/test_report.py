"""The whole report: complete, without results, with hostile text, and the same twice."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic import HOSTILE
from synthetic.study import options, results_of, write_report_of

from frugal.errors import FrugalError
from frugal.report.contents import (
    CLAIMS_FILE,
    CLAIMS_TABLES,
    FIGURE_FORMATS,
    REPORT_FORMATS,
    STUDY_TABLES,
    TABLE_FORMATS,
)
from frugal.report.figures import style
from frugal.report.results import Results

ENTRIES = results_of(Path("nothing")).described["experiments"]
FIGURES = [f"{name}_{part}" for name, entry in ENTRIES.items() for part in entry["figures"]]
ALL_TABLES = [f"{name}_{part}" for name, entry in ENTRIES.items() for part in entry["tables"]]
ALL_TABLES += [*STUDY_TABLES, *CLAIMS_TABLES]
#: The synthetic study has results of these two experiments on another machine.
ALL_TABLES += ["across_ssept", "across_wikitext"]
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
    expected |= {f"figures/{name}.{form}" for name in FIGURES for form in FIGURE_FORMATS}
    assert set(files(written)) == expected


def test_same_results_give_the_same_bytes(results, written, tmp_path):
    again, shared = tmp_path / "again", options(results)
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
    assert "which does not differ significantly from guessing" in text
    assert f"SHA-256 `{'c' * 64}`" in text


@pytest.mark.parametrize("form", REPORT_FORMATS)
def test_all_tables_and_figures_are_in_every_format(written, form):
    text = (written / f"report.{form}").read_text()
    for name in FIGURES:
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


def test_hostile_text_is_only_text(written):
    line = " ".join(HOSTILE.split())[:-2]
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


def test_without_any_result_everything_is_missing_and_nothing_fails(empty, tmp_path):
    report = write_report_of(empty, tmp_path / "report")
    text = (report / "report.md").read_text()
    assert "| tuned | \u2014 | \u2014 |" in text
    assert "make it with* `snakemake movie_preference`" in text
    assert "What training costs: missing." in text
    assert Page((report / "report.html").read_text()).open == []


def test_one_missing_run_is_a_row_of_dashes_and_a_command(copy, tmp_path):
    lost = copy.root / "movie_preference" / "always_a"
    (lost / "metrics.json").unlink()
    shared, report = options(copy), tmp_path / "report"
    run("make_tables.py", *shared, "--output", str(report / "tables"))
    table = (report / "tables" / "movie_preference_accuracy.md").read_text()
    assert "| always\\_a | \u2014 | \u2014 | \u2014 | \u2014 | \u2014 |" in table
    assert f"make it with `snakemake {lost}/metrics.json`" in table
    run("write_report.py", *shared, "--report", str(report))
    text = (report / "report.md").read_text()
    assert "The shortcut of the always-A data: missing." in text
    assert "missing: figures/movie\\_preference\\_loss; make it with* `snakemake figures`" in text


def test_an_experiment_that_failed_is_shown_as_missing_beside_the_others(copy, tmp_path):
    shutil.rmtree(copy.root / "bert4rec")
    text = (write_report_of(copy, tmp_path / "report") / "report.md").read_text()
    assert "## BERT4Rec" in text
    assert "How well the principal model ranks is missing." in text
    assert "make it with* `snakemake bert4rec`" in text
    assert "**SSE-PT.** ssept has an NDCG@10 of 0." in text
    assert "The study is not complete: of 33 results, 12 are missing" in text


def test_a_broken_file_is_named(empty):
    folder = empty.root / "movie_preference" / "base"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text('{"metrics": ')
    with pytest.raises(FrugalError, match=r"base/metrics\.json: cannot be read .*delete it and run `snakemake"):
        _ = empty.experiments["movie_preference"].find("base").metrics


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"study\.yaml: there is no such file; run `snakemake"),
        ("study: trial", r"study\.yaml: does not describe a study \('experiments'\); delete it and run `snakemake"),
        ("study: trial\nexperiments: {a: {kind: dancing}}", r"study\.yaml: does not describe a study \('dancing'\)"),
        ("study: [", r"study\.yaml: line 1: not valid YAML"),
    ],
)
def test_a_broken_description_of_the_study_is_named(tmp_path, content, message):
    path = tmp_path / "study.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FrugalError, match=message):
        Results.read(path)


def test_commands_name_the_configuration(empty):
    named = Results(empty.root, empty.described | {"options": "--configfile config/smoke.yaml"}, empty.data)
    (missing,) = named.experiments["movie_preference"].missing(["base/metrics.json"])
    path = empty.root / "movie_preference/base/metrics.json"
    assert missing.command == f"snakemake --configfile config/smoke.yaml -- {path}"


def test_figures_draw_what_is_there(results):
    experiment = results.experiments["movie_preference"]
    drawings = experiment.section.DRAWINGS
    with style():
        figure = drawings["accuracy"].draw(experiment)
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert names[-4:] == ["untuned model", "tuned", "always_a", "next_film"]
        panels = drawings["position_bias"].draw(experiment).axes
        assert [panel.get_title() for panel in panels] == ["untuned model", "tuned", "always_a"]
        loss = drawings["loss"].draw(experiment).axes[0]
        assert loss.get_xlabel() == "optimiser step"  # its histories count no tokens
        assert loss.get_ylabel() == "loss (nats per token)"
        assert len(loss.get_lines()) == 3


def test_a_type_that_was_left_to_the_device_is_named_as_what_it_was(written):
    report = (written / "report.md").read_text(encoding="utf-8")
    assert "computing in float32" in report
    assert re.search(r"with learning rate [0-9.]+ in float32", report)
    assert "in auto" not in report
