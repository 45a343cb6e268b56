"""The three faces of one Markdown text: how each format shows a table, a figure, and text from data.

The template is Markdown in all three cases. For HTML and LaTeX, pandoc turns its prose into the
format, and what Markdown cannot say passes through as raw blocks.
"""

import base64
import re
from pathlib import Path

import pypandoc

from frugal.report import escape
from frugal.report.results import Missing
from frugal.report.tables import Table, to_csv, to_html, to_markdown

#: CommonMark without HTML of its own: a tag in a film's title can only ever be text.
PANDOC_FORMAT = "commonmark-raw_html+raw_attribute+gfm_auto_identifiers"


class Raw(str):
    """Markdown that is meant as it is; any other value in the template is text and is escaped."""


class View:
    """Markdown itself; the other formats change what they must."""

    format = "md"

    def __init__(self, folder: Path):
        self.folder = folder
        self.counts = {"Table": 0, "Figure": 0}

    def finalize(self, value: object) -> str:
        """What an expression in the template becomes."""
        return value if isinstance(value, Raw) else self.text(value)

    def text(self, value: object) -> Raw:
        return Raw(escape.markdown(value))

    def code(self, value: object) -> Raw:
        """Text in the typewriter face."""
        text = escape.one_line(value)
        fence = "`" * (_longest_run(text, "`") + 1)
        pad = " " if text.startswith("`") or text.endswith("`") else ""
        return Raw(f"{fence}{pad}{text}{pad}{fence}")

    def link(self, text: object, address: str) -> Raw:
        return Raw(f"[{self.text(text)}](<{address}>)")

    def missing(self, missing: Missing) -> Raw:
        """The line that stands for a result that is not there."""
        return Raw(f"*missing: {self.text(missing.what)}; make it with* {self.code(missing.command)}")

    def table(self, table: Table, missing: list[Missing]) -> Raw:
        title = f"**{self.number('Table')}.** {self.text(table.layout.caption)}"
        return self._with_missing(f"{title}\n\n{to_markdown(table)}", missing)

    def figure(self, name: str, caption: str, missing: list[Missing]) -> Raw:
        title = f"**{self.number('Figure')}.** {self.text(caption)}"
        alternative = caption.split(",")[0].split(".")[0]
        return self._with_missing(f"![{self.text(alternative)}](figures/{name}.svg)\n\n{title}", missing)

    def folded(self, summary: str, block: str) -> Raw:
        """A block that only those see who ask for it, where the format can hide it."""
        return Raw(block)

    def side_by_side(self, passages: list[dict[str, str]]) -> Raw:
        """Passages of text (system, text) that are to be compared."""
        return Raw("\n".join(f"- **{self.text(one['system'])}:** {self.text(one['text'])}" for one in passages))

    def page(self, markdown: str, title: str, subtitle: str, template) -> str:
        """The finished document."""
        whole = f"# {self.text(title)}\n\n{self.text(subtitle)}\n\n{markdown}"
        return re.sub(r"\n{3,}", "\n\n", whole).rstrip() + "\n"

    def number(self, kind: str) -> str:
        """``Table 3`` for the third table of this document."""
        self.counts[kind] += 1
        return f"{kind} {self.counts[kind]}"

    def raw(self, text: str) -> Raw:
        """A block in the output format, whatever it contains."""
        fence = "`" * max(3, _longest_run(text, "`") + 1)
        name = {"tex": "latex"}.get(self.format, self.format)
        return Raw(f"{fence}{{={name}}}\n{text}\n{fence}")

    def _with_missing(self, block: str, missing: list[Missing]) -> Raw:
        return Raw("\n\n".join([block, *(self.missing(one) for one in missing)]))


