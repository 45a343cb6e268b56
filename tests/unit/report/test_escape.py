"""Text from data prints as it is, in every format."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.report import escape
from frugal.report.views import VIEWS, Raw, inline_svg, to_format


def shown_by_pandoc(markdown: str) -> str:
    """What a reader sees."""
    return " ".join(to_format(f"x {markdown} x", "plain").split())


@pytest.mark.parametrize(
    "text",
    [
        "</script><script>alert(1)</script>",
        "a|b *c* _d_ `e` ``f`` [g](h) ![i](j) <k@l.m> &amp; #n ~~o~~ ^p^ {=html} $q$ \\r \\",
        "1. one",
        "- two",
        "# three",
        "> four",
        "'quotes' \"double\" -- --- ...",
    ],
)
def test_markdown_means_nothing(text):
    assert shown_by_pandoc(escape.markdown(text)) == f"x {' '.join(text.split())} x"
    alone = to_format(escape.markdown(text), "html5").strip()
    assert alone.startswith("<p>")
    assert alone.count("<") == 2


@settings(max_examples=15, deadline=None, database=None)
@given(st.text(alphabet=string.printable, min_size=1, max_size=60))
def test_any_text_survives_markdown(text):
    line = escape.one_line(text)
    assert shown_by_pandoc(escape.markdown(text)) == " ".join(f"x {line} x".split())


def test_one_line_has_no_control_or_direction_characters():
    assert escape.one_line("a\n\n b\t\x07\u202e") == "a b \ufffd\ufffd"


def test_latex_escapes_every_special():
    shown = escape.latex("\\{}$&#%_^~<>|\"'`--")
    assert shown == (
        "\\textbackslash{}\\{\\}\\$\\&\\#\\%\\_\\textasciicircum{}\\textasciitilde{}\\textless{}"
        "\\textgreater{}\\textbar{}\\textquotedbl{}\\textquotesingle{}\\textasciigrave{}-{}-{}"
    )
    assert escape.latex("\u5f71 \u00e9") == "\u25a1 \u00e9"
    assert escape.latex("x" * 30) == "x" * 24 + "\\allowbreak{}" + "x" * 6


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-- /tmp/a_b.c/d.json: metrics.x", "-- /tmp/|a_|b.|c/|d.json: metrics.|x"),
        ("0.05 of 1/2, e.g. 3", "0.05 of 1/|2, e.g. 3"),
        ("<b>/<i>", "&lt;b&gt;/&lt;i&gt;"),
    ],
)
def test_paths_and_names_may_break_after_their_separators(text, shown):
    assert escape.breakable(text, escape.html, "|") == shown


@pytest.mark.parametrize("form", VIEWS)
def test_values_in_a_template_are_escaped_and_raw_ones_are_not(form, tmp_path):
    view = VIEWS[form](tmp_path)
    assert view.finalize("*a*") == "\\*a\\*"
    assert view.finalize(Raw("*a*")) == "*a*"
    assert "\\`" not in view.code("a `b` c")


def test_raw_blocks_cannot_be_closed_from_inside(tmp_path):
    block = VIEWS["html"](tmp_path).raw("<p>````\n```</p>")
    assert to_format(block, "html5").strip() == "<p>````\n```</p>"


def test_ids_of_a_figure_are_its_own():
    svg = (
        '<?xml version="1.0"?><!DOCTYPE svg><svg height="1pt" viewBox="0 0 1 1"><metadata>http://x</metadata>'
        '<path id="a"/><use xlink:href="#a" clip-path="url(#b)"/></svg>'
    )
    shown = inline_svg(svg, "loss", "Loss & steps")
    assert '<path id="loss-a"/><use xlink:href="#loss-a" clip-path="url(#loss-b)"/>' in shown
    assert 'aria-label="Loss &amp; steps"' in shown
    assert "metadata" not in shown
    assert "DOCTYPE" not in shown
