"""Event types, such as click and purchase: rows of the wanted types are read, rows of every type are counted."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from frugal.config.errors import nearest
from frugal.data.interactions.nulls import BadRow, is_null
from frugal.data.interactions.rows import WHOLE_FLOAT
from frugal.errors import FrugalError

#: Types that summary.json and messages list, the most frequent ones.
LISTED = 20


def parse_event(text: str) -> str:
    """An event type without surrounding blanks; ``1.0`` is 1.

    Raises:
        BadRow: it stands for a missing value.
    """
    value = text.strip()
    if is_null(value):
        raise BadRow("event type is missing")
    whole = WHOLE_FLOAT.fullmatch(value)
    return whole[1] if whole else value


def is_wanted(text: str, wanted: Collection[str], counts: Counter[str]) -> bool:
    """Whether a row's event type is one of ``wanted``; the row is counted in ``counts``.

    Raises:
        BadRow: it has none.
    """
    event = parse_event(text)
    counts[event] += 1
    return event in wanted


def select(codes: np.ndarray, values: list[str], wanted: Collection[str]) -> tuple[np.ndarray, Counter[str]] | None:
    """As `is_wanted`, of all rows at once; None where one has no event type.

    Args:
        codes: (rows,), into ``values``.

    Returns:
        bool, (rows,), and the number of rows of each type.
    """
    try:
        events = [parse_event(value) for value in values]
    except BadRow:
        return None
    counts: Counter[str] = Counter()
    for event, count in zip(events, np.bincount(codes, minlength=len(events)).tolist(), strict=True):
        counts[event] += count
    return np.array([event in wanted for event in events], bool)[codes], +counts


def used(codes: np.ndarray, values: list[str]) -> tuple[np.ndarray, list[str]]:
    """Codes and their values without those that no row has, as after rows were left out."""
    present, dense = np.unique(codes, return_inverse=True)
    return dense.astype(np.int32), [values[code] for code in present]


def describe(path: Path, wanted: Collection[str], counts: Counter[str]) -> dict[str, Any]:
    """What summary.json says of event types.

    Returns:
        kept: ``wanted``; left_out: the rows of other types; rows: of the most frequent types.

    Raises:
        FrugalError: no row has one of ``wanted``; it names those that there are.
    """
    listed = dict(sorted(counts.most_common(LISTED)))
    for event in wanted:
        if not counts[event]:
            near = nearest(event, list(listed), "the types are")
            raise FrugalError(f"{path}: no row has the event type '{event}'{near}; correct 'events' of this data set")
    left_out = sum(count for event, count in counts.items() if event not in wanted)
    return {"kept": list(wanted), "left_out": left_out, "rows": listed}
