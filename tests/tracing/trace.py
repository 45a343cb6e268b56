"""Every number of every table of a rendered report, traced back."""

import re
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

from frugal.report import claims
from frugal.report.results import Results
from frugal.report.study.tables import layouts

from . import language_modeling, recommendation, whole
from .sources import EXEMPT, KEYS, PREFERENCE, Cell, Source
from .statistics import close
from .study import Study

KINDS = {
    "preference": PREFERENCE,
    "recommendation": recommendation.TABLES,
    "language_modeling": language_modeling.TABLES,
}
NUMBER = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?")


def cells(report: Path, study: Study, tables: str = "*") -> Iterator[tuple[str, Cell, Source]]:
    """Each cell of these tables' CSV files that is not exempt, with its source.

    Raises:
        AssertionError: a table or a column has no source.
    """
    for path in sorted((report / "tables").glob(f"{tables}.csv")):
        frame = read(path)
        experiment, sources = sources_of(path.stem, study)
        part = path.stem.removeprefix(f"{experiment}_")
        frame.attrs["study"] = study
        for column in frame.columns:
            if (column in KEYS and column not in sources) or column in EXEMPT.get(part, {}):
                continue
            source = sources.get(column, sources.get("*"))
            assert source, f"{path.name}: the column {column} has no source"
            for _, row in frame.iterrows():
                place = f"{path.name}, {row.iloc[0]}, {column}"
                yield place, Cell(*_owner(study, experiment, row), column, row, frame), source


def sources_of(table: str, study: Study) -> tuple[str | None, dict[str, Source]]:
    """The experiment that a table is about, and its columns' sources; the experiment is None where rows name it."""
    whole_study = {"efficiency": whole.EFFICIENCY, "machines": {"*": whole.machine}, "claims": whole.CLAIM}
    whole_study |= {"claims_settings": whole.CLAIM}
    whole_study["claims_verdicts"] = {"*": whole.verdicts}
    if table in whole_study:
        return None, whole_study[table]
    for experiment, entry in study.described["experiments"].items():
        if table == f"across_{experiment}":
            return experiment, whole.ACROSS
        if table.removeprefix(f"{experiment}_") in entry["tables"]:
            return experiment, KINDS[entry["kind"]][table.removeprefix(f"{experiment}_")]
    raise AssertionError(f"the table {table} has no sources")


def _owner(study: Study, experiment: str | None, row: pd.Series) -> tuple[Study, str]:
    """The study and experiment whose files a row shows."""
    return study.others.get(row.get("study"), study), experiment or study.titles.get(row.get("experiment"), "")


def headings(results: Results) -> dict[str, dict[str, str]]:
    """Table -> heading -> column of its CSV file."""
    known = claims.LAYOUTS | layouts(results)
    for name, experiment in results.experiments.items():
        known |= {f"{name}_{part}": experiment.section.LAYOUTS[part] for part in experiment.tables}
    return {name: {column.label: column.name for column in layout.columns} for name, layout in known.items()}


def faults(report: Path, study: Study, tables: str = "*") -> tuple[list[str], int]:
    """The cells that differ from their sources, in words, and how many were compared."""
    found, number = [], 0
    for place, cell, source in cells(report, study, tables):
        number += 1
        expected = source(cell)
        if not agrees(cell.shown, expected):
            found.append(f"{place}: {cell.shown} is not {expected}")
    return found, number


def agrees(shown: object, expected: object) -> bool:
    if isinstance(expected, bool):
        return expected
    if isinstance(expected, str):
        return shown == expected
    return close(shown, expected)


def read(path: Path) -> pd.DataFrame:
    """A table's CSV file; text stays text, also where it looks like a number."""
    text = dict.fromkeys(("commit", "config", "inputs", "seed_list", "split", "prompt", "base_text", "tuned_text"))
    return pd.read_csv(path, dtype=dict.fromkeys(text, str), lineterminator="\n")


# What people read: the same numbers, rounded, in each format.


def markdown_rows(path: Path) -> list[list[str]]:
    """The cells of a table in Markdown, heading first, as text."""
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.startswith("| ")]
    split = [re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |") + " ") for line in lines]
    rows = [[re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell.strip().replace("**", "")) for cell in row] for row in split]
    return [rows[0], *rows[2:]]


