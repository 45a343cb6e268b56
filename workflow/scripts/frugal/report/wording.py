"""Numbers in sentences: rows of tables found again, and statistics in words that follow from them."""

import pandas as pd

from frugal.report.tables import Table, format_value
from frugal.stats import verdict

#: The part of a table's name that follows its experiment's -> the table; None where its file is not there.
Tables = dict[str, Table | None]


def rows_of(tables: Tables, name: str) -> pd.DataFrame:
    """The table's rows; none when it is missing."""
    table = tables.get(name)
    return table.frame if table is not None else pd.DataFrame()


def row_of(frame: pd.DataFrame, **wanted: str) -> pd.Series | None:
    """The first row with these values; None where there is none."""
    for name, value in wanted.items():
        if name not in frame:
            return None
        frame = frame[frame[name] == value]
    return None if frame.empty else frame.iloc[0]


def best_baseline(rows: pd.DataFrame, metric: str) -> pd.Series | None:
    """Of the baselines without a Transformer the one that does best; None where no one's metric is known."""
    if rows.empty:
        return None
    baselines = rows[(rows["role"] == "baseline") & rows[metric].notna()]
    return None if baselines.empty else baselines.loc[baselines[metric].astype(float).idxmax()]


def known(row: pd.Series | None, *names: str) -> bool:
    """Whether there is a row, and it has all these values."""
    return row is not None and all(name in row and pd.notna(row[name]) for name in names)


def interval(row: pd.Series, name: str, form: str = ".3f") -> str:
    """``0.612 (95 % interval 0.570 to 0.655)``; the value alone where there is no interval."""
    value = format_value(row[name], form)
    if not known(row, f"{name}_lower", f"{name}_upper"):
        return value
    lower, upper = (format_value(row[f"{name}_{end}"], form) for end in ("lower", "upper"))
    return f"{value} (95 % interval {lower} to {upper})"


def difference(row: pd.Series, form: str = "+.3f") -> str:
    """``better (difference +0.120, 95 % interval +0.030 to +0.210, p = 0.012 after Holm)``."""
    lower, upper = row["difference_lower"], row["difference_upper"]
    found = verdict(row["difference"], lower, upper, row["p_holm"])
    shown = [format_value(value, form) for value in (row["difference"], lower, upper)]
    bounds = f"{shown[0]}, 95 % interval {shown[1]} to {shown[2]}"
    return f"{found} (difference {bounds}, {_p(row['p_holm'])} after Holm)"


def compared_with(found: str, other: str) -> str:
    """A verdict as the predicate of a sentence, such as ``is better than EASE``."""
    words = {"better": "is better than", "worse": "is worse than"}
    return f"{words.get(found, 'does not differ significantly from')} {other}"


def duration(minutes: float) -> str:
    """``5.2 minutes``; seconds where it is less than one, and hours where it is two hours or more."""
    if minutes < 1:
        return f"{60 * minutes:.0f} seconds"
    return f"{minutes:.1f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def beginning(text: str, letters: int) -> str:
    """The first letters of a text, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= letters else f"{text[:letters].rstrip()} …"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def count(number: int, noun: str) -> str:
    """``3 questions``, ``1 question``."""
    return f"{number:,d} {noun}{'' if number == 1 else 's'}"


def resolution(row: pd.Series | None, against: str, form: str) -> list[str]:
    """How small a difference the test could not have detected."""
    if not known(row, "difference_lower", "difference_upper"):
        return []
    half = (row["difference_upper"] - row["difference_lower"]) / 2
    if not half:
        return []
    return [
        f"The interval of the difference from {against} reaches {format_value(half, form)} to either side: with this "
        "number of cases, smaller differences cannot be detected."
    ]
