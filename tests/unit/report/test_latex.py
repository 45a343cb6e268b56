"""The report as PDF: the same bytes, no overfull box, and errors that say what is wrong."""

import shutil

import pytest
from pypdf import PdfReader

from frugal.errors import FrugalError
from frugal.report import latex

needs_latex = pytest.mark.skipif(
    not latex.can_compile(), reason="LaTeX with latexmk and the report's packages is not installed"
)


@pytest.fixture(scope="module")
def compiled(written, tmp_path_factory):
    """The report's PDF, and how many boxes are wider than the page."""
    path = tmp_path_factory.mktemp("pdf") / "report.pdf"
    return path, latex.compile_report(written, path)


@needs_latex
def test_no_table_is_wider_than_the_page(compiled):
    path, wide = compiled
    assert wide == 0
    text = "\n".join(page.extract_text() for page in PdfReader(path).pages)
    assert "Threats to validity" in text
    assert "</script><b>x</b> $%&_#{}~" in text.replace("\n", "")


@needs_latex
def test_the_same_report_gives_the_same_bytes_anywhere(written, compiled, tmp_path):
    shutil.copytree(written, tmp_path / "another folder")
    latex.compile_report(tmp_path / "another folder", tmp_path / "again.pdf")
    assert (tmp_path / "again.pdf").read_bytes() == compiled[0].read_bytes()


@needs_latex
def test_nothing_is_left_behind(written, compiled):
    assert {path.name for path in written.iterdir()} == {"report.md", "report.html", "report.tex", "tables", "figures"}


@needs_latex
def test_an_error_is_told_with_its_lines(tmp_path):
    (tmp_path / "report.tex").write_text("\\documentclass{article}\\begin{document}\\undefined\\end{document}")
    with pytest.raises(FrugalError, match=r"(?s)report\.tex: LaTeX cannot compile it:\n! Undefined control sequence"):
        latex.compile_report(tmp_path, tmp_path / "report.pdf")
    assert not (tmp_path / "report.pdf").exists()


def test_without_latexmk_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not latex.can_compile()
    with pytest.raises(FrugalError, match="latexmk is not installed"):
        latex.compile_report(tmp_path, tmp_path / "report.pdf")


def test_a_package_that_is_not_there_is_known_before(tmp_path, monkeypatch):
    for name, code in (("latexmk", 0), ("kpsewhich", 1)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not latex.can_compile()
    assert {"adjustbox.sty", "booktabs.sty", "fontenc.sty"} <= set(latex.style_files())


def test_the_first_error_is_what_is_shown():
    log = "\n".join(["This is TeX", "! Undefined control sequence.", "l.3 \\x", *map(str, range(50))])
    assert latex.first_errors(log).splitlines()[0] == "! Undefined control sequence."
    assert len(latex.first_errors(log).splitlines()) == latex.SHOWN
    assert latex.first_errors("a\nb") == "a\nb"
