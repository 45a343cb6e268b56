"""Blind rating sheets: only the key says which model gave which answer."""

import csv
import hashlib
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from frugal.errors import FrugalError, first_line
from frugal.files import read_json
from frugal.stats import krippendorff_alpha

#: Each is rated from 1 to 5; the question explains it on the sheet.
CRITERIA = {
    "fluency": "Is it good, readable English?",
    "relevance": "Does it go on from the prompt, and stay with its subject?",
    "correctness": "Is what it says true, as far as you can tell?",
}
SCALE = range(1, 6)
COLUMNS = ["item", "prompt", "answer", *CRITERIA, "comment"]
RUNS = ("base", "tuned")
SUM = "overall"


def make_items(answers: dict[str, list[dict[str, Any]]], seed: int) -> list[dict[str, Any]]:
    """The sheet's items: the two answers to each prompt, in random order.

    Args:
        answers: for each of `RUNS` its rows with prompt and answer, the same prompts in the same order.

    Returns:
        Rows with item, prompt, answer, number (of the prompt, from 1) and run. An item's name depends on its texts, so
        that ratings of earlier answers cannot be taken for ratings of these.

    Raises:
        FrugalError: there are no answers, or the two runs did not answer the same prompts.
    """
    base, tuned = ([row["prompt"] for row in answers[run]] for run in RUNS)
    if base != tuned:
        raise FrugalError("the base and the tuned model have answered different prompts; evaluate both again")
    if not base:
        raise FrugalError("prompts.texts is empty, so there is nothing to rate; add prompts")
    draw = random.Random(seed)
    items = []
    for number, prompt in enumerate(base, start=1):
        for run in draw.sample(RUNS, k=len(RUNS)):
            answer = answers[run][number - 1]["answer"]
            name = hashlib.sha256(json.dumps([seed, number, run, prompt, answer]).encode()).hexdigest()[:8]
            items.append({"item": name, "prompt": prompt, "answer": answer, "number": number, "run": run})
    return items


def sheet_csv(items: Sequence[dict[str, Any]]) -> str:
    """The sheet as CSV to fill in, with a byte-order mark so that spreadsheets read it as UTF-8."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="")
    writer.writeheader()
    for item in items:
        writer.writerow({"item": item["item"]} | {key: printable(item[key]) for key in ("prompt", "answer")})
    return "\ufeff" + stream.getvalue()


def sheet_html(items: Sequence[dict[str, Any]], title: str) -> str:
    """The sheet as one HTML page that works offline and exports the filled CSV."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["printable"] = printable
    return environment.get_template("sheet.html.j2").render(
        title=title,
        items=items,
        criteria=CRITERIA,
        scale=SCALE,
        columns=COLUMNS,
        # Identifies this sheet in the browser's storage.
        sheet=hashlib.sha256("".join(item["item"] for item in items).encode()).hexdigest()[:16],
    )


def printable(text: str) -> str:
    """``text`` with control characters, which HTML and spreadsheets do not allow, replaced by U+FFFD."""
    return "".join(c if (c >= " " and c != "\x7f") or c in "\n\t" else "\ufffd" for c in text)


