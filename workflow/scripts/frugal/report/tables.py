"""Tables: raw numbers in a CSV file, and what people read made from it in Markdown, LaTeX and HTML.

A cell without a value is empty where it does not apply. A row without any value is a result that
is missing: its cells are em dashes.
"""

import io
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pandas as pd

from frugal.errors import FrugalError, first_line
from frugal.files import write_text
from frugal.report import escape
from frugal.report.results import Missing

MISSING = "\u2014"  # an em dash
MINUS = "\u2212"  # as wide as a plus
#: A row of more letters than this does not fit on a line of a page: intervals then go below their values.
WIDEST_ROW = 100
#: A table of one row with more columns than this stands upright.
MOST_OF_ONE_ROW = 6
#: The share of a page's width for the values of such a table where there are sentences among them.
UPRIGHT_SHARE = 0.6
#: How many wide letters fit on a line of a page, in the size of tables.
LETTERS_OF_A_LINE = 70


@dataclass(frozen=True)
class Column:
    """One column as it is shown.

    Args:
        name: its column in the CSV file; ``interval`` takes `<name>_lower` and `<name>_upper` too,
            ``spread`` takes `<name>_std`.
        form: "text", "p", "any" for numbers of many kinds (whole ones whole, others with six digits),
            or a format specification; one that ends in % drops the sign, which belongs into the label.
        best: which end of the column is highlighted.
        optional: left out where no row has a value.
        varying: left out where all rows have the same value.
        wraps: for sentences, which take several lines: the column's share of a page's width.
    """

    name: str
    label: str
    form: str = "text"
    interval: bool = False
    spread: bool = False
    best: Literal["max", "min"] | None = None
    optional: bool = False
    varying: bool = False
    wraps: float | None = None


@dataclass(frozen=True)
class Layout:
    """How a table is shown.

    Args:
        caption: one sentence or two, for all formats.
        needs: the result files it is made of, as `Results.missing` takes them.
        keys: the first columns, which name the row; they do not count as values.
        group: the CSV column whose change separates groups of rows.
        contest: the CSV columns that rows must share for their values to compete for the best.
        long: whether it may be longer than a page.
    """

    caption: str
    columns: tuple[Column, ...]
    needs: tuple[str, ...] = ("metrics.json",)
    keys: int = 1
    group: str | None = None
    contest: tuple[str, ...] = ()
    long: bool = False


@dataclass(frozen=True)
class Cell:
    """What one cell shows; ``order`` is what it is sorted by."""

    value: str
    interval: str = ""
    best: bool = False
    order: float | str | None = None


@dataclass(frozen=True)
class Table:
    """A layout filled with values."""

    name: str
    layout: Layout
    frame: pd.DataFrame

    @property
    def columns(self) -> list[Column]:
        """The columns that are shown."""
        numbers = {column.name: self.frame[column.name].nunique() for column in self.layout.columns}
        return [c for c in self.layout.columns if numbers[c.name] >= max(c.optional, 2 * c.varying)]

    @property
    def upright(self) -> bool:
        """Whether each column is a line, its label and its value: one row of them would be wider than a page."""
        return len(self.frame) == 1 and len(self.columns) > MOST_OF_ONE_ROW and not self.layout.long

    def pairs(self) -> list[tuple[Column, Cell]]:
        """The columns of a table of one row, and what this shows."""
        return list(zip(self.columns, self.rows()[0], strict=True))

    def rows(self) -> list[list[Cell]]:
        """The cells that are shown, row by row."""
        contests = pd.Series(0, self.frame.index)
        if self.layout.contest:
            contests = self.frame.groupby(list(self.layout.contest), dropna=False).ngroup()
        best = {
            (contest, column.name): _best(competing[column.name], column)
            for contest, competing in self.frame.groupby(contests)
            for column in self.columns
        }
        values = [column.name for column in self.layout.columns[self.layout.keys :]]
        rows = []
        for contest, (_, row) in zip(contests, self.frame.iterrows(), strict=True):
            blank = MISSING if row[values].isna().all() else ""
            rows.append([_cell(row, column, best[contest, column.name], blank) for column in self.columns])
        return rows

    def group_starts(self) -> list[bool]:
        """For each row whether a new group begins with it; never for the first."""
        if self.layout.group is None or self.frame.empty:
            return [False] * len(self.frame)
        groups = self.frame[self.layout.group].tolist()
        return [False, *(now != before for before, now in pairwise(groups))]


def format_value(value: object, form: str) -> str:
    """A value as a table shows it."""
    if form == "text":
        return str(value)
    if form == "p":
        return "<0.001" if float(value) < 0.001 else f"{float(value):.3f}"
    if form == "any":
        form = ",.0f" if float(value) == round(float(value)) else ",.6g"
    if form.endswith("%"):
        shown = format(float(value) * 100, form[:-1] + "f")
    elif form.endswith("d"):
        shown = format(round(float(value)), form)
    else:
        shown = format(float(value), form)
    # What rounds to zero has no sign that means anything.
    return shown.replace("-", MINUS if any(digit in shown for digit in "123456789") else "")


