"""What the numbers say, in sentences whose words follow from the statistics."""

import pandas as pd

from frugal.report.statistics import verdict
from frugal.report.tables import Table, format_value

Tables = dict[str, Table | None]


def findings(tables: Tables, principal: str | None) -> list[str]:
    """The experiment's results in short; a result that is missing is said to be missing."""
    return [
        *_training_helps(tables, principal),
        *_against_rules(tables),
        *_shortcut(tables),
        *_cost(tables, principal),
    ]


def _rows(tables: Tables, name: str) -> pd.DataFrame:
    table = tables.get(name)
    return table.frame if table is not None else pd.DataFrame()


def _row(frame: pd.DataFrame, **wanted: str) -> pd.Series | None:
    """The row with these values; None where it or its numbers are missing."""
    for name, value in wanted.items():
        if name not in frame:
            return None
        frame = frame[frame[name] == value]
    return None if frame.empty else frame.iloc[0]


def _known(row: pd.Series | None, *names: str) -> bool:
    return row is not None and all(name in row and pd.notna(row[name]) for name in names)


def interval(row: pd.Series, name: str, form: str = ".3f") -> str:
    """``0.612 (95 % interval 0.570 to 0.655)``; the value alone where there is no interval."""
    value = format_value(row[name], form)
    if not _known(row, f"{name}_lower", f"{name}_upper"):
        return value
    lower, upper = (format_value(row[f"{name}_{end}"], form) for end in ("lower", "upper"))
    return f"{value} (95 % interval {lower} to {upper})"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _training_helps(tables: Tables, principal: str | None) -> list[str]:
    accuracy = _rows(tables, "movie_preference_accuracy")
    trained, base = _row(accuracy, run=principal or "tuned"), _row(accuracy, run="base")
    if not _known(trained, "accuracy") or not _known(base, "accuracy"):
        return ["Whether training helps cannot be said: the trained or the untuned model's results are missing."]
    sentences = [
        f"The trained model ({trained['system']}) has an accuracy of {interval(trained, 'accuracy')}, "
        f"the untuned model of {interval(base, 'accuracy')}."
    ]
    tests = _rows(tables, "movie_preference_tests")
    told = []
    for kind in ("all", "easy", "hard"):
        row = _row(tests, run="base", kind=kind)
        if not _known(row, "difference", "p_holm"):
            return [*sentences, "The paired test of this difference is missing."]
        told.append(f"on {kind} pairs {_difference(row)}")
    return [*sentences, f"Against the untuned model: {'; '.join(told)}."]


def _difference(row: pd.Series) -> str:
    """``better (difference +0.120, 95 % interval +0.030 to +0.210, p = 0.012 after Holm)``."""
    lower, upper = row["difference_lower"], row["difference_upper"]
    found = verdict(row["difference"], lower, upper, row["p_holm"])
    shown = [format_value(value, "+.3f") for value in (row["difference"], lower, upper)]
    bounds = f"{shown[0]}, 95 % interval {shown[1]} to {shown[2]}"
    return f"{found} (difference {bounds}, {_p(row['p_holm'])} after Holm)"


def _against_rules(tables: Tables) -> list[str]:
    """On easy and hard pairs, the comparison with the rule that does best there."""
    accuracy, tests = (_rows(tables, f"movie_preference_{name}") for name in ("accuracy", "tests"))
    sentences = []
    for kind in ("easy", "hard"):
        name = f"accuracy_{kind}"
        rules = accuracy
        if not accuracy.empty:
            rules = accuracy[(accuracy["role"] == "rule") & accuracy[name].notna()]
        if rules.empty:
            sentences.append(f"Rules on {kind} pairs: missing.")
            continue
        best = rules.loc[rules[name].astype(float).idxmax()]
        text = f"The best rule on {kind} pairs is {best['system']} with {interval(best, name)}"
        row = _row(tests, run=best["run"], kind=kind)
        if _known(row, "difference", "p_holm"):
            text += f"; the trained model against it: {_difference(row)}"
        sentences.append(f"{text}.")
    return sentences


def _shortcut(tables: Tables) -> list[str]:
    row = _row(_rows(tables, "movie_preference_shortcut"), run="always_a")
    if row is None:
        return []
    if not _known(row, "accuracy", "accuracy_liked_first", "p_a"):
        return ["The shortcut of the always-A data: missing."]
    guessing = _known(row, "accuracy_lower") and row["accuracy_lower"] <= 0.5 <= row["accuracy_upper"]
    verdict_text = ", which cannot be told from guessing" if guessing else ""
    return [
        f"Trained on data whose right answer is always Option A, the model is right in "
        f"{100 * row['accuracy_liked_first']:.1f} % of the questions whose answer is A, the only ones that "
        f"such data can ask; asked in both orders its accuracy is {interval(row, 'accuracy')}{verdict_text}. "
        f"It answers A with a mean probability of {row['p_a']:.3f}."
    ]


def _cost(tables: Tables, principal: str | None) -> list[str]:
    row = _row(_rows(tables, "movie_preference_training"), run=principal or "tuned")
    if not _known(row, "minutes", "examples", "trainable_parameters", "trainable_share", "peak_rss_mb"):
        return ["What training costs: missing."]
    minutes = row["minutes"]
    time = f"{minutes:.1f} minutes" if minutes >= 1 else f"{60 * minutes:.0f} seconds"
    return [
        f"Training took {time} for {row['examples']:,.0f} examples and a peak of "
        f"{row['peak_rss_mb']:,.0f} MB of memory; it changed {row['trainable_parameters']:,.0f} weights, "
        f"{100 * row['trainable_share']:.2f} % of all."
    ]