def sheet_key(items: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """item -> its run and the number of its prompt."""
    return {item["item"]: {"run": item["run"], "prompt": item["number"]} for item in items}


def read_key(path: Path | str) -> dict[str, dict[str, Any]]:
    """Read a key that `sheet_key` made.

    Raises:
        FrugalError: the file cannot be read, or is not such a key.
    """
    try:
        key = read_json(path)
        stated = sorted((entry["run"], entry["prompt"]) for entry in key.values())
        numbers = {number for _, number in stated}
        if not stated or stated != sorted((run, number) for run in RUNS for number in numbers):
            raise ValueError("names other runs, or not both for every prompt")
    except (AttributeError, KeyError, TypeError):
        raise FrugalError(f"{path}: is no key of a sheet; write the sheet again") from None
    except (OSError, ValueError) as error:
        raise FrugalError(f"{path}: cannot be read: {first_line(error)}; write the sheet again") from None
    return key


def read_sheet(path: Path | str, key: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """A filled sheet: one row an item, in the order of the key, with its criteria as integers.

    The columns may be separated by commas or, as some spreadsheets write them, by semicolons.

    Raises:
        FrugalError: the file cannot be read, an item is missing, unknown or there twice, or a value is empty or
            not one of 1 to 5.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FrugalError(f"{path}: cannot be read: {first_line(error)}; save the sheet as CSV in UTF-8") from None
    header = text.split("\n", 1)[0]
    separator = ";" if header.count(";") > header.count(",") else ","
    rows: dict[str, dict[str, Any]] = {}
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for column in ("item", *CRITERIA):
            if column not in (reader.fieldnames or []):
                raise FrugalError(f"{path}: has no column '{column}'; begin with the sheet.csv of this experiment")
        for row in reader:
            item = (row["item"] or "").strip()
            if not any(isinstance(value, str) and value.strip() for value in row.values()):
                continue  # spreadsheets leave empty lines behind
            where = f"{path}, line {reader.line_num}, item '{item}'"
            if item not in key:
                raise FrugalError(f"{where}: is not on this sheet; answers made since then have a new sheet")
            if item in rows:
                raise FrugalError(f"{where}: is there twice; remove one of the two")
            rows[item] = {criterion: _value(row[criterion], criterion, where) for criterion in CRITERIA}
    except csv.Error as error:
        raise FrugalError(f"{path}, line {reader.line_num}: is not CSV: {error}; save the sheet as CSV again") from None
    if missing := [item for item in key if item not in rows]:
        raise FrugalError(f"{path}: item '{missing[0]}' is missing ({len(missing)} in all); rate every item")
    return pd.DataFrame([{"item": item, **key[item], **rows[item]} for item in key])


def _value(text: str | None, criterion: str, where: str) -> int:
    text = (text or "").strip()
    if text not in map(str, SCALE):
        raise FrugalError(f"{where}: {criterion} is {repr(text) if text else 'empty'}; write 1, 2, 3, 4 or 5")
    return int(text)


def summarise_ratings(paths: Sequence[Path | str], key_path: Path | str) -> dict[str, Any]:
    """Means, win rates and agreement of filled sheets, one for each rater.

    Returns:
        raters and items: their numbers.
        means: run -> criterion, and `overall` (the mean of the three) -> mean over raters and prompts; n likewise.
        win_rate: criterion -> share of (rater, prompt) whose tuned answer was rated higher, ties one half;
            `overall` compares the sums of the three.
        alpha: criterion -> Krippendorff's alpha over items, for an ordinal scale; null where undefined.
        note: why a value is null, or null.

    Raises:
        FrugalError: no sheet, the same sheet twice, the key cannot be read, or see `read_sheet`.
    """
    if not paths:
        raise FrugalError("rating.sheets: no filled sheet is named")
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise FrugalError("rating.sheets: the same file is named twice; each rater needs a separate file")
    key = read_key(key_path)
    sheets = [read_sheet(path, key) for path in paths]
    ratings = pd.concat(sheets, keys=range(len(sheets)), names=["rater"]).reset_index("rater")
    ratings[SUM] = ratings[list(CRITERIA)].mean(axis=1)
    names = [*CRITERIA, SUM]
    means = ratings.groupby("run")[names].mean().round(4)
    counts = ratings.groupby("run")[names].count()
    pairs = ratings.pivot(index=["rater", "prompt"], columns="run", values=names)
    alpha = {c: krippendorff_alpha(np.array([sheet[c] for sheet in sheets], dtype=float)) for c in CRITERIA}
    return {
        "raters": len(sheets),
        "items": len(key),
        "means": means.to_dict("index"),
        "n": counts.to_dict("index"),
        "win_rate": {name: round(_win_rate(pairs[name]), 4) for name in names},
        "alpha": {criterion: None if value is None else round(value, 4) for criterion, value in alpha.items()},
        "alpha_level": "ordinal",
        "note": _note(len(sheets), [criterion for criterion, value in alpha.items() if value is None]),
    }


def _win_rate(pairs: pd.DataFrame) -> float:
    # Means of three integers: equal sums may differ by rounding.
    difference = np.round((pairs["tuned"] - pairs["base"]).to_numpy(dtype=float), 6)
    return float((np.sign(difference).mean() + 1) / 2)


def _note(raters: int, undefined: list[str]) -> str | None:
    if raters == 1:
        return "One rater only: agreement needs two."
    if undefined:
        return f"All ratings of {', '.join(undefined)} are the same: agreement beyond chance is not defined."
    return None
