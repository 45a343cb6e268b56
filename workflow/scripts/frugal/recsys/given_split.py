"""A split that the data set's own files bring; what becomes of each of its targets."""

import numpy as np

from frugal.errors import FrugalError
from frugal.recsys.histories import Histories, Part, Split, tie_shares

VALIDATION, TEST = 1, 2


def given_split(
    histories: Histories, parts: np.ndarray, item_count: int, timestamps: np.ndarray | None, hold_out: bool = False
) -> Split:
    """The parts to which the interactions are said to belong.

    Args:
        parts: (interactions,), of ``histories.items``: 0 training, 1 validation, 2 test.
        timestamps: int64, (interactions,), for the shares of ties alone.
        hold_out: no file is for validation: the last training item of each user with two or more is its target.

    Raises:
        FrugalError: a part is empty.
    """
    validation, test = parts == VALIDATION, parts == TEST
    if hold_out and (parts == 0).any():
        validation = _last_of_training(histories, parts)
    for name, part in (("training", ~validation & ~test), ("validation", validation), ("test", test)):
        if not part.any():
            raise FrugalError(
                f"data.split 'files' leaves no {name} interactions; lower data.min_rating, or give more data"
            )
    train, held, tested = (histories.select(keep) for keep in (~validation & ~test, validation, test))
    ties = None if timestamps is None else tie_shares(histories, timestamps, validation, test, "all")
    return Split(train, held, tested, item_count=item_count, ties=ties)


def _last_of_training(histories: Histories, parts: np.ndarray) -> np.ndarray:
    """bool, (interactions,): the last one for training of each user with two or more."""
    rows = np.flatnonzero(parts == 0)
    users = histories.users[rows]
    same = users[1:] == users[:-1]
    found = np.zeros(len(parts), bool)
    found[rows[np.append(~same, True) & np.insert(same, 0, False)]] = True
    return found


def account(split: Split) -> dict[str, dict[str, int]]:
    """What becomes of the interactions to be predicted, for summary.json of the shards: the others add up to ``rows``.

    Returns:
        For validation and evaluation, rows: their interactions. without_history: of users without an earlier one, who
        are not scored. again: with an item that the user has in the part already. targets: the rest.
    """

    def of(part: Part, rows: Histories) -> dict[str, int]:
        known = split.context(part).lengths[rows.users] > 0
        targets = split.target_counts(part)["targets"]
        return {
            "rows": len(rows.items),
            "without_history": int((~known).sum()),
            "again": int(known.sum()) - targets,
            "targets": targets,
        }

    return {"validation": of("validation", split.validation), "evaluation": of("test", split.test)}