def _best(values: pd.Series, column: Column) -> str | None:
    """The best value as it is shown, so that all which look the same are highlighted; None for no contest."""
    known = values.dropna()
    if column.best is None or len({format_value(value, column.form) for value in known}) < 2:
        return None
    return format_value(known.max() if column.best == "max" else known.min(), column.form)


def _cell(row: pd.Series, column: Column, best: str | None, blank: str) -> Cell:
    value = row[column.name]
    if pd.isna(value):
        return Cell(blank)
    shown = format_value(value, column.form)
    bounds = [row.get(f"{column.name}_{end}") for end in ("lower", "upper")] if column.interval else []
    known = bool(bounds) and not any(pd.isna(bound) for bound in bounds)
    interval = f"[{', '.join(format_value(bound, column.form) for bound in bounds)}]" if known else ""
    std = row.get(f"{column.name}_std") if column.spread else None
    whole = shown if pd.isna(std) else f"{shown} ± {format_value(std, column.form.removeprefix('+'))}"
    return Cell(whole, interval, shown == best, value if column.form == "text" else float(value))


def to_csv(table: Table) -> str:
    """The raw values, all columns, unrounded."""
    return table.frame.to_csv(index=False, lineterminator="\n")


def to_markdown(table: Table) -> str:
    """A pipe table; numbers to the right, the best in bold. Of one that stands upright the first line is the head."""
    if table.upright:
        lines = [
            [escape.markdown(column.label), _marked(cell, escape.markdown, "**{}**", " ")]
            for column, cell in table.pairs()
        ]
        return "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], ["---", "---"], *lines[1:]))
    head = [escape.markdown(column.label) for column in table.columns]
    rule = ["---" if column.form == "text" else "---:" for column in table.columns]
    rows = [[_marked(cell, escape.markdown, "**{}**", " ") for cell in row] for row in table.rows()]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rows))


def to_latex(table: Table) -> str:
    """In the style of booktabs: a tabular to be put into a table environment, or a whole longtable."""
    if table.upright:
        return _latex_upright(table)
    align = "".join(_latex_column(column) for column in table.columns)
    labels = [escape.latex(column.label) if column.wraps else _stacked(column.label) for column in table.columns]
    head = ["\\toprule", " & ".join(labels) + r" \\", "\\midrule"]
    environment, foot = ("longtable", []) if table.layout.long else ("tabular", ["\\bottomrule"])
    if table.layout.long:
        caption = f"\\caption{{{escape.latex(table.layout.caption)}}}\\label{{table:{table.name}}}\\\\"
        head = [caption, *head, "\\endfirsthead", *head, "\\endhead", "\\bottomrule", "\\endfoot"]
    lines = [f"\\begin{{{environment}}}{{@{{}}{align}@{{}}}}", *head]
    quotes = [_latex_words(column.wraps) if column.wraps else escape.latex for column in table.columns]
    rows = table.rows()
    stacked = _letters(rows) > WIDEST_ROW
    for row, starts in zip(rows, table.group_starts(), strict=True):
        cells = [_latex_cell(cell, quote, stacked) for cell, quote in zip(row, quotes, strict=True)]
        lines += ["\\addlinespace"] * starts + [" & ".join(cells) + r" \\"]
    return "\n".join([*lines, *foot, f"\\end{{{environment}}}", ""])


def _latex_upright(table: Table) -> str:
    """A line for each column, the first as the head."""
    lines, wraps = [], any(column.wraps for column in table.columns)
    for column, cell in table.pairs():
        quote = _latex_words(UPRIGHT_SHARE) if wraps else escape.latex
        lines.append(rf"{escape.latex(column.label)} & {_latex_cell(cell, quote, stacked=False)} \\")
    value = _latex_column(Column("value", "Value", wraps=UPRIGHT_SHARE if wraps else None))
    head = [f"\\begin{{tabular}}{{@{{}}l{value}@{{}}}}", "\\toprule", lines[0], "\\midrule"]
    return "\n".join([*head, *lines[1:], "\\bottomrule", "\\end{tabular}", ""])


def _letters(rows: list[list[Cell]]) -> int:
    """How many letters the widest cells of all columns have together."""
    return sum(max(len(cell.value) + len(cell.interval) for cell in column) for column in zip(*rows, strict=True))


def _latex_cell(cell: Cell, quote: Callable[[str], str], stacked: bool) -> str:
    if not stacked or not cell.interval:
        return _marked(cell, quote, r"\textbf{{{}}}", r" {\scriptsize ", "}")
    shown = _marked(cell, quote, r"\textbf{{{}}}", r"\\{\scriptsize ", "}")
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{shown}\end{{tabular}}"


def _latex_words(share: float) -> Callable[[str], str]:
    """How text is quoted in a column that takes this share of a line."""
    longest = round(share * LETTERS_OF_A_LINE)
    return lambda text: escape.breakable(text, escape.latex, r"\allowbreak{}", longest)