class HtmlView(View):
    """One file that needs no other: figures inline, tables that sort, their CSV to take away."""

    format = "html"

    def missing(self, missing: Missing) -> Raw:
        what, command = escape.html(missing.what), escape.html(missing.command)
        return self.raw(f'<p class="missing"><b>missing:</b> {what}; make it with <code>{command}</code></p>')

    def table(self, table: Table, missing: list[Missing]) -> Raw:
        caption = f"<b>{self.number('Table')}.</b> {escape.html(table.layout.caption)}"
        data = base64.b64encode(to_csv(table).encode()).decode()
        csv = f'<p class="csv"><a download="{table.name}.csv" href="data:text/csv;base64,{data}">CSV</a></p>'
        return self._with_missing(self.raw(f"{to_html(table, caption)}\n{csv}"), missing)

    def figure(self, name: str, caption: str, missing: list[Missing]) -> Raw:
        svg = (self.folder / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        text = f"<b>{self.number('Figure')}.</b> {escape.html(caption)}"
        # The button is shown by the script that gives it something to do.
        button = f'<button type="button" class="enlarge" hidden aria-label="Enlarge figure {name}">Enlarge</button>'
        card = f'<div class="card">{inline_svg(svg, name, caption)}</div>\n<figcaption>{text} {button}</figcaption>'
        return self._with_missing(self.raw(f'<figure id="{name}">\n{card}\n</figure>'), missing)

    def folded(self, summary: str, block: str) -> Raw:
        opening = self.raw(f"<details><summary>{escape.html(summary)}</summary>")
        return Raw("\n\n".join([opening, block, self.raw("</details>")]))

    def side_by_side(self, passages: list[dict[str, str]]) -> Raw:
        """Beside each other where the screen is wide enough, else below each other."""
        cells = (f"<p><b>{escape.html(one['system'])}:</b> {escape.html(one['text'])}</p>" for one in passages)
        columns = "display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 0 2rem"
        return self.raw(f'<div style="{columns}">{"".join(cells)}</div>')

    def page(self, markdown: str, title: str, subtitle: str, template) -> str:
        body = to_format(markdown, "html5")
        sections = re.findall(r'<h2\s+id="([^"]+)">\s*(.*?)\s*</h2>', body, flags=re.DOTALL)
        return template.render(title=escape.html(title), subtitle=escape.html(subtitle), sections=sections, body=body)


class LatexView(View):
    """A document for pdfLaTeX: tables by \\input from tables/, figures from figures/."""

    format = "tex"

    def text(self, value: object) -> Raw:
        text = escape.markdown_line(escape.latex_letters(value))
        # Pandoc lets backticks through, and two of them are an opening quotation mark.
        return Raw(text.replace("\\`", "`\\textasciigrave{}`{=latex}"))

    def code(self, value: object) -> Raw:
        # Pandoc's \texttt never breaks, and a command or a path is often wider than what is left of a line.
        pieces = re.findall(r"[^/_.,=]{1,8}[/_.,=]*|[/_.,=]+", escape.one_line(value))
        text = r"\allowbreak{}".join(escape.latex(piece) for piece in pieces)
        return Raw(f"`\\texttt{{{text}}}`{{=latex}}")

    def table(self, table: Table, missing: list[Missing]) -> Raw:
        self.number("Table")
        if table.layout.long:
            size = r"\scriptsize\setlength{\tabcolsep}{3pt}\renewcommand{\arraystretch}{1.25}"
            return self._with_missing(self.raw(f"{{{size}\n\\input{{tables/{table.name}.tex}}}}"), missing)
        block = (
            "\\begin{table}[!htbp]\n\\centering\\small\n"
            f"\\caption{{{escape.latex(table.layout.caption)}}}\n\\label{{table:{table.name}}}\n"
            "\\begin{adjustbox}{max totalsize={\\linewidth}{0.85\\textheight}}\n"
            f"\\input{{tables/{table.name}.tex}}\\unskip\n\\end{{adjustbox}}\n\\end{{table}}"
        )
        return self._with_missing(self.raw(block), missing)

    def figure(self, name: str, caption: str, missing: list[Missing]) -> Raw:
        self.number("Figure")
        block = (
            f"\\begin{{figure}}[!htbp]\n\\centering\n\\includegraphics[width=0.84\\linewidth]{{figures/{name}.pdf}}\n"
            f"\\caption{{{escape.latex(caption)}}}\n\\label{{figure:{name}}}\n\\end{{figure}}"
        )
        return self._with_missing(self.raw(block), missing)

    def page(self, markdown: str, title: str, subtitle: str, template) -> str:
        body = to_format(markdown, "latex", "--shift-heading-level-by=-1")
        return template.render(title=escape.latex(title), subtitle=escape.latex(subtitle), body=body)


VIEWS: dict[str, type[View]] = {view.format: view for view in (View, HtmlView, LatexView)}


def to_format(markdown: str, form: str, *options: str) -> str:
    """The Markdown of a finished template in one of pandoc's formats."""
    return pypandoc.convert_text(markdown, form, format=PANDOC_FORMAT, extra_args=["--wrap=none", *options])


def inline_svg(svg: str, name: str, label: str) -> str:
    """An SVG file as an element of a page, its ids made its own by ``name``; ``label`` is read out."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    # A style element would hold for the whole page; matplotlib's says only how lines join.
    svg = re.sub(r"<style[^>]*>.*?</style>\s*", "", svg, flags=re.DOTALL)
    head = re.search(r'viewBox="[^"]+"', svg).group(0)
    label_attributes = f'role="img" aria-label="{escape.html(label)}" style="stroke-linejoin:round"'
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return re.sub(r"<svg[^>]*>", lambda _: f"<svg {spaces} {head} {label_attributes}>", svg, count=1).strip()


def _longest_run(text: str, letter: str) -> int:
    return max((len(run) for run in re.findall(rf"{re.escape(letter)}+", text)), default=0)
