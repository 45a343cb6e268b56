"""Who has had what, in which order: the one form of data that every recommender here reads."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from frugal.errors import FrugalError

#: Shorter histories cannot give a training item, a validation target and a test target.
MIN_LENGTH = 3


@dataclass(frozen=True)
class Histories:
    """The items of every user, each user's in the order of time; a user may have none.

    Attributes:
        items: int32, (interactions,): item ids from 0, user after user.
        offsets: int64, (users + 1,): user u has ``items[offsets[u]:offsets[u + 1]]``.
    """

    items: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        """The number of users."""
        return len(self.offsets) - 1

    def __getitem__(self, user: int) -> np.ndarray:
        """One user's items, a view."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64, (users,): how many items each user has."""
        return np.diff(self.offsets)

    @property
    def users(self) -> np.ndarray:
        """int64, (interactions,): the user of each of ``items``."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @classmethod
    def from_pairs(cls, users: np.ndarray, items: np.ndarray, user_count: int) -> "Histories":
        """From (interactions,) users and items; a user's items keep the order in which they stand."""
        order = np.argsort(users, kind="stable")
        offsets = np.concatenate(([0], np.cumsum(np.bincount(users, minlength=user_count))))
        return cls(np.asarray(items, np.int32)[order], offsets.astype(np.int64))

    def select(self, keep: np.ndarray) -> "Histories":
        """The interactions where ``keep``, bool (interactions,), is true; users stay, even without items."""
        return Histories.from_pairs(self.users[keep], self.items[keep], len(self))

    def followed_by(self, other: "Histories") -> "Histories":
        """Each user's items, and then the same user's items in ``other``."""
        users = np.concatenate((self.users, other.users))
        return Histories.from_pairs(users, np.concatenate((self.items, other.items)), len(self))


@dataclass(frozen=True)
class Split:
    """Interactions in three parts; all parts have the same users, and the same catalogue.

    Attributes:
        train: what models learn from.
        validation: what is to be predicted after ``train``; chooses when training stops.
        test: what is to be predicted after ``train`` and ``validation``; measured once.
        item_count: size of the catalogue; ids run from 0 to item_count - 1, with gaps or without.
        ordered: False where the source has no order in time (the shards of MLPerf): positions mean nothing.
    """

    train: Histories
    validation: Histories
    test: Histories
    item_count: int
    ordered: bool = True

    @property
    def user_count(self) -> int:
        return len(self.train)

    def context(self, part: Literal["validation", "test"]) -> Histories:
        """What is known of each user when ``part`` is to be predicted."""
        return self.train if part == "validation" else self.train.followed_by(self.validation)

    def cases(self, part: Literal["validation", "test"]) -> np.ndarray:
        """int64, (n,): the users that have something to be predicted, and a history to predict it from."""
        targets = self.validation if part == "validation" else self.test
        return np.flatnonzero((targets.lengths > 0) & (self.context(part).lengths > 0))


def in_time_order(users: np.ndarray, items: np.ndarray, timestamps: np.ndarray, user_count: int) -> Histories:
    """Histories from the rows of a file; where a user's times are equal, the order of the file decides."""
    order = np.argsort(timestamps, kind="stable")
    return Histories.from_pairs(users[order], items[order], user_count)


def leave_one_out(histories: Histories, item_count: int) -> Split:
    """Each user's last item is the test target, the one before it the validation target.

    Users with fewer than three items train only: nothing of theirs is predicted. A target that the user has
    had before stays a target; evaluation leaves out only the other items of the history.
    """
    lengths = histories.lengths
    position = np.arange(len(histories.items)) - np.repeat(histories.offsets[:-1], lengths)
    from_end = np.repeat(np.where(lengths >= MIN_LENGTH, lengths, np.iinfo(np.int64).max), lengths) - position
    return _split(histories, from_end == 2, from_end == 1, item_count)


def global_time(
    histories: Histories, timestamps: np.ndarray, item_count: int, validation_share: float, test_share: float
) -> Split:
    """Two moments, the same for all users, cut the interactions: no model sees the future of anyone.

    A user's items between the moments are validation targets, those after the second are test targets,
    as far as the user had not had them before (a repeated item is left out of its part). Users without
    anything before a moment are not scored there.

    Args:
        timestamps: int64, (interactions,), of ``histories.items``.
        validation_share, test_share: shares of the interactions; equal times stay on one side.

    Raises:
        FrugalError: so many times are equal that a part would be empty.
    """
    ordered = np.sort(timestamps)
    cuts = [ordered[int(len(ordered) * share)] for share in (1 - validation_share - test_share, 1 - test_share)]
    validation = (timestamps >= cuts[0]) & (timestamps < cuts[1])
    test = timestamps >= cuts[1]
    for name, part in (("training", ~validation & ~test), ("validation", validation), ("test", test)):
        if not part.any():
            raise FrugalError(f"a split at the times {cuts[0]} and {cuts[1]} leaves no {name} interactions")
    # A target that is in the history already would be filtered out of every ranking.
    pair = histories.users * item_count + histories.items
    first = np.zeros(len(pair), dtype=bool)
    first[np.unique(pair, return_index=True)[1]] = True
    train = histories.select(~validation & ~test)
    return Split(train, histories.select(validation & first), histories.select(test & first), item_count)


def _split(histories: Histories, validation: np.ndarray, test: np.ndarray, item_count: int) -> Split:
    parts = (histories.select(keep) for keep in (~validation & ~test, validation, test))
    return Split(*parts, item_count=item_count)
