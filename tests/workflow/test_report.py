"""The smoke study's report: each number traced to its file, as PDF, and beside another study."""

import importlib
import os
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from pypdf import PdfReader

from frugal.report.latex import can_compile
from frugal.report.results import Results

sys.path.insert(0, str(Path(__file__).parents[1]))
trace = importlib.import_module("tracing.trace")
studies = importlib.import_module("tracing.study")
pytestmark = pytest.mark.workflow
needs_latex = pytest.mark.skipif(not can_compile(), reason="LaTeX with latexmk and the report's packages is not there")


def test_every_table_number_comes_from_a_result_file(smoke):
    faults, number = trace.faults(
        smoke.folder / "results/smoke/report",
        studies.Study(smoke.folder / "results/smoke", smoke.folder / "data"),
    )
    assert faults == []
    assert number > 2000


def test_every_format_shows_these_numbers(smoke):
    headings = trace.headings(Results.read(smoke.folder / "results/smoke/study.yaml", smoke.folder / "data"))
    faults, number = trace.shown_faults(smoke.folder / "results/smoke/report", headings)
    assert faults == []
    assert number > 1500


def test_random_weights_are_a_threat_that_is_told(smoke):
    text = (smoke.folder / "results/smoke/report/report.md").read_text()
    assert text.count("tiny-random-llama has random weights") == 3
    assert "make it with" not in text  # as it says of what is missing


@needs_latex
def test_the_report_is_there_as_pdf(smoke):
    report = PdfReader(smoke.folder / "results/smoke/report/report.pdf")
    text = "\n".join(page.extract_text() for page in report.pages)
    for title in ("Abstract", "Movie preference", "Efficiency", "Claims ledger", "Threats to validity", "Provenance"):
        assert title in text
    assert "wider than the page" not in (smoke.folder / "logs/smoke/compile_report.log").read_text()
    assert {path.name for path in (smoke.folder / "results/smoke/report").iterdir()} == {
        "report.md", "report.html", "report.tex", "report.pdf", "tables", "figures",
    }  # fmt: skip


def test_without_latex_nothing_else_runs_again(smoke, tmp_path, monkeypatch):
    program = tmp_path / "kpsewhich"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert smoke.plan("config/smoke.yaml") == {}


def test_another_machine_stands_beside_this_one(smoke):
    """The commands that Snakemake would run, run on a copy of the report, so that the study stays as it is."""
    source, other = smoke.folder / "results/smoke/climate", smoke.folder / "elsewhere/climate"
    for run in ("base", "tuned"):
        shutil.copytree(source / run, other / run)
    report = smoke.folder / "results/smoke/beside"
    shutil.copytree(smoke.folder / "results/smoke/report", report)
    threat = "Its 'settings' were chosen in a test; 100 % {of} $them."

    keys = {"compare": {"a server": str(smoke.folder / "elsewhere")}, "threats": [threat]}
    config = smoke.folder / "config/smoke.yaml"
    original = config.read_text()
    try:
        options = ("-n", "--printshellcmds")
        plan = smoke.snakemake(*options, "--configfile", smoke.study("smoke", report=keys))
    finally:
        config.write_text(original)
    text = plan.stdout + plan.stderr
    planned = set(re.findall(r"^(?:local)?rule (\w+):", text, re.MULTILINE)) - {"tables", "report", "all"}
    planned -= {"compile_report"}
    assert planned == {"describe_study", "make_tables", "plot_figures", "write_report"}
    for script in ("write_study", "make_tables", "write_report"):
        command = next(line for line in text.splitlines() if f"python workflow/scripts/{script}.py" in line)
        command = command.removeprefix("Shell command: ").partition(" 2>&1")[0]
        smoke.run("bash", "-c", command.replace("smoke/report", "smoke/beside").replace("study.yaml", "beside.yaml"))
    rows = pd.read_csv(report / "tables/across_climate.csv")
    assert rows["study"].tolist() == ["smoke", "a server"] * 2
    assert rows["settings"].dropna().tolist() == ["the same"] * 2
    text = (report / "report.md").read_text()
    assert "Language model on climate documents, tuned, a server against smoke: 1 times the speed in training" in text
    assert "- Its 'settings' were chosen in a test; 100 % {of} $them." in text.replace("\\", "")
    study = studies.Study(smoke.folder / "results/smoke", smoke.folder / "data", file="beside.yaml")
    assert trace.faults(report, study)[0] == []


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", "report.compare.other: nowhere: there is no such folder"),
        ("config", "report.compare.other: config: holds no results"),
    ],
)
def test_a_folder_that_cannot_be_compared_is_named(smoke, folder, message):
    study = smoke.study("compared", report={"compare": {"other": folder}})
    result = smoke.snakemake("-n", "--configfile", study, check=False)
    assert result.returncode
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