def _latex_column(column: Column) -> str:
    if column.wraps:
        return f">{{\\raggedright\\arraybackslash}}p{{{column.wraps:g}\\linewidth}}"
    return "l" if column.form == "text" else "r"


def _stacked(label: str, width: int = 9) -> str:
    """A heading of several words on lines of its own, so that it is hardly wider than its numbers."""
    lines = textwrap.wrap(label, width, break_long_words=False, break_on_hyphens=False)
    stacked = r"\\".join(escape.latex(line) for line in lines)
    return stacked if len(lines) < 2 else f"\\shortstack[b]{{{stacked}}}"


def _marked(cell: Cell, quote: Callable[[str], str], bold: str, before: str, after: str = "") -> str:
    value = bold.format(quote(cell.value)) if cell.best else quote(cell.value)
    return f"{value}{before}{quote(cell.interval)}{after}" if cell.interval else value


def to_html(table: Table, caption: str) -> str:
    """A semantic table in a container that scrolls; ``caption`` is HTML."""
    if table.upright:
        lines = "\n".join(
            f'<tr><th scope="row">{escape.html(column.label)}</th>{_html_cell(cell, replace(column, form="text"))}</tr>'
            for column, cell in table.pairs()
        )
        return _html_table(table, caption, "upright", f"<tbody>\n{lines}\n</tbody>")
    head = "".join(
        f'<th scope="col"{_class(column)}{_width(column)} aria-sort="none">'
        f'<button type="button">{escape.html(column.label)}</button></th>'
        for column in table.columns
    )
    body, rows = [], table.rows()
    stacked = "stacked" if _letters(rows) > WIDEST_ROW else ""
    for row, starts in zip(rows, table.group_starts(), strict=True):
        shown = [_html_cell(cell, column) for cell, column in zip(row, table.columns, strict=True)]
        heading = shown[0].replace("<td", '<th scope="row"', 1).replace("</td>", "</th>")
        opening = '<tr class="group">' if starts else "<tr>"
        body.append(f"{opening}{heading}{''.join(shown[1:])}</tr>")
    lines = "\n".join(body)
    return _html_table(table, caption, stacked, f"<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{lines}\n</tbody>")


def _html_table(table: Table, caption: str, style: str, content: str) -> str:
    style = f' class="{style}"' if style else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="caption-{table.name}">\n'
        f'<table id="table-{table.name}"{style}>\n'
        f'<caption id="caption-{table.name}"><span>{caption}</span></caption>\n'
        f"{content}\n</table>\n</div>"
    )


def _width(column: Column) -> str:
    """On a narrow screen, where the table scrolls, sentences take more lines than on a page, but not one a word."""
    return f' style="min-width:{45 * column.wraps:.1f}rem"' if column.wraps else ""


def _class(column: Column, *more: str) -> str:
    names = [*["number"] * (column.form != "text"), *["wraps"] * bool(column.wraps), *more]
    return f' class="{" ".join(names)}"' if names else ""


def _html_cell(cell: Cell, column: Column) -> str:
    value = escape.breakable(cell.value, escape.html, "<wbr>") if column.wraps else escape.html(cell.value)
    value = f"<strong>{value}</strong>" if cell.best else value
    interval = f" <small>{escape.html(cell.interval)}</small>" if cell.interval else ""
    order = f' data-order="{escape.html(cell.order)}"' if cell.order is not None else ""
    return f"<td{_class(column, *(['best'] if cell.best else []))}{order}>{value}{interval}</td>"


def save(table: Table, folder: Path, missing: list[Missing]) -> None:
    """Write <name>.csv, .md and .tex."""
    write_text(folder / f"{table.name}.csv", to_csv(table))
    notes = "".join(f"\nmissing: {escape.markdown(m.what)}; make it with `{m.command}`\n" for m in missing)
    text = f"{escape.markdown(table.layout.caption)}\n\n{to_markdown(table)}{notes}"
    write_text(folder / f"{table.name}.md", text)
    write_text(folder / f"{table.name}.tex", f"% {table.layout.caption}\n{to_latex(table)}")


def load(name: str, layout: Layout, folder: Path) -> Table | None:
    """The table that `save` wrote; None when its CSV file is not there.

    Raises:
        FrugalError: the file is not the table that the layout describes.
    """
    path = folder / f"{name}.csv"
    if not path.exists():
        return None
    try:
        names = [column.name for column in layout.columns if column.form == "text"]
        text = dict.fromkeys([*names, "run", "role"], str)
        frame = pd.read_csv(io.StringIO(path.read_text(encoding="utf-8")), dtype=text)
    except (OSError, ValueError) as error:
        raise FrugalError(f"{path}: cannot be read ({first_line(error)}); run `snakemake tables`") from None
    absent = [column.name for column in layout.columns if column.name not in frame]
    if absent:
        raise FrugalError(f"{path}: has no column {', '.join(absent)}; run `snakemake tables`")
    return Table(name, layout, frame)