class Tables(HTMLParser):
    """The tables of a page: name -> rows of cells as text."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.rows: list[list[str]] | None = None
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.rows = self.tables.setdefault(dict(attributes)["id"].removeprefix("table-"), [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def latex_numbers(path: Path) -> list[list[str]]:
    """The numbers of each row of a table in LaTeX."""
    text = path.read_text(encoding="utf-8")
    body = text.split("\\endhead")[-1] if "longtable" in text else text.split("\\midrule", 1)[1]
    body = re.sub(r"\\allowbreak\{\}|\\begin\{tabular\}\[t\]\{[^}]*\{\}[^}]*\{\}\}|\\end\{tabular\}", "", body)
    body = body.replace("-{}", "-")
    lines = [line for line in body.split("\n") if line.endswith(r" \\")]
    return [NUMBER.findall(re.sub(r"\\\\\{\\scriptsize", " ", line)) for line in lines]


def shown_faults(report: Path, labels: dict[str, dict[str, str]]) -> tuple[list[str], int]:
    """Where a shown number is not the CSV file's, rounded as it is shown, or where two formats differ.

    Args:
        labels: table -> heading -> column of the CSV file.
    """
    found, number = [], 0
    page = Tables((report / "report.html").read_text(encoding="utf-8")).tables
    document = (report / "report.md").read_text(encoding="utf-8")
    for path in sorted((report / "tables").glob("*.md")):
        name, frame = path.stem, read(path.with_suffix(".csv"))
        head, *rows = lines_of = markdown_rows(path)
        if name in page and [[cell.strip() for cell in row] for row in page[name]] != [head, *rows]:
            found.append(f"{name}: HTML and Markdown differ")
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.startswith("| ")]
        if name in page and "\n".join(lines) not in document:
            found.append(f"{name}: report.md has another table")
        if latex_numbers(path.with_suffix(".tex")) != [NUMBER.findall(" ".join(row)) for row in rows]:
            found.append(f"{name}: LaTeX and Markdown differ")
        if len(frame) == 1 and {line[0] for line in lines_of} <= labels[name].keys():
            # It stands upright: each line is a heading and its value.
            head, *rows = zip(*lines_of, strict=True)
        for (_, row), shown in zip(frame.iterrows(), rows, strict=True):
            for heading, text in zip(head, shown, strict=True):
                number += 1
                if not rounds_to(text, heading, labels[name][heading], row):
                    found.append(f"{name}, {shown[0]}, {heading}: {text} is not {row[labels[name][heading]]}")
    return found, number


def rounds_to(text: str, heading: str, column: str, row: pd.Series) -> bool:
    """Whether a shown cell is the row's value, rounded as it is shown; its spread and interval as well."""
    value = row[column]
    if pd.isna(value):
        return text in ("", "\u2014")
    if isinstance(value, str):
        return _printable(text) == _printable(value)
    scale = 100 if heading.endswith("%") else 1
    whole_cell = re.fullmatch(r"(\S+)(?: ± (\S+))?(?: \[(\S+), (\S+)\])?", text)
    if not whole_cell:
        return False
    parts = zip(whole_cell.groups(), (column, f"{column}_std", f"{column}_lower", f"{column}_upper"), strict=True)
    return all(part is None or _is_rounded(part, row[name] * scale) for part, name in parts)


def _printable(text: str) -> str:
    """Text without white space, and without what is shown as a mark because it cannot be printed."""
    kept = (letter for letter in text if letter != "\ufffd" and unicodedata.category(letter)[0] != "C")
    return "".join("".join(kept).split())


def _is_rounded(text: str, value: float) -> bool:
    plain = text.replace(",", "").replace("\u2212", "-")
    if plain.startswith("<"):
        return value < float(plain[1:])
    digits, _, exponent = plain.partition("e")
    decimals = len(digits.partition(".")[2]) - int(exponent or 0)
    # Six significant digits may end before the decimal point.
    unit = 10.0**-decimals if decimals > 0 or abs(value) < 1e6 else 10.0 ** (len(str(int(abs(value)))) - 6)
    return abs(float(plain) - value) <= 0.5 * unit + 1e-9 * max(1, abs(value))
