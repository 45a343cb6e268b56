"""Text from data prints as it is, in every format."""

import re
import string
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from frugal.report import escape
from frugal.report.tables import Column, Layout, Table, to_html, to_latex, to_markdown
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


def test_what_is_no_word_breaks_anywhere_where_the_line_is_short():
    assert escape.breakable("</script><b>x</b>", str, "|", longest=8) == "</script|><b>x</b|>"
    assert escape.breakable("(internationalisation) 12345", str, "|", longest=8) == "(internationalisation) 12345"


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


#: Letters of which titles and names of documents are made, and those that mean something somewhere.
LETTERS = "aZ5 \t\n\r\u00e9\u5f71\u0661\u202e\u200f\u200b\ufeff\U0001f3ac\x00\x07&%$#_{}~^\\<>\"'|*`[]()!=+-.,:;/@?"
TITLES = st.text(alphabet=LETTERS, min_size=1, max_size=40)


def one_cell(text: str, wraps: float | None = None) -> Table:
    """A table whose row is named by the text, and has it once more beside a number."""
    columns = (Column("name", "Name"), Column("text", "Text", wraps=wraps), Column("x", "X", ".1f"))
    return Table("t", Layout("Words.", columns), pd.DataFrame([{"name": text, "text": text, "x": 0.5}]))


class Texts(HTMLParser):
    """The texts of cells, and the elements inside them."""

    def __init__(self, text: str):
        super().__init__()
        self.cells, self.inside = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in ("td", "th"):
            self.cells.append("")
        elif self.cells:
            self.inside.append(tag)

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def shown_by_latex(source: str) -> str:
    """What a cell of LaTeX prints; a special letter that is not escaped is an error."""
    back = {shown: letter for letter, shown in escape.LATEX_SPECIAL.items() if letter not in "\u2014\u2013\u2212\u200b"}
    parts = re.split(
        "(" + "|".join(map(re.escape, sorted(back, key=len, reverse=True))) + r"|\\allowbreak\{\})", source
    )
    plain = [part for place, part in enumerate(parts) if place % 2 == 0]
    assert not set("".join(plain)) & set("\\{}$&#%_^~"), source
    return "".join(part if place % 2 == 0 else back.get(part, "") for place, part in enumerate(parts))


@settings(max_examples=300)
@given(TITLES)
@example("</script><td>")
@example("&lt;&amp;")
def test_any_title_is_text_in_a_table_of_the_page(title):
    page = Texts(to_html(one_cell(title, wraps=0.2), "Words").split("<tbody>")[1])
    line = escape.one_line(title)
    assert page.cells[0] == line
    assert page.cells[1].strip("\n") == line
    assert set(page.inside) <= {"wbr"}


@settings(max_examples=300)
@given(TITLES)
@example("\\")
@example("a & b \\\\ c % d")
def test_any_title_is_text_in_a_table_of_latex(title):
    row = to_latex(one_cell(title)).split("\\midrule\n")[1].split("\n\\bottomrule")[0]
    assert row.endswith(r" & 0.5 \\")
    assert "\n" not in row
    cell = row.removesuffix(r" & 0.5 \\")
    name = escape.latex(title)
    assert cell == f"{name} & {name}"
    assert shown_by_latex(name) == escape.latex_letters(title).replace("\u200b", "")


@settings(max_examples=15, deadline=None)
@given(TITLES)
@example("a|b")
@example("\\|")
def test_any_title_is_text_in_a_table_of_markdown(title):
    """Pandoc reads the pipe table as GitHub does."""
    import pypandoc

    table = to_markdown(one_cell(title))
    assert table.count("\n") == 3
    page = Texts(pypandoc.convert_text(table, "html5", format="gfm-tex_math_dollars-emoji-autolink_bare_uris"))
    assert [" ".join(cell.split()) for cell in page.cells[3:]] == [escape.one_line(title)] * 2 + ["0.5"]
    assert page.inside.count("a") == page.inside.count("code") == page.inside.count("img") == 0
